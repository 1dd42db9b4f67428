"""Tasks of other benchmarks, from what they let one download."""

import os
from pathlib import Path

import torch
from torch import Tensor

from geoenc.bench.task import Task
from geoenc.data import load_coordbench, load_locbench_values
from geoenc.data.answers import Answers
from geoenc.data.coordbench import random_folds, spatial_folds
from geoenc.data.range_suite import load_range_suite

Folder = str | os.PathLike[str]
_PARTS = {"train": 0, "val": 1, "test": 2}


def coordbench(*, benchmark: str, target: str = "", data: Folder | None = None) -> Task:
    """A task of CoordBench in its first fold of five, random or by blocks of 10 degrees.

    Fold 0 is the test part as there; fold 1, which there is in the training part, is for
    validation. A table with a test part of its own keeps that, and a tenth of the training rows
    is for validation.

    Args:
        benchmark: see `geoenc.data.load_coordbench`.
        target: column, for tables with many.
        data: folder that holds ``coordbench/``, the download.
    """
    found = load_coordbench(Path(data or ".") / "coordbench", benchmark, target or None)
    if found.part is not None:
        return _task(f"coordbench-{benchmark}", found, {"random": _validated(found.part)}, 10.0)
    folds = {"random": random_folds(len(found.target)), "blocked": spatial_folds(found.lonlat)}
    part = torch.tensor([2, 1, 0, 0, 0])
    fixed = {name: part[fold] for name, fold in folds.items()}
    return _task(f"coordbench-{benchmark}", found, fixed, 10.0)


def range_suite(*, benchmark: str, data: Folder | None = None) -> Task:
    """A task of the RANGE evaluation: its random test part; a tenth of the rest for validation.

    Args:
        benchmark: see `geoenc.data.load_range_suite`.
        data: folder that holds ``range/``, the tables.
    """
    found = load_range_suite(Path(data or ".") / "range", benchmark)
    assert found.part is not None
    return _task(f"range-{benchmark}", found, {"random": _validated(found.part)}, 5.0)


def locbench_values(*, benchmark: str, data: Folder | None = None) -> Task:
    """A regression set of LocBench with all rows of its parts; places only.

    SustainBench has one table for training and validation: a tenth of it is for validation.

    Args:
        benchmark: see `geoenc.data.load_locbench_values`.
        data: folder that holds ``locbench/``, the download.
    """
    parts = {"train": 0, "test": 2} if benchmark.startswith("sustainbench") else _PARTS
    root = Path(data or ".") / "locbench"
    rows = [
        (number, *load_locbench_values(root, benchmark, split)) for split, number in parts.items()
    ]
    part = torch.cat([torch.full((len(values),), number) for number, _, values in rows])
    lonlat = torch.cat([samples.lonlat for _, samples, _ in rows])
    values = torch.cat([values for _, _, values in rows])
    known = ~lonlat.isnan().any(1)
    part = part[known] if len(parts) == 3 else _validated(part[known])
    found = Answers(lonlat[known], values[known])
    return _task(f"locbench-{benchmark}", found, {"random": part}, 5.0)


def _validated(part: Tensor) -> Tensor:
    """A tenth of the training rows, drawn with seed 0, become validation rows."""
    train = (part == 0).nonzero()[:, 0]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    new = part.clone()
    new[train[order[: -(-len(train) // 10)]]] = 1
    return new


def _task(name: str, found: Answers, fixed: dict[str, Tensor], block_degrees: float) -> Task:
    return Task(
        name=name,
        lonlat=found.lonlat,
        target=found.target,
        classes=len(found.classes),
        metric="top1" if found.classes else "r2",
        block_degrees=block_degrees,
        class_names=found.classes,
        fixed=fixed,
    )
