"""In which country, subregion or continent of the embedded map a place lies."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoenc.coordinates import EARTH_RADIUS_KM, as_lonlat, to_xyz
from geoenc.data.globe import countries

LEVELS = ("continent", "subregion", "country")
OPEN_SEA = "open sea"

_STEP_DEGREES = 0.1


def region_of(
    lonlat: Any, level: str = "country", *, coast_km: float = 100.0
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The region of each place: that whose polygon holds it, or else the nearest within reach.

    The embedded map (Natural Earth 1:110 m, see `geoenc.data.globe.countries`) has no small
    islands and coarse coasts, so that many places of the shore lie outside its polygons.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; NaN is a missing place.
        level: ``"continent"``, ``"subregion"`` (United Nations M49) or ``"country"``.
        coast_km: places outside every polygon belong to the nearest border up to this distance,
            to about 6 km; beyond it they are "open sea".

    Shape:
        ``lonlat`` (N, 2); numbers ``(N,)`` int64, -1 for a missing place, and the names, of
        which those that occur are numbered in alphabetical order.

    Example:
        >>> from geoenc.data.regions import region_of
        >>> region_of([(2.35, 48.86), (179.9, -17.5), (-30.0, 30.0), (25.0, -30.0)], "continent")
        (tensor([1, 2, 3, 0]), ('Africa', 'Europe', 'Oceania', 'open sea'))
    """
    if level not in LEVELS:
        raise ValueError(
            f"expected level 'continent', 'subregion' or 'country', got {level!r}; choose one"
        )
    if not coast_km >= 0:
        raise ValueError(f"expected coast_km of at least 0, got {coast_km}; 100 is usual")
    places = as_lonlat(lonlat, missing=True).cpu()
    if places.ndim != 2:
        raise ValueError(
            f"expected lonlat of shape (N, 2), one row per sample, got {tuple(places.shape)}; "
            "flatten the leading dimensions"
        )
    known = ~places.isnan().any(-1)
    names = np.append(countries()["name" if level == "country" else level], OPEN_SEA).astype(str)
    found = names[_rows(places[known].numpy(), coast_km)]
    occurring, number = np.unique(found, return_inverse=True)
    region = torch.full((len(places),), -1)
    region[known] = torch.from_numpy(number.reshape(-1))
    return region, tuple(occurring.tolist())


def _rows(places: NDArray[np.float64], coast_km: float) -> NDArray[np.int64]:
    """The row of the country of each place; -1 is the open sea."""
    import shapely

    point, row = shapely.STRtree(countries().geometry.to_numpy()).query(
        shapely.points(places), predicate="intersects"
    )
    rows = np.full(len(places), -1)
    rows[point[::-1]] = row[::-1]  # of a place on a border, the first country
    outside = np.flatnonzero(rows < 0)
    if len(outside):
        tree, owner = _borders()
        chord, near = tree.query(to_xyz(torch.from_numpy(places[outside])).numpy())
        within = chord <= 2 * math.sin(min(coast_km / EARTH_RADIUS_KM, math.pi) / 2)
        rows[outside[within]] = owner[near[within]]
    return rows


@functools.cache
def _borders() -> tuple[Any, NDArray[np.int64]]:
    """Points of all borders as unit vectors in a tree, and the country of each."""
    import shapely
    from scipy.spatial import cKDTree

    lines = shapely.segmentize(countries().geometry.boundary.to_numpy(), _STEP_DEGREES)
    points, owner = shapely.get_coordinates(lines, return_index=True)
    return cKDTree(to_xyz(torch.from_numpy(points.copy())).numpy()), owner
