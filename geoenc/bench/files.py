"""Files of the data folder, for tasks that are read by rules of their own."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoenc._optional import require
from geoenc.data import DatasetNotFoundError

PART_NUMBERS = {"train": 0, "val": 1, "validation": 1, "test": 2}
"""Words of the columns that name a part."""


def found(data: str | os.PathLike[str] | None, name: str) -> Path:
    """A file of the folder, or an error that says what to do."""
    path = Path(data or ".") / name
    if not path.is_file():
        raise DatasetNotFoundError(
            f"expected {name} in {Path(data or '.')}, found nothing; name the folder of the data "
            "with --data, see docs/how-to/get-the-datasets.md"
        )
    return path


def table(data: str | os.PathLike[str] | None, name: str) -> Any:
    """A Parquet file of the folder as a frame."""
    import pandas as pd

    require("pyarrow", extra="scale")
    return pd.read_parquet(found(data, name))


def part_of(column: Any, kept: tuple[str, ...] = ("train", "val", "test")) -> Tensor:
    """The part of each row from a column that names it; -1 for parts that are not kept."""
    numbers = column.astype(str).map({name: PART_NUMBERS[name] for name in kept}).fillna(-1)
    return torch.from_numpy(numbers.to_numpy(dtype="int64", copy=True))
