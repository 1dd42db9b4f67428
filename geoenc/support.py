"""Where has a model data? Training places near a place, each counted by its nearness."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoenc import sampling
from geoenc.coordinates import EARTH_RADIUS_KM, as_lonlat, to_xyz
from geoenc.plot import draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_REACH = 4.0
"""Bandwidths beyond which the kernel is 0; there it is 0.0003."""

_ROWS = 32
"""Places at once, which lie together."""

_ENTRIES = 4_000_000
"""Distances in memory at once."""


def support(train: Any, lonlat: Any, *, bandwidth_km: float = 500.0) -> Tensor:
    """s(x) = sum_i K(d(x, x_i)), K(d) = exp(-d^2 / (2 h^2)), d the great-circle distance.

    A training place x_i at x itself counts 1, one at the distance h 0.61, one beyond 4 h nothing.
    Where s(x) is below 1, what a model says of x comes from elsewhere.

    Args:
        train: places of the training samples, as `geoenc.as_lonlat` reads them; NaN is left out.
        lonlat: where to ask; NaN gives NaN.
        bandwidth_km: h, over which what the model predicts stays alike.

    Shape:
        ``(N, 2)`` and ``(..., 2)`` to ``(...)`` float64.

    Example:
        >>> from geoenc.support import support
        >>> europe = [(2.35, 48.86), (13.40, 52.52), (-0.13, 51.51)]
        >>> support(europe, [(4.90, 52.37), (-74.01, 40.71)])
        tensor([1.9804, 0.0000], dtype=torch.float64)

    Reference:
        Silverman, Density estimation, 1986, section 4.2: a Gaussian kernel, not normalised.
    """
    samples, places = known_places(train), as_lonlat(lonlat, missing=True)
    rows = places.double().cpu().reshape(-1, 2)
    result = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    there = (~rows.isnan().any(1)).nonzero()[:, 0]
    result[there] = 0.0
    for block, _, weight in kernel_blocks(samples, rows[there], bandwidth_km):
        result[there[torch.from_numpy(block)]] = torch.from_numpy(weight.sum(1))
    return result.view(places.shape[:-1])


def support_map(
    train: Any,
    values: Tensor | None = None,
    *,
    threshold: float = 1.0,
    bandwidth_km: float = 500.0,
    height: int = 180,
    cmap: str = "viridis",
    ax: "Axes | None" = None,
) -> "Axes":
    """A map of numbers that is grey where `support` is below ``threshold``.

    Args:
        train: places of the training samples.
        values: numbers of the map, such as a class probability; log10 of the support if None.
        threshold: the least support that is shown.
        bandwidth_km: as for `support`.
        height: rows of the map, if ``values`` do not say it.
        cmap: colour map of Matplotlib.
        ax: where to draw; new ones if None.

    Shape:
        values ``(height, 2 * height)``, as `geoenc.sampling.lattice` orders places.

    Returns:
        The axes.
    """
    height, width = (height, 2 * height) if values is None else values.shape
    found = support(train, sampling.lattice(height, width), bandwidth_km=bandwidth_km)
    shown = found.clamp_min(1e-9).log10() if values is None else values
    poor = found < threshold
    grey = torch.zeros_like(found).where(poor, torch.nan)
    ax = draw_map(grey, ax=ax, cmap="Greys", low=-0.4, high=1.0)
    return draw_map(shown.masked_fill(poor, torch.nan), ax=ax, cmap=cmap)


def known_places(lonlat: Any) -> Tensor:
    """Places ``(N, 2)`` float64 on the CPU, without those that are missing."""
    places = as_lonlat(lonlat, missing=True).double().cpu().reshape(-1, 2)
    return places[~places.isnan().any(1)]


def kernel_blocks(
    samples: Tensor, places: Tensor, bandwidth_km: float
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Rows of ``places``, rows of ``samples`` in reach of them, ascending, and K between both.

    Places are taken together with their neighbours, so a block sees few samples if h is small.
    """
    from scipy.spatial import cKDTree
    from scipy.spatial.distance import cdist

    if not bandwidth_km > 0:
        raise ValueError(
            f"expected bandwidth_km above 0, got {bandwidth_km}; math.inf lets all samples count "
            "the same"
        )
    if not len(places):
        return
    here, there = to_xyz(places).numpy(), to_xyz(samples).numpy()
    reach = 2 * math.sin(min(_REACH * bandwidth_km / EARTH_RADIUS_KM, math.pi) / 2) * (1 + 1e-9)
    tree, order = cKDTree(there), cKDTree(here).indices
    for rows in np.split(order, range(_ROWS, len(order), _ROWS)):
        centre = here[rows].mean(0)
        radius = np.linalg.norm(here[rows] - centre, axis=1).max() + reach
        found = np.sort(np.asarray(tree.query_ball_point(centre, radius), dtype=np.int64))
        for part in np.array_split(rows, max(1, math.ceil(len(rows) * len(found) / _ENTRIES))):
            chord = cdist(here[part], there[found])
            turns = 2 * np.arcsin(np.minimum(chord / 2, 1)) * (EARTH_RADIUS_KM / bandwidth_km)
            weight = np.exp(-(turns**2) / 2)
            weight[chord > reach] = 0
            yield part, found, weight
