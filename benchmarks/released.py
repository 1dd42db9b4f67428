"""Released location models, converted: are the numbers the original's?

    python -m benchmarks.released

Every TorchSpatial checkpoint for fMoW in the shared data folder goes through
`geoenc.convert.torchspatial` and is asked for P(y | place) of the 53,041 validation images. Beside
the accuracy of the place alone stands what the original's training logs say, and how far P(y |
place) is from what the original's code gives. Writes results/released/fmow.json and table.md.
"""

import json
import re
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch

import geoenc
from benchmarks.shared import RESULTS, shared_file
from geoenc._files import write_text

RANKS = (1, 3, 5, 10)


def logged() -> dict[str, list[float]]:
    """Accuracies in the original's logs, as the README of the data has them."""
    text = shared_file("data/README.md").read_text(encoding="utf-8")
    found = re.findall(r"([\w+-]+) ((?:\d+\.\d\d/){3}\d+\.\d\d)", text)
    return {name: [float(value) for value in values.split("/")] for name, values in found}


def measure(
    path: Path, lonlat: torch.Tensor, label: torch.Tensor, wanted: dict, full: dict
) -> dict:
    """One model: accuracies in %, and the largest relative difference in both precisions."""
    model = geoenc.convert.torchspatial(path)
    name = model.metadata["encoder"]
    row = {"file": path.name, "encoder": name, "sha256": model.metadata["sha256"]}
    start = time.perf_counter()
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        scores = torch.cat([model.probabilities(rows) for rows in lonlat.split(8192)])
        chosen = scores.gather(1, label[:, None])
        some = model.probabilities(torch.from_numpy(full["lonlat"]))
        row[f"difference_{str(dtype).removeprefix('torch.')}"] = {
            "true class, all images": furthest(chosen[:, 0].numpy(), wanted[f"ckpt_{name}"]),
            "all classes, some images": furthest(some.numpy(), full[f"probs_{name}"]),
        }
        if dtype == torch.float32:
            row["seconds"] = round(time.perf_counter() - start, 2)
            rank = (scores > chosen).sum(1)
            row["top"] = [round(100 * (rank < k).double().mean().item(), 2) for k in RANKS]
    return row


def furthest(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest relative difference."""
    return float((np.abs(got.astype(float) - wanted) / wanted).max())


def table(rows: list[dict]) -> str:
    """As Markdown."""
    heads = "".join(f" top-{k} | logged |" for k in RANKS)
    lines = [
        f"Released fMoW models, {rows[0]['images']:,} validation images, the place alone, in %:",
        "",
        f"| encoder |{heads} difference, float32 | difference, float64 |",
        f"|---|{'---|' * (2 * len(RANKS) + 2)}",
    ]
    for row in rows:
        pairs = "".join(
            f" {ours:.2f} | {theirs:.2f} |" if theirs is not None else f" {ours:.2f} | – |"
            for ours, theirs in zip(row["top"], row["logged"] or [None] * 4, strict=True)
        )
        far = [max(row[f"difference_{one}"].values()) for one in ("float32", "float64")]
        lines.append(f"| {row['encoder']} |{pairs} {far[0]:.1e} | {far[1]:.1e} |")
    lines += [
        "",
        "Difference: the largest relative one of P(y given place), over the true class of all "
        "images and all classes of 406. The original computes in float32.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure all, keep the numbers, print the table."""
    images = pyarrow.parquet.read_table(shared_file("data/fmow_val.parquet")).to_pydict()
    columns = pyarrow.parquet.read_table(shared_file("data/fmow_val_encoder_probs.parquet"))
    wanted = {name: np.array(values) for name, values in columns.to_pydict().items()}
    assert list(wanted["row_id"]) == images["row_id"], "two files with the same rows"
    with np.load(shared_file("data/fmow_val_ckpt_full_probs.npz")) as file:
        full = dict(file)
    lonlat = torch.tensor([images["lon"], images["lat"]], dtype=torch.float64).T
    label, logs = torch.tensor(images["label"]).long(), logged()
    folder = shared_file("checkpoints/README.md").parent / "torchspatial"
    rows = []
    for path in sorted(folder.glob("model_fmow_*.pth.tar")):
        row = measure(path, lonlat, label, wanted, full)
        row["logged"] = logs.get(row["encoder"].removeprefix("Sphere2Vec-"))
        rows.append({**row, "images": len(label)})
    versions = {"geoenc": geoenc.__version__, "torch": torch.__version__}
    document = {"versions": versions, "ranks": RANKS, "models": rows}
    write_text(RESULTS / "released" / "fmow.json", json.dumps(document, indent=1) + "\n")
    write_text(RESULTS / "released" / "table.md", table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
