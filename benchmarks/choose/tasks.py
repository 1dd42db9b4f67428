"""Four tasks that are answered from the place alone, and the parts in which they are learned."""

import dataclasses
import functools
from collections.abc import Mapping

import torch
from torch import Generator

from benchmarks.shared import shared_file
from geoenc.bench.parts import PARTS, Part
from geoenc.data.splits import block_split, random_split

FRACTIONS = (0.6, 0.15, 0.25)
SPLITS = ("random", "blocked")


Task = Part
"""Places, what is asked there, and how many classes there are: 0 for a number."""


def fmow() -> Task:
    """Which of 62 classes of facility an image of fMoW shows; one image of each place."""
    frame = _frame("fmow_val").drop_duplicates("loc_id")
    return _task(frame, frame["label"].to_numpy(dtype="int64"))


def koppen() -> Task:
    """Köppen climate, 30 classes, on half a degree; drawn by area, without Antarctica."""
    frame = _frame("koppen_land_0p5deg")
    frame = frame[frame["lat"] > -60]
    area = torch.deg2rad(torch.from_numpy(frame["lat"].to_numpy(dtype="float64"))).cos()
    generator = Generator().manual_seed(0)
    kept = torch.multinomial(area, 30_000, generator=generator).numpy()
    frame = frame.iloc[kept]
    return _task(frame, frame["label"].to_numpy(dtype="int64"))


def _mosaiks(column: str) -> Task:
    frame = _frame("mosaiks_points")
    frame = frame[frame[column].notna()]
    return _task(frame, frame[column].to_numpy(dtype="float32"))


TASKS = {
    "fMoW": fmow,
    "Köppen": koppen,
    "population": functools.partial(_mosaiks, "population_log1p"),
    "elevation": functools.partial(_mosaiks, "elevation_m"),
}


def _frame(name: str):
    import pandas as pd

    return pd.read_parquet(shared_file(f"data/{name}.parquet"))


def _task(frame, target) -> Task:
    lonlat = torch.from_numpy(frame[["lon", "lat"]].to_numpy(dtype="float64"))
    classes = int(target.max()) + 1 if target.dtype.kind == "i" else 0
    return Task(lonlat, torch.from_numpy(target), classes)


def draw(task: Task, split: str, seed: int, sizes: Mapping[str, int]) -> dict[str, Task]:
    """Training, validation and test places: a new split and new places for each seed.

    Args:
        task: all places.
        split: "random", or "blocked": no block of ``sizes["block_degrees"]`` is in two parts.
        seed: of split and places.
        sizes: how many places of each part, at most.
    """
    generator = Generator().manual_seed(seed)
    if split == "blocked":
        degrees = sizes["block_degrees"]
        part = block_split(task.lonlat, degrees=degrees, generator=generator, fractions=FRACTIONS)
    else:
        part = random_split(len(task.lonlat), generator=generator, fractions=FRACTIONS)
    order = torch.randperm(len(part), generator=generator)
    drawn = {}
    for index, name in enumerate(PARTS):
        rows = order[part[order] == index][: sizes[name]]
        drawn[name] = dataclasses.replace(task, lonlat=task.lonlat[rows], target=task.target[rows])
    return drawn
