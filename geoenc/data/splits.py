"""Training, validation and test parts: at random, or by blocks of the globe."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from geoenc.coordinates import as_lonlat

FRACTIONS = (0.7, 0.1, 0.2)


def random_split(
    num: int, *, generator: Generator | None = None, fractions: Sequence[float] = FRACTIONS
) -> Tensor:
    """Parts drawn sample by sample: 0 train, 1 validation, 2 test, in exactly these fractions.

    Neighbours fall into different parts, so a place is tested where it was trained: on places
    this measures interpolation. `block_split` measures what holds elsewhere.

    Args:
        num: how many samples.
        generator: source of randomness.
        fractions: of train, validation and test; they sum to 1.

    Shape:
        ``(num,)`` int64.

    Example:
        >>> import torch
        >>> from geoenc.data.splits import random_split
        >>> split = random_split(1000, generator=torch.Generator().manual_seed(0))
        >>> split.bincount()
        tensor([700, 100, 200])
    """
    if num < 0:
        raise ValueError(f"expected a number of samples of at least 0, got {num}")
    edges = _edges(fractions)
    order = _permutation(num, generator)
    split = torch.empty(num, dtype=torch.int64)
    middles = (torch.arange(num, dtype=torch.float64) + 0.5) / max(num, 1)
    split[order] = torch.bucketize(middles, edges)
    return split


def block_split(
    lonlat: Any,
    *,
    degrees: float = 10.0,
    generator: Generator | None = None,
    fractions: Sequence[float] = FRACTIONS,
) -> Tensor:
    """Parts drawn block by block: 0 train, 1 validation, 2 test; no block is in two parts.

    The blocks are those of `geoenc.data.splits.spatial_blocks`, in random order; each goes
    where the middle of its samples falls among the fractions, which are therefore met up to
    about half a block. Samples without a place (NaN) have no block and are drawn one by one.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; NaN is a missing place.
        degrees: side of a block.
        generator: source of randomness.
        fractions: of train, validation and test; they sum to 1.

    Shape:
        ``lonlat`` (N, 2); output ``(N,)`` int64.

    Raises:
        ValueError: the blocks are too few or too uneven to give each part one.

    Example:
        >>> import torch
        >>> from geoenc import sampling
        >>> from geoenc.data.splits import block_split
        >>> generator = torch.Generator().manual_seed(0)
        >>> split = block_split(sampling.fibonacci(10_000), generator=generator)
        >>> (split.bincount() / len(split)).round(decimals=1)
        tensor([0.7000, 0.1000, 0.2000])
    """
    edges = _edges(fractions)
    block = spatial_blocks(lonlat, degrees=degrees)
    split = torch.empty(len(block), dtype=torch.int64)
    placed = block >= 0
    split[~placed] = random_split(
        int((~placed).sum()), generator=generator, fractions=tuple(fractions)
    )
    if not bool(placed.any()):
        return split

    _, inverse, sizes = block[placed].unique(return_inverse=True, return_counts=True)
    order = _permutation(len(sizes), generator)
    sizes = sizes.double()[order]
    middles = (sizes.cumsum(0) - sizes / 2) / sizes.sum()
    part = torch.empty(len(sizes), dtype=torch.int64)
    part[order] = torch.bucketize(middles, edges)
    wanted = [index for index, fraction in enumerate(fractions) if fraction > 0]
    lacking = set(wanted) - set(part.tolist())
    if lacking:
        names = ("train", "validation", "test")
        raise ValueError(
            f"expected blocks for every part, got {len(sizes)} blocks of {degrees:g} degrees "
            f"and none for {' and '.join(names[index] for index in sorted(lacking))}; "
            "pass smaller degrees, or random_split if the places lie close together"
        )
    split[placed] = part[inverse]
    return split


def spatial_blocks(lonlat: Any, *, degrees: float = 10.0) -> Tensor:
    """The block of each place: bands of latitude, cut into cells of about the same width.

    With b bands of 180 / b degrees, b = round(180 / degrees), band i around latitude c_i has
    round(2 b cos c_i) cells, at least one. So blocks have nearly the same area everywhere,
    none crosses the antimeridian, and longitudes -180 and 180 share one.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; NaN is a missing place.
        degrees: side of a block, from 0.01 to 180.

    Shape:
        ``lonlat`` (N, 2); output ``(N,)`` int64: south to north, west to east; -1 if missing.

    Example:
        >>> from geoenc.data.splits import spatial_blocks
        >>> spatial_blocks([(-180, 5), (180, 5), (0, 90), (90, 90)], degrees=10)
        tensor([206, 206, 410, 411])
    """
    band, cell, first = bands_and_cells(lonlat, degrees=degrees)
    return torch.where(band < 0, -1, first + cell)


def bands_and_cells(
    lonlat: Any, *, degrees: float, even: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a place lies in the blocks of `spatial_blocks`: band, cell, first block of the band.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; NaN is a missing place.
        degrees: side of a block, from 0.01 to 180.
        even: 2 round(b cos c_i) cells in band i, at least two, so that colours can alternate.

    Shape:
        ``lonlat`` (N, 2); outputs ``(N,)`` int64, band and cell from 0; band -1 if missing.
    """
    places = as_lonlat(lonlat, missing=True).cpu()
    if places.ndim != 2:
        raise ValueError(
            f"expected lonlat of shape (N, 2), one row per sample, got {tuple(places.shape)}; "
            "flatten the leading dimensions"
        )
    if not 0.01 <= degrees <= 180:
        raise ValueError(f"expected degrees from 0.01 to 180, got {degrees}; 5 to 20 is usual")
    bands = max(1, round(180 / degrees))
    centres = (torch.arange(bands, dtype=torch.float64) + 0.5) * (math.pi / bands)
    step = 2 if even else 1
    cells = step * (2 * bands / step * centres.sin()).round().long().clamp(min=1)
    first = cells.cumsum(0) - cells

    lon, lat = places.nan_to_num().unbind(-1)
    band = ((lat + 90) * (bands / 180)).long().clamp(max=bands - 1)
    cell = ((lon + 180) / 360 * cells[band]).long() % cells[band]
    return torch.where(places.isnan().any(-1), -1, band), cell, first[band]


def _edges(fractions: Sequence[float]) -> Tensor:
    """The two inner borders of the three parts on [0, 1]."""
    values = torch.tensor([float(fraction) for fraction in fractions], dtype=torch.float64)
    if len(values) != 3 or not bool((values >= 0).all()) or abs(values.sum().item() - 1) > 1e-6:
        raise ValueError(
            "expected three fractions (train, validation, test) of at least 0 which sum to 1, "
            f"got {tuple(fractions)}; for instance {FRACTIONS}"
        )
    return values.cumsum(0)[:2]


def _permutation(num: int, generator: Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.randperm(num, generator=generator, device=device).cpu()
