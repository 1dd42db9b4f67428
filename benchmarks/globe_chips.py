"""The CSP recipe on 14,594 image chips of the Earth with IGBP land cover, two splits.

    python -m benchmarks.globe_chips random [--out runs/globe-chips-random] [key=value ...]
    python -m benchmarks.globe_chips blocked

The settings are those of ``configs/globe-chips-NAME.toml``, one file for each table. A started run
goes on where it was. The finished table and all scores are kept in ``results/globe-chips-NAME/``.
"""

import argparse
import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import torch

from benchmarks.shared import RESULTS, shared_file
from geoenc._files import write_text
from geoenc.data import GeotaggedImages, load_geotagged
from geoenc.recipes import sources, study
from geoenc.recipes.config import load_config

CONFIGS = RESULTS.parent / "configs"
REPORTED = RESULTS.parent / "reported.toml"


def load() -> tuple[GeotaggedImages, dict[str, torch.Tensor]]:
    """Chips of the classes with at least 30 rows, and the two splits: random and blocked."""
    path = shared_file("data_images/globe_chips.npz")
    images = load_geotagged(path, label="igbp", image="img", split="split")
    with np.load(path) as arrays:
        fold = torch.from_numpy(arrays["block_fold"].astype(np.int64))
    # folds 0 to 2 train, 3 validates, 4 tests
    folds = sources.frequent(dataclasses.replace(images, split=(fold - 2).clamp_min(0)), 30)
    images = sources.frequent(images, 30)
    assert images.split is not None
    assert folds.split is not None
    return images, {"random": images.split, "blocked": folds.split}


def reference(results: dict) -> str:
    """The product of experts that the recipe must beat, beside what CSP-MC-BLD reached."""
    with REPORTED.open("rb") as file:
        reported = tomllib.load(file)["globe_chips_product_of_experts"]
    lines = [
        "",
        f"Reference: {reported['what']}.",
        "",
        "| split | labels | reference | CSP-MC-BLD | above |",
        "|---|---|---|---|---|",
    ]
    cells = {(c["split"], c["method"], c["fraction"]): c for c in results["summary"]}
    for row in reported["top1"]:
        cell = cells.get((row["split"], "CSP-MC-BLD", row["fraction"]))
        if cell is None:
            continue
        above = "yes" if cell["top1"] > row["value"] else "no"
        lines.append(
            f"| {row['split']} | {row['fraction']:.0%} | {100 * row['value']:.1f} | "
            f"{100 * cell['top1']:.2f} | {above} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark and keep its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = sorted(path.stem.removeprefix("globe-chips-") for path in CONFIGS.glob("globe-chips-*"))
    parser.add_argument("name", choices=names)
    parser.add_argument("settings", nargs="*", help="key=value")
    parser.add_argument("--out", help="folder of the run (runs/globe-chips-NAME)")
    parser.add_argument("--threads", type=int, help="processor threads")
    options = parser.parse_intermixed_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    name = f"globe-chips-{options.name}"
    out = Path(options.out or f"runs/{name}")
    images, splits = load()
    config = load_config(CONFIGS / f"{name}.toml", options.settings)
    results = study.run(config, out, images=images, splits=splits)
    table = (out / "table.md").read_text(encoding="utf-8") + reference(results)
    location = (out / "location.md").read_text(encoding="utf-8")
    write_text(RESULTS / name / "table.md", table)
    write_text(RESULTS / name / "location.md", location)
    write_text(RESULTS / name / "results.json", json.dumps(results, indent=1) + "\n")
    print(table)


if __name__ == "__main__":
    main()
