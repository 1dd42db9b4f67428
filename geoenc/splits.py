"""Cross-validation on the sphere: which samples may be trained on where others are tested.

Every splitter works as those of scikit-learn do: ``split(lonlat)`` gives pairs of row numbers,
and a splitter is a valid ``cv`` where the places are the features. Where they are not, pass
``cv=list(splitter.split(lonlat))``.
"""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from geoenc._optional import require
from geoenc.coordinates import EARTH_RADIUS_KM, as_lonlat, to_xyz
from geoenc.data.regions import LEVELS, region_of
from geoenc.data.splits import bands_and_cells, spatial_blocks

Rows = NDArray[np.int64]
Folds = Iterator[tuple[Rows, Rows]]


class Splitter(Protocol):
    """What `Buffered` takes: any splitter of this module or of scikit-learn."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Folds: ...

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int: ...


class _Blocks:
    """Folds of whole blocks: in random order, each to the fold with the fewest samples."""

    n_splits: int
    seed: int

    def _check_folds(self) -> None:
        if self.n_splits < 2:
            raise ValueError(f"expected n_splits of at least 2, got {self.n_splits}; 5 is usual")

    def _blocks(self, lonlat: Tensor) -> Tensor:
        raise NotImplementedError

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """The number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        """Rows to train on and rows to test on, fold by fold; the same at every call.

        Args:
            X: places, as `geoenc.as_lonlat` takes them, all known.
            y, groups: not used.
        """
        _, block, sizes = self._blocks(_known(X)).unique(return_inverse=True, return_counts=True)
        if len(sizes) < self.n_splits:
            raise ValueError(
                f"expected at least {self.n_splits} blocks for as many folds, got {len(sizes)}; "
                "pass smaller blocks or fewer n_splits"
            )
        generator = Generator().manual_seed(self.seed)
        fold, load = torch.empty_like(sizes), torch.zeros(self.n_splits, dtype=torch.int64)
        for number in torch.randperm(len(sizes), generator=generator).tolist():
            fold[number] = load.argmin()
            load[fold[number]] += sizes[number]
        yield from _held_out(fold[block], self.n_splits)


@dataclass(frozen=True)
class PlaceKFold(_Blocks):
    """Folds of places at random; what is within ``within_km`` of each other stays together.

    Such samples are one place, also along a chain. Beyond that, neighbours fall into different
    folds, so this measures interpolation: the easiest honest split, to be printed beside a
    blocked one.

    Args:
        n_splits: folds.
        within_km: how near, above 0. Images of one place often differ by some metres.
        seed: of the order of places.

    Example:
        >>> from geoenc.splits import PlaceKFold
        >>> lonlat = [(0, 0), (0, 0.0001), (90, 0), (90, 0)]
        >>> [test.tolist() for train, test in PlaceKFold(2).split(lonlat)]
        [[0, 1], [2, 3]]
    """

    n_splits: int = 5
    _: KW_ONLY
    within_km: float = 0.025
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_folds()
        _check_distance("within_km", self.within_km)

    def _blocks(self, lonlat: Tensor) -> Tensor:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree

        places, row = lonlat.unique(dim=0, return_inverse=True)
        tree = cKDTree(to_xyz(places).numpy())
        pairs = tree.query_pairs(_chord(self.within_km), output_type="ndarray").T
        near = coo_array((np.ones(pairs.shape[1]), pairs), shape=(len(places), len(places)))
        return torch.from_numpy(connected_components(near, directed=False)[1]).long()[row]


@dataclass(frozen=True)
class BlockKFold(_Blocks):
    """Folds of blocks of the globe, of nearly equal area, or of H3 cells.

    Blocks by degrees or kilometres are those of `geoenc.data.splits.spatial_blocks`: bands of
    latitude cut into cells of about the same width, also at the poles; the antimeridian is a
    border of cells. Neighbours on two sides of a border may still be in different folds: see
    `Buffered`.

    Args:
        n_splits: folds.
        degrees: side of a block, from 0.01 to 180.
        km: the same in kilometres, from 1.2 to 20,000.
        h3: resolution of the cells, 0 (about 1,200 km across) to 15; needs the extra ``grids``.
        seed: of the order of blocks.

    Raises:
        ValueError: not exactly one of degrees, km and h3.

    Example:
        >>> from geoenc.splits import BlockKFold
        >>> lonlat = [(1, 1), (2, 2), (41, 1), (42, 2)]
        >>> [test.tolist() for train, test in BlockKFold(2, degrees=10).split(lonlat)]
        [[0, 1], [2, 3]]
    """

    n_splits: int = 5
    _: KW_ONLY
    degrees: float | None = None
    km: float | None = None
    h3: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_folds()
        given = {name: getattr(self, name) for name in ("degrees", "km", "h3")}
        if sum(value is not None for value in given.values()) != 1:
            raise ValueError(
                f"expected one of degrees, km and h3, got {given}; degrees=10 is usual"
            )
        if self.h3 is None:
            _degrees(self.degrees, self.km)
        elif self.h3 not in range(16):
            raise ValueError(f"expected an h3 resolution from 0 to 15, got {self.h3}; try 2")

    def _blocks(self, lonlat: Tensor) -> Tensor:
        if self.h3 is None:
            return spatial_blocks(lonlat, degrees=_degrees(self.degrees, self.km))
        cell = require("h3", extra="grids").latlng_to_cell
        names = [cell(lat, lon, self.h3) for lon, lat in lonlat.tolist()]
        return torch.from_numpy(np.unique(names, return_inverse=True)[1].reshape(-1))


@dataclass(frozen=True)
class Checkerboard:
    """Two folds, the black and the white squares of a board around the globe.

    Training squares touch every test square, so this is harder than places at random and easier
    than whole blocks. The squares are blocks as in `BlockKFold`, with an even number in each band
    of latitude, so that colours alternate along it, the antimeridian included. Between bands of
    different numbers they cannot alternate everywhere.

    Args:
        degrees: side of a square.
        km: the same in kilometres.

    Example:
        >>> from geoenc.splits import Checkerboard
        >>> lonlat = [(1, 1), (11, 1), (21, 1), (-179, 1), (179, 1)]
        >>> [test.tolist() for train, test in Checkerboard(degrees=10).split(lonlat)]
        [[1, 4], [0, 2, 3]]
    """

    degrees: float | None = None
    _: KW_ONLY
    km: float | None = None

    def __post_init__(self) -> None:
        if (self.degrees is None) == (self.km is None):
            raise ValueError(
                f"expected one of degrees and km, got {self.degrees} and {self.km}; "
                "degrees=10 is usual"
            )
        _degrees(self.degrees, self.km)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Two."""
        return 2

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        """As `BlockKFold.split`."""
        side = _degrees(self.degrees, self.km)
        band, cell, _ = bands_and_cells(_known(X), degrees=side, even=True)
        colour = (band + cell) % 2
        if len(colour.unique()) < 2:
            raise ValueError(
                f"expected places on squares of both colours, got one colour of squares of "
                f"{side:g} degrees; pass smaller squares"
            )
        yield from _held_out(colour, 2)


@dataclass(frozen=True)
class LeaveRegionOut:
    """Each region once the test: train on the other continents, or countries.

    Args:
        level: ``"continent"``, ``"subregion"`` or ``"country"`` of the embedded map, as
            `geoenc.data.regions.region_of` finds them. Places far from land are a region of their
            own. With ``groups``, the regions are those.

    Example:
        >>> from geoenc.splits import LeaveRegionOut
        >>> lonlat = [(2.35, 48.86), (25.0, -30.0), (13.4, 52.5)]  # Paris, Free State, Berlin
        >>> [test.tolist() for train, test in LeaveRegionOut("continent").split(lonlat)]
        [[1], [0, 2]]
    """

    level: str = "country"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"expected level in {LEVELS}, got {self.level!r}; choose one")

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many regions there are; needs X or groups."""
        if X is None and groups is None:
            raise ValueError("expected X or groups to count regions, got neither; pass the places")
        return int(self._regions(X, groups).max()) + 1

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        """As `BlockKFold.split`, one fold for each region, by name.

        Args:
            X: places; only their number matters if there are groups.
            y: not used.
            groups: the region of each sample, numbers or names.
        """
        region = self._regions(X, groups)
        count = int(region.max()) + 1
        if count < 2:
            raise ValueError(
                f"expected samples in at least 2 regions, got {count}; pass another level or groups"
            )
        yield from _held_out(region, count)

    def _regions(self, X: Any, groups: Any) -> Tensor:
        if groups is None:
            return region_of(_known(X), self.level)[0]
        names = np.asarray(groups)
        if names.ndim != 1 or (X is not None and len(names) != len(X)):
            raise ValueError(
                f"expected one group for each sample, got groups of shape {names.shape}; pass a "
                "list as long as X"
            )
        return torch.from_numpy(np.unique(names, return_inverse=True)[1].reshape(-1))


@dataclass(frozen=True)
class Buffered:
    """Another splitter, without the training samples nearer than ``buffer_km`` to a test sample.

    What is near is alike, so a model that is tested next to its training data is tested on what
    it has seen. Distances are along the great circle.

    Args:
        splitter: of this module, or of scikit-learn.
        buffer_km: the smallest distance that is left, above 0.

    Example:
        >>> from geoenc.splits import Buffered, PlaceKFold
        >>> lonlat = [(0, 0), (0.5, 0), (5, 0), (5.5, 0)]
        >>> for train, test in Buffered(PlaceKFold(4), 100).split(lonlat):
        ...     print(train.tolist(), test.tolist())
        [2, 3] [0]
        [2, 3] [1]
        [0, 1] [3]
        [0, 1] [2]
    """

    splitter: Splitter
    buffer_km: float

    def __post_init__(self) -> None:
        _check_distance("buffer_km", self.buffer_km)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """That of the splitter."""
        return self.splitter.get_n_splits(X, y, groups)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        """Folds of the splitter, with fewer rows to train on."""
        from scipy.spatial import cKDTree

        xyz = to_xyz(_known(X)).numpy()
        for train, test in self.splitter.split(X, y, groups):
            chord = cKDTree(xyz[test]).query(xyz[train])[0]
            far = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1)) >= self.buffer_km
            if not far.any():
                raise ValueError(
                    f"expected training samples {self.buffer_km:g} km from all test samples, got "
                    "none in a fold; pass a smaller buffer_km or larger blocks"
                )
            yield train[far], test


def _known(X: Any) -> Tensor:
    """Places of all samples, (N, 2); refuses missing ones."""
    lonlat = as_lonlat(X, missing=True).cpu()
    if lonlat.ndim != 2:
        raise ValueError(
            f"expected places (N, 2), one row per sample, got {tuple(lonlat.shape)}; flatten the "
            "leading dimensions"
        )
    missing = int(lonlat.isnan().any(-1).sum())
    if missing:
        raise ValueError(
            f"expected a place for each sample, got none for {missing} of {len(lonlat)}; leave "
            "them out, since they belong to no part of the globe"
        )
    return lonlat


def _check_distance(name: str, km: float) -> None:
    if not 0 < km < math.pi * EARTH_RADIUS_KM:
        raise ValueError(
            f"expected {name} above 0 and below 20,015, half around the Earth, got {km}; give "
            "kilometres"
        )


def _chord(km: float) -> float:
    """The distance of unit vectors whose places are so far from each other."""
    return 2 * math.sin(km / EARTH_RADIUS_KM / 2)


def _degrees(degrees: float | None, km: float | None) -> float:
    """The side of a block in degrees, from either unit."""
    side = math.degrees(km / EARTH_RADIUS_KM) if km is not None else degrees
    if side is None or not 0.01 <= side <= 180:
        raise ValueError(
            f"expected blocks of 0.01 to 180 degrees, or 1.2 to 20,000 km, got degrees={degrees} "
            f"and km={km}; 5 to 20 degrees, or 500 to 2,000 km, are usual"
        )
    return side


def _held_out(fold: Tensor, folds: int) -> Folds:
    number = fold.numpy()
    for index in range(folds):
        yield np.flatnonzero(number != index), np.flatnonzero(number == index)
