"""Places with answers, as tables of other benchmarks hold them."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoenc._optional import require
from geoenc.coordinates import as_lonlat
from geoenc.data.errors import DatasetNotFoundError

logger = logging.getLogger("geoenc.data")

LON = ("lon", "longitude", "Lon", "Longitude", "lng", "X", "x")
LAT = ("lat", "latitude", "Lat", "Latitude", "Y", "y")
HELP = "see docs/how-to/get-the-datasets.md"


class Answers(NamedTuple):
    """Places, what is known of each, and the parts that come with the data.

    Attributes:
        lonlat: ``(N, 2)`` float64 degrees.
        target: ``(N,)``: int64 classes counted from 0, or float64 numbers.
        classes: names of the classes; none for numbers.
        part: ``(N,)`` int64, 0 train, 1 validation, 2 test, or None.
    """

    lonlat: Tensor
    target: Tensor
    classes: tuple[str, ...] = ()
    part: Tensor | None = None


def table(root: str | os.PathLike[str], names: Sequence[str], title: str) -> Any:
    """The first of the files that is there, CSV or Parquet, as a DataFrame.

    Raises:
        DatasetNotFoundError: none is; the first is named.
    """
    import pandas as pd

    path = next((Path(root) / name for name in names if (Path(root) / name).is_file()), None)
    if path is None:
        raise DatasetNotFoundError(
            f"{title} not found in root={os.fspath(root)!r}: expected {names[0]}; {HELP}"
        )
    logger.info("%s: reads %s", title, path)
    if path.suffix == ".csv":
        return pd.read_csv(path)
    require("pyarrow", extra="scale")
    return pd.read_parquet(path)


def column(frame: Any, candidates: Sequence[str], title: str) -> str:
    """The first candidate that is a column, or one that differs by case or spaces.

    Raises:
        ValueError: there is none.
    """
    plain = {str(name).strip().lower(): name for name in reversed(list(frame.columns))}
    for name in candidates:
        found = name if name in frame else plain.get(name.lower())
        if found is not None:
            if name != candidates[0] or found != name:
                logger.info("%s: takes column %r for %r", title, found, candidates[0])
            return str(found)
    raise ValueError(
        f"{title}: expected a column {' or '.join(candidates)}, got "
        f"{', '.join(map(str, frame.columns))}; get the file again"
    )


def answers(frame: Any, target: str, title: str, *, classify: bool, log: bool = False) -> Answers:
    """Rows of a table whose place and answer are known; classes in the order of their names.

    Args:
        frame: the table.
        target: column of the answers.
        title: of the data, for errors and the log.
        classify: whether the answers are classes.
        log: whether the answers are ln(1 + y).

    Raises:
        DatasetNotFoundError: no row is complete.
    """
    lon, lat = column(frame, LON, title), column(frame, LAT, title)
    known = frame[lon].notna() & frame[lat].notna() & frame[target].notna()
    if not known.all():
        logger.info("%s: leaves out %d rows without place or answer", title, (~known).sum())
    frame = frame[known]
    if not len(frame):
        raise DatasetNotFoundError(f"{title}: expected rows with places and {target}, got none")
    lonlat = as_lonlat(torch.from_numpy(frame[[lon, lat]].to_numpy(dtype=np.float64, copy=True)))
    if classify:
        kinds, numbers = np.unique(frame[target].to_numpy(), return_inverse=True)
        names = tuple(str(one) for one in kinds)
        return Answers(lonlat, torch.from_numpy(numbers.reshape(-1).astype(np.int64)), names)
    values = torch.from_numpy(frame[target].to_numpy(dtype=np.float64, copy=True))
    return Answers(lonlat, values.log1p() if log else values)
