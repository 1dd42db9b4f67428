"""The CSP paper's Tables 1 to 5: each number beside what was measured, or the files it needs.

    python -m benchmarks.report --keep runs/csp_table1/mse csp_table1/mse     keep a finished run
    python -m benchmarks.paper                       write benchmarks/results/paper/tables.md

A kept run may hold one row or all; the numbers of a table are looked for in all runs that were
kept below its name.
"""

import functools
import json
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.shared import RESULTS, console, described_by, markdown_table
from geoenc._files import write_text
from geoenc.data.published import PUBLISHED
from geoenc.recipes.config import load_config
from geoenc.recipes.study import file_name

REPORTED = RESULTS.parent / "reported.toml"
OUT = RESULTS / "paper" / "tables.md"


def reported() -> dict[str, dict[str, Any]]:
    """The tables of the CSP paper by name."""
    with REPORTED.open("rb") as file:
        values = tomllib.load(file)
    return {name: table for name, table in values.items() if name.startswith("csp_table")}


def settings(table: dict[str, Any], method: str) -> list[str]:
    """What a row sets beside its configuration file."""
    chosen = [f"table.methods={json.dumps([method])}"]
    if table["fractions"] != [0.05, 0.1, 0.2, 1.0]:
        chosen.append(f"table.fractions={json.dumps(table['fractions'])}")
    chosen += [f"data.{key}={table[key]}" for key in ("features", "predictions") if key in table]
    return chosen


def command(name: str, table: dict[str, Any], method: str) -> str:
    """The one line that measures a row."""
    quoted = " ".join(f"'{part}'" if "[" in part else part for part in settings(table, method))
    out = f"runs/{name}/{file_name(method)}"
    return f"geoenc run csp --config {table['config']} data.path=DIR {quoted} --out {out}"


_config = functools.cache(load_config)


def needs(table: dict[str, Any], method: str, fraction: float) -> list[str]:
    """The published files that a number needs, below DIR."""
    config = _config(table["config"], tuple(settings(table, method)))
    source = PUBLISHED[config.data.name]
    files = described_by(source, ("train", "val"))
    few = fraction < 1
    files.append(
        _variant(source.predictions, config.data.predictions, "fewshot" if few else "full")
    )
    if few:
        files.append(source.subset[0])
    if config.methods[method].get("pretrain", {}).get("objective") != "none" and (
        method != "Image only"
    ):
        features = _variant(source.features, config.data.features, "pretrain")
        files.append(features.format(split="train", fraction=fraction))
    return [f"{source.folder}/{f.format(split='val', fraction=fraction)}" for f in files]


def _variant(templates: dict[str, str], asked: str, usual: str) -> str:
    name, dash, network = (asked or usual).partition("-")
    return templates[name].replace("/", f"{dash}{network}/", 1)


def measured(name: str, results: Path = RESULTS) -> dict[tuple[str, float], tuple[float, float]]:
    """Mean and standard deviation in % by method and share of labels, of all runs kept there."""
    found = {}
    for path in sorted((results / name).rglob("results.json")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["summary"]:
            number = 100 * cell["top1"], 100 * cell["top1_std"]
            found[cell["method"], cell["fraction"]] = number
    return found


def section(name: str, table: dict[str, Any], results: Path = RESULTS) -> list[str]:
    """One table: a line for each number, then the commands."""
    rows, ours, common = [], measured(name, results), _common(table)
    for method, numbers in table["top1"].items():
        spread = table.get("spread", {}).get(method, [])
        for i, (fraction, number) in enumerate(zip(table["fractions"], numbers, strict=True)):
            printed = f"{number:.2f}" + (f" ({spread[i]:.2f})" if i < len(spread) else "")
            cell, missing = "", ""
            if (method, fraction) in ours:
                mean, deviation = ours[method, fraction]
                cell = f"{mean:.2f} ({deviation:.2f})"
            else:
                own = [f"`{f}`" for f in needs(table, method, fraction) if f not in common]
                missing = ", ".join(own)
            rows.append([method, f"{fraction:.0%}", printed, cell, missing])
    return [
        *[f"## {table['title']}", "", f"{table['source']}.", ""],
        *markdown_table(("method", "labels", "reported", "measured", "needs"), rows),
        *["", f"All of them need {', '.join(f'`{file}`' for file in common)}.", ""],
        *console(command(name, table, method) for method in table["top1"]),
    ]


def _common(table: dict[str, Any]) -> list[str]:
    """The files that every number of a table needs."""
    wanted = [needs(table, m, f) for m in table["top1"] for f in table["fractions"]]
    return [file for file in wanted[0] if all(file in files for files in wanted)]


def main() -> None:
    """Write all tables."""
    lines = [line for name, table in reported().items() for line in section(name, table)]
    write_text(OUT, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
