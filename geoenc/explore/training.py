"""The places that a model was trained on, from a table."""

import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoenc.tables import Table, open_table

MOST = 50_000
"""Places that a page holds; of more, some are drawn."""
_BLOCK = 65536


class Training(NamedTuple):
    """Places for a page.

    Attributes:
        lonlat: ``(N, 2)`` degrees.
        labels: text of each, or None; None without one.
        total: places in the table, of which these were drawn.
    """

    lonlat: Tensor
    labels: list[str | None] | None
    total: int


def read_training(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    most: int = MOST,
) -> Training:
    """Places of a table; rows without one are left out, lines and polygons give a point inside.

    Args:
        path: Parquet, GeoParquet, CSV, GeoPackage or FlatGeobuf.
        label: column to show beside each place.
        lon, lat: columns of degrees; without them the geometry, or ``lon`` and ``lat``.
        most: places to keep, of more the same random ones each time.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no such column, no place in it.

    Example:
        >>> from geoenc.explore import read_training
        >>> _ = open("seen.csv", "w").write("lon,lat,bird\\n2.35,48.86,swift\\n,,crow\\n")
        >>> read_training("seen.csv", label="bird").labels
        ['swift']
    """
    table = open_table(path, lon, lat)
    if label is not None and label not in table.schema.names:
        raise ValueError(
            f"expected a column {label!r} in {table.path.name!r}, got {table.schema.names}; name "
            "one of them as the label"
        )
    places, labels = [], []
    for block in table.blocks(_BLOCK):
        here, known = _places(table, block)
        places.append(here)
        if label is not None:
            labels += [one for one, kept in zip(_texts(block, label), known, strict=True) if kept]
    lonlat = torch.from_numpy(np.concatenate(places) if places else np.empty((0, 2)))
    if not len(lonlat):
        raise ValueError(f"expected places in {table.path.name!r}, got none; look at its columns")
    total = len(lonlat)
    if total > most:
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:most].sort()
        lonlat = lonlat[drawn.values]
        labels = [labels[row] for row in drawn.values.tolist()] if labels else labels
    return Training(lonlat, labels if label is not None else None, total)


def _places(table: Table, block: Any) -> tuple[Any, Any]:
    """Degrees of the rows that have a place, and which these are."""
    failed = np.zeros(block.num_rows, dtype=np.int64)
    if table.geometry is None:
        places = table.places(block, failed)
    else:
        import shapely

        points = shapely.point_on_surface(table.shapes(block, failed))
        places = np.stack([shapely.get_x(points), shapely.get_y(points)], -1)
        places[:, 0] = (places[:, 0] + 180) % 360 - 180
    known = ~np.isnan(places).any(1)
    return places[known], known


def _texts(block: Any, column: str) -> list[str | None]:
    found = block.column(column).to_pylist()
    return [None if one is None or one != one or one == "" else str(one) for one in found]
