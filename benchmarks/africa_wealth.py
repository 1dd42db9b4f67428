"""The methods of Table 1 on wealth deciles of 19,669 survey sites in 23 African countries.

    python -m benchmarks.africa_wealth [--out runs/africa-wealth] [key=value ...]

The image side is what satellite models, trained on other countries, predict for each site: 11
numbers that already know what is asked for, not an embedding; see the README of the data. The
settings are those of ``configs/africa-wealth.toml``. A started run goes on where it was. The
finished table and all scores are kept in ``results/africa-wealth/``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.shared import RESULTS, shared_file
from geoenc._files import write_text
from geoenc.data import GeotaggedImages
from geoenc.recipes import study
from geoenc.recipes.config import load_config

NAME = "africa-wealth"


def load() -> tuple[GeotaggedImages, dict[str, torch.Tensor]]:
    """Sites with their deciles, and the two splits: random, and blocks of the data's authors."""
    with np.load(shared_file("data_images/africa_wealth.npz")) as arrays:
        lonlat = np.stack([arrays["lon"], arrays["lat"]], 1).astype(np.float64)
        features = np.concatenate([arrays["feat_day"], arrays["feat_night"]], 1)
        target = arrays["decile"].astype(np.int64)
        split = torch.from_numpy(arrays["split"].astype(np.int64))
        fold = torch.from_numpy(arrays["block_fold"].astype(np.int64))
    images = GeotaggedImages(
        torch.from_numpy(lonlat),
        torch.from_numpy(target - target.min()),
        classes=tuple(f"decile {number}" for number in range(1, 11)),
        features=torch.from_numpy(features.astype(np.float32)),
        split=split,
    )
    # folds 0 to 2 train, 3 validates, 4 tests
    return images, {"random": split, "blocked": (fold - 2).clamp_min(0)}


def main() -> None:
    """Run the benchmark and keep its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", help="key=value")
    parser.add_argument("--out", default=f"runs/{NAME}", help="folder of the run")
    parser.add_argument("--threads", type=int, help="processor threads")
    options = parser.parse_intermixed_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    images, splits = load()
    path = Path(__file__).parent / "configs" / f"{NAME}.toml"
    config = load_config(path, options.settings)
    out = Path(options.out)
    results = study.run(config, out, images=images, splits=splits)
    for file in ("table.md", "location.md"):
        write_text(RESULTS / NAME / file, (out / file).read_text(encoding="utf-8"))
    write_text(RESULTS / NAME / "results.json", json.dumps(results, indent=1) + "\n")
    print((out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
