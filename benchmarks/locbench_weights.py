"""Are LocBench's released files of results those of its released weights?

    GEOENC_TORCHSPATIAL=TorchSpatial python -m benchmarks.locbench_weights

A released file says of every image P(y | image) P(y | place) of its true class y, and that of
no_prior P(y | image) alone. With the released weights, converted, and the places of the shared
data, their product is formed again: where the largest relative difference is that of rounding, the
file, and with it the accuracy that it gives, belongs to these weights, and geoenc computes them as
the original does. Of the weights, those are asked that lie in the checkout of
github.com/seai-lab/TorchSpatial; rbf would need the places of the training set.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import geoenc
from benchmarks import locbench
from benchmarks.shared import markdown_table, shared_file
from geoenc._files import write_text
from geoenc.bench.hardware import versions

PLACES = {"yfcc": "data/yfcc_geo100_test.parquet", "fmow": "data/fmow_val.parquet"}
ROUNDING = 1e-4
"""Places are float32 in the original, and so are its sines of up to some thousand radians."""
_ROWS = 8192


def true_class(path: Path, lonlat: Tensor, label: Tensor) -> np.ndarray:
    """P(y | place) of the true classes, by released weights."""
    model = geoenc.convert.torchspatial(path)
    with torch.no_grad():
        parts = [model.probabilities(rows) for rows in lonlat.split(_ROWS)]
    return torch.cat(parts).gather(1, label[:, None])[:, 0].double().numpy()


def differences(product: np.ndarray, file: np.ndarray) -> dict[str, float]:
    """Relative ones: the largest and the middle one."""
    relative = np.abs(product - file) / np.maximum(np.abs(file), np.finfo(np.float32).tiny)
    return {"largest": float(relative.max()), "median": float(np.median(relative))}


def measure(checkout: Path) -> dict[str, dict[str, Any]]:
    """Differences by set and encoder."""
    settings, found = locbench.read_settings(), {}
    for key, name in PLACES.items():
        start = f"eval_{settings['classes'][key]['file']}_"
        folder = checkout / "eval_results" / "classification"
        table = pd.read_parquet(shared_file(name))
        image = pd.read_csv(folder / f"{start}no_prior.csv")["true_class_prob"].to_numpy()
        lonlat = torch.from_numpy(table[["lon", "lat"]].to_numpy(dtype="float64", copy=True))
        label = torch.from_numpy(table["label"].to_numpy(dtype="int64", copy=True))
        for encoder in settings["encoders"]:
            entry = locbench.weights(settings, encoder, key)
            files = [] if entry is None else checkout.glob(f"pre_trained_models/*/{entry.file}")
            for path in () if encoder == "rbf" else files:
                results = pd.read_csv(folder / f"{start}{encoder}.csv")
                product = image * true_class(path, lonlat, label)
                found.setdefault(key, {})[encoder] = {
                    "file": path.name,
                    "rows": len(label),
                    **differences(product, results["true_class_prob"].to_numpy()),
                }
    return found


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """As Markdown."""
    titles = {key: one["title"] for key, one in locbench.read_settings()["classes"].items()}
    rows = [
        [
            titles[key],
            f"`{encoder}`",
            f"{one['rows']:,}",
            f"{one['largest']:.1e}",
            f"{one['median']:.1e}",
            "yes" if one["largest"] < ROUNDING else "no",
        ]
        for key, encoders in found.items()
        for encoder, one in encoders.items()
    ]
    head = ["set", "encoder", "images", "largest difference", "median", "of these weights"]
    return markdown_table(head, rows)


def main() -> None:
    """Measure, keep, and print the table."""
    found = measure(Path(os.environ.get("GEOENC_TORCHSPATIAL", "TorchSpatial")))
    document = {"versions": versions(), "sets": found}
    write_text(locbench.FOLDER / "locbench-weights.json", json.dumps(document, indent=1) + "\n")
    lines = "\n".join(table(found)) + "\n"
    write_text(locbench.FOLDER / "locbench-weights.md", lines)
    print(lines)


if __name__ == "__main__":
    main()
