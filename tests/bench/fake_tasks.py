"""Two invented tasks: files as people would write them, answers that depend on the place."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from geoenc.bench import Settings
from geoenc.coordinates import to_xyz
from geoenc.sampling import uniform

SIZES = Settings(
    seeds=2,
    max_train=0,
    steps=60,
    batch=64,
    evaluate_every=30,
    weight_decay=0.0,
    rates=(0.01, 0.03),
    network={"name": "FFN", "out_features": 16, "hidden_features": 32, "dropout": 0.0},
    penalties=(1e-4, 1e-2),
    iterations=50,
    neighbours=(1, 5),
)


def write_tasks(folder: Path, *, rows: int = 900) -> list[str]:
    """Files of the tasks ``side`` (classes) and ``height`` (numbers) with their data."""
    lonlat = uniform(rows)
    xyz = to_xyz(lonlat).numpy()
    frame = pd.DataFrame(lonlat.numpy(), columns=["lon", "lat"])
    frame["year"] = np.arange(rows) % 3
    frame["side"] = np.where(xyz[:, 0] > 0, "near", "far")
    frame["height"] = 100 * xyz[:, 2]
    frame.loc[0, "height"] = np.nan
    frame.loc[1, "lon"] = np.nan
    frame.to_csv(folder / "table.csv", index=False)
    for name, metric in (("side", "top1"), ("height", "r2")):
        text = (
            f'about = "The {name} of the globe"\nfile = "table.csv"\ntarget = "{name}"\n'
            f'metric = "{metric}"\nblock_degrees = 20\nlicence = "CC0-1.0"\n'
        )
        (folder / f"{name}.toml").write_text(text)
    return [str(folder / "side.toml"), str(folder / "height.toml")]


def load(path: Path) -> dict:
    """One result."""
    return json.loads(path.read_text())
