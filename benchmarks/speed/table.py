"""Tables of what the scripts of this folder measured: nothing in the README is typed.

    python -m benchmarks.speed.table

Writes ``benchmarks/results/speed/*.md`` from the JSON lines beside them, the newest measurement
of each kind, and puts them between the markers of ``benchmarks/speed/README.md``.
"""

import json
import statistics
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from benchmarks.report import filled
from benchmarks.shared import RESULTS
from benchmarks.speed.limits import RATIOS, percent
from geoenc._files import write_text

FOLDER = RESULTS / "speed"
README = Path(__file__).resolve().parent / "README.md"
EPOCH = 437_000

Record = dict[str, Any]


def newest(file: str, what: str, kind: Callable[[Record], Hashable]) -> list[Record]:
    """The last record of each kind, in the order of kinds."""
    path = FOLDER / file
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [r for r in map(json.loads, lines) if r["what"] == what]
    kinds = {kind(record): record for record in records}
    return [kinds[key] for key in sorted(kinds)]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def where(record: Record) -> str:
    """Machine and libraries in one line."""
    gpu = f", {record['gpu']}" if record.get("gpu") else ""
    return (
        f"{record['processor']}, {record['cores']} cores{gpu}; torch {record['torch']}, "
        f"{record['capability']}, float32 products by {record['gemm_library'].upper()}."
    )


def csp_epoch() -> str:
    """Speed, share of the limit and memory of both ways."""
    text = ""
    records = newest(
        "csp_epoch.jsonl",
        "csp_epoch",
        lambda r: (r["batch"], r["precision"] != "float32", r["threads"]),
    )
    for record in records:
        threads = record["threads"]
        bf16 = record["precision"] != "float32"
        emulated = (
            ", which this processor emulates" if bf16 and not record["native_bfloat16"] else ""
        )
        ours = "geoenc" + (f", bfloat16{emulated}" if bf16 else "")
        memory = sorted(record["geoenc"].get("extra_peak_mb", {}), key=int)
        rows = []
        for way, name in (("geoenc", ours), ("original", "the original's way")):
            row = record[way]
            ratio = record["ratio_of_samples_a_second"] if way == "geoenc" else 1
            rows.append(
                [
                    name,
                    f"{row['samples_a_second']:,.0f}",
                    f"{row['median_samples_a_second']:,.0f}",
                    f"{EPOCH / row['median_samples_a_second']:.0f}",
                    f"{ratio:.2f}",
                    f"{row['share_of_limit']:.0%}",
                    f"{row['faults_a_step']:,.0f}",
                    *[f"{row['extra_peak_mb'][batch]:,.0f}" for batch in memory],
                ]
            )
        text += (
            f"\n{threads} thread{'s' * (threads > 1)}, {record['clock']} time, batch "
            f"{record['batch']:,}, {record['rows']:,} places, {record['geoenc']['blocks']} blocks; "
            f"limit {record['original']['gemm_limit'] / 1e9:.0f} GFLOP/s in float32; ratio of "
            f"medians {record['ratio_of_median_samples_a_second']:.2f}; losses of the first steps "
            f"agree to {record['agreement']:.0e}.\n\n"
        )
        head = ["", "samples/s, best", "median", f"seconds for {EPOCH:,}", "ratio"]
        head += ["share of limit", "page faults a step"]
        head += [f"extra MB, batch {int(batch):,}" for batch in memory]
        text += table(head, rows)
    return f"{where(records[-1])}\n{text}" if records else "Not measured yet.\n"


def limits() -> str:
    """What the machine can do."""
    records = newest("limits.jsonl", "limits", lambda r: r["threads"])
    if not records:
        return "Not measured yet.\n"
    quantities = {
        "write into existing memory, GB/s": lambda r: f"{r['write_existing'] / 1e9:.1f}",
        "write into fresh memory, GB/s": lambda r: f"{r['write_fresh'] / 1e9:.1f}",
        "sin, float32, G/s": lambda r: f"{r['sin_float32'] / 1e9:.2f}",
        "sin, float64, G/s": lambda r: f"{r['sin_float64'] / 1e9:.2f}",
        "multiply-adds in registers, float32, GFLOP/s": lambda r: (
            "" if r.get("registers") is None else f"{r['registers'] / 1e9:.0f}"
        ),
        "products of a CSP step, float32, GFLOP/s": lambda r: f"{r['gemm']['float32'] / 1e9:.0f}",
        "the same in bfloat16": lambda r: (
            f"{r['gemm']['bfloat16'] / 1e9:.0f}" + " (emulated)" * (not r["native_bfloat16"])
        ),
    }
    head = ["", *[f"{r['threads']} thread{'s' * (r['threads'] > 1)}" for r in records]]
    rows = [[name, *[show(r) for r in records]] for name, show in quantities.items()]
    return f"{where(records[-1])}\n\n{table(head, rows)}"


def accuracy() -> str:
    """Fast against plain training, over seeds."""
    records = newest("csp_epoch.jsonl", "accuracy", lambda r: r["what"])
    if not records:
        return "Not measured yet.\n"
    record = records[-1]
    rows = []
    for name, values in record["top1"].items():
        within = record["within_seed_noise"].get(name)
        rows.append(
            [
                name,
                f"{100 * statistics.mean(values):.2f}",
                f"{100 * statistics.stdev(values):.2f}",
                {True: "yes", False: "no", None: ""}[within],
            ]
        )
    head = ["training", "top-1 of the place, %", "deviation", "within seed noise of plain"]
    return f"{record['seeds']} seeds.\n\n{table(head, rows)}"


def position() -> str:
    """Position encoders beside TorchSpatial's."""
    return _beside("position", "share of write limit", "max error", "max_error")


def encoder() -> str:
    """Whole encoders beside the originals."""
    return _beside("encoder", "share of limit", "1 - cosine", "cosine_loss")


def _beside(what: str, share: str, error: str, key: str) -> str:
    records = newest(f"{what}.jsonl", what, lambda r: (r["encoder"], r["implementation"]))
    rows = []
    for r in records:
        wide = "bfloat16" in r["implementation"] and not r["native_bfloat16"]
        rows.append(
            [
                f"{r['encoder']}: {r['implementation']}{' (products in float32)' * wide}",
                f"{1e9 * r['seconds'] / r['places']:,.0f}",
                *["" if r[one] is None else f"{r[one]:.1f}" for one in RATIOS],
                percent(r["share_of_limit"]),
                "" if r[key] is None else f"{r[key]:.0e}",
            ]
        )
    head = [what, "ns a place", "ratio", "of medians", share, error]
    return f"{where(records[-1])}\n\n{table(head, rows)}" if records else "Not measured yet.\n"


def memory() -> str:
    """Peak memory beside the result."""
    text = ""
    for what in ("write", "embed"):
        records = newest("memory.jsonl", what, lambda r: r["encoder"])
        rows = [
            [r["encoder"], f"{r['places']:,}", f"{r['extra_mb']:.1f}", f"{r['faults']:,.0f}"]
            for r in records
        ]
        head = [what, "places", "extra MB", "page faults"]
        text += "\n" + table(head, rows) if rows else ""
    return text.removeprefix("\n") or "Not measured yet.\n"


def harmonics() -> str:
    """Spherical harmonics beside sphericart and the generated expressions."""
    text, last = "", None
    for what in ("forward", "forward and backward"):
        records = newest(
            "harmonics.jsonl",
            f"harmonics, {what}",
            lambda r: (r["degree"], r["dtype"], r["implementation"]),
        )
        rows = [
            [
                str(r["degree"]),
                r["dtype"],
                r["implementation"],
                f"{1e9 / r['places_a_second']:,.0f}",
                f"{r['ratio']:.2f}",
                f"{r['ratio_of_medians']:.2f}",
                f"{r['share_of_limit']:.0%}",
                f"{r['max_error']:.0e}" if r["max_error"] is not None else "",
            ]
            for r in records
            if "absent" not in r
        ]
        head = ["degree", "dtype", what, "ns a place", "ratio to sphericart", "of medians"]
        text += "\n" + table([*head, "share of write limit", "max error"], rows) if rows else ""
        last = records[-1] if records else last
    return f"{where(last)}\n{text}" if last else "Not measured yet.\n"


def losses() -> str:
    """Contrastive losses beside other ways: time and error, then memory."""
    text = ""
    timed = newest("losses.jsonl", "loss", lambda r: (r["loss"], r["batch"], r["implementation"]))
    rows = [
        [
            f"{r['loss']}: {r['implementation']}",
            f"{r['batch']:,}",
            f"{1e3 * r['seconds']:,.1f}",
            f"{1e3 * r['median']:,.1f}",
            f"{r['ratio']:.2f}" if r["ratio"] else "",
            f"{r['ratio_of_medians']:.2f}" if r["ratio_of_medians"] else "",
            f"{r['max_error']:.0e}",
        ]
        for r in timed
    ]
    head = ["forward and backward", "batch", "ms, best", "median", "ratio", "of medians"]
    text += table([*head, "max error"], rows) if rows else ""
    held = newest("losses.jsonl", "memory", lambda r: (r["loss"], r["batch"], r["implementation"]))
    rows = [
        [
            f"{r['loss']}: {r['implementation']}",
            f"{r['batch']:,}",
            f"{r['extra_mb']:,.0f}",
            f"{r['faults']:,.0f}",
        ]
        for r in held
    ]
    text += "\n" + table(["memory", "batch", "extra MB", "page faults"], rows) if rows else ""
    return f"{where(timed[-1])}\n\n{text}" if timed else "Not measured yet.\n"


def main() -> None:
    """Write the tables and fill the README."""
    for made in (csp_epoch, limits, accuracy, position, encoder, memory, harmonics, losses):
        write_text(FOLDER / f"{made.__name__}.md", made())
    write_text(README, filled(README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
