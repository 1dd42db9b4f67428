"""Priors from the labelled places around a place, found with SciPy's trees."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from geoenc.coordinates import to_xyz
from geoenc.priors.base import Prior
from geoenc.priors.counts import normalised, sparse_counts

METRICS = ("great_circle", "degrees")


@dataclass
class NearestNeighbors(Prior):
    """P(y = k | place) = (1 + n_k) / (K + Q), n_k counted among the K nearest labelled places.

    Args:
        neighbors: K; all places where there are fewer.
        metric: ``"great_circle"``, or the published ``"degrees"``: the Euclidean distance in the
            plane of longitude and latitude, which knows neither the date line nor the poles.

    Of several places at the distance of the K-th, the tree chooses.

    Example:
        >>> import torch
        >>> from geoenc.priors import NearestNeighbors
        >>> places, target = [(179.0, 0.0), (-170.0, 0.0), (0.0, 0.0)], torch.tensor([0, 1, 1])
        >>> NearestNeighbors(1).fit(places, target, 2).probabilities([(-179.0, 0.0)])
        tensor([[0.6667, 0.3333]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4: nearest neighbor (num).
    """

    neighbors: int = 100
    metric: str = "great_circle"

    def __post_init__(self) -> None:
        _check_neighbors(self.neighbors)
        _check_metric(self.metric)

    def remember(self, lonlat: np.ndarray, target: np.ndarray) -> None:
        """See `Prior`."""
        self._tree = _Tree(lonlat, self.metric)
        self._target = target

    def distributions(self, lonlat: np.ndarray) -> np.ndarray:
        """See `Prior`."""
        _, found = self._tree.nearest(lonlat, self.neighbors)
        rows = np.arange(len(lonlat)).repeat(found.shape[1])
        shape = (len(lonlat), self.num_classes)
        return normalised(1 + sparse_counts(rows, self._target[found.ravel()], shape).toarray())


@dataclass
class WithinDistance(Prior):
    """P(y = k | place) = (1 + n_k) / (n + Q), n_k counted among the n places within a radius.

    Args:
        radius_degrees: an angle; one degree along a great circle is 111.2 km.
        metric: as for `NearestNeighbors`.

    Example:
        >>> import torch
        >>> from geoenc.priors import WithinDistance
        >>> prior = WithinDistance(3.0).fit([(0.0, 89.0), (180.0, 88.0)], torch.tensor([0, 1]), 2)
        >>> prior.probabilities([(180.0, 89.0), (0.0, 0.0)])
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4: nearest neighbor (spatial).
    """

    radius_degrees: float = 2.0
    metric: str = "great_circle"

    def __post_init__(self) -> None:
        if not self.radius_degrees > 0:
            raise ValueError(f"expected radius_degrees above 0, got {self.radius_degrees}")
        _check_metric(self.metric)

    def remember(self, lonlat: np.ndarray, target: np.ndarray) -> None:
        """See `Prior`."""
        places, where = np.unique(lonlat, axis=0, return_inverse=True)
        self._tree = _Tree(places, self.metric)
        self._counts = sparse_counts(where.ravel(), target, (len(places), self.num_classes))

    def distributions(self, lonlat: np.ndarray) -> np.ndarray:
        """See `Prior`."""
        near = self._tree.within(lonlat, np.full(len(lonlat), self.radius_degrees))
        near.data = np.ones_like(near.data)
        return normalised(1 + (near @ self._counts).toarray())


@dataclass
class KernelDensity(Prior):
    """P(y = k | place) ~ s_k + min_j s_j, s_k = sum_i c_ik exp(-d_i^2 / (2 h^2)) over d_i <= 2 h.

    c_ik counts class k in bin i, at distance d_i; the minimum is over s_j > 0. The bandwidth h
    adapts: it is half the distance to the K-th nearest pair of a bin and a class.

    Args:
        neighbors: K; all pairs where there are fewer.
        bin_degrees: q; places of a class are counted at floor(lon / q) q, floor(lat / q) q.
        metric: as for `NearestNeighbors`.

    Example:
        >>> import torch
        >>> from geoenc.priors import KernelDensity
        >>> places, target = [(1.0, 0.0), (2.0, 0.0), (40.0, 0.0)], torch.tensor([0, 1, 2])
        >>> KernelDensity(2, bin_degrees=1.0).fit(places, target, 3).probabilities([(0.0, 0.0)])
        tensor([[0.6463, 0.2358, 0.1179]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4: adaptive kernel, after Berg et al.,
        Birdsnap, CVPR 2014.

    Differs:
        The original fails where h = 0; here only the bins at the place itself count then. It has
        h for h^2 in the normaliser of the kernel, which cancels.
    """

    neighbors: int = 500
    bin_degrees: float = 0.001
    metric: str = "great_circle"

    def __post_init__(self) -> None:
        _check_neighbors(self.neighbors)
        if not self.bin_degrees > 0:
            raise ValueError(f"expected bin_degrees above 0, got {self.bin_degrees}")
        _check_metric(self.metric)

    def remember(self, lonlat: np.ndarray, target: np.ndarray) -> None:
        """See `Prior`."""
        cells = np.floor(lonlat / self.bin_degrees)
        bins, where = np.unique(cells, axis=0, return_inverse=True)
        self._tree = _Tree(bins * self.bin_degrees, self.metric)
        self._counts = sparse_counts(where.ravel(), target, (len(bins), self.num_classes))
        self._pairs = np.diff(self._counts.indptr)

    def distributions(self, lonlat: np.ndarray) -> np.ndarray:
        """See `Prior`."""
        distance, found = self._tree.nearest(lonlat, self.neighbors)
        enough = self._pairs[found].cumsum(1) >= self.neighbors
        last = np.where(enough.any(1), enough.argmax(1), found.shape[1] - 1)
        reach = np.take_along_axis(distance, last[:, None], 1)[:, 0]
        near = self._tree.within(lonlat, reach)
        width = reach.repeat(np.diff(near.indptr)) / 2
        ratio = np.divide(near.data, width, out=np.zeros_like(width), where=width > 0)
        near.data = np.exp(-(ratio**2) / 2)
        scores = (near @ self._counts).toarray()
        least = np.where(scores > 0, scores, np.inf).min(1, keepdims=True)
        return normalised(scores + least)


class _Tree:
    """Places in a k-d tree: as unit vectors, where a chord 2 sin(d / 2) spans d, or as degrees."""

    def __init__(self, lonlat: np.ndarray, metric: str) -> None:
        from scipy.spatial import KDTree

        self.metric = metric
        self.tree = KDTree(self._points(lonlat))

    def _points(self, lonlat: np.ndarray) -> np.ndarray:
        if self.metric == "degrees":
            return lonlat
        return to_xyz(torch.from_numpy(np.ascontiguousarray(lonlat))).numpy()

    def nearest(self, lonlat: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances in degrees and numbers of the nearest places, nearest first, ``(n, count)``."""
        count = min(count, self.tree.n)
        distance, found = self.tree.query(self._points(lonlat), k=count, workers=-1)
        return self._degrees(distance.reshape(-1, count)), found.reshape(-1, count)

    def within(self, lonlat: np.ndarray, radius_degrees: np.ndarray) -> Any:
        """Distances in degrees of the places within a radius: a sparse matrix ``(n, places)``."""
        from scipy.sparse import csr_array

        points = self._points(lonlat)
        radius = radius_degrees
        if self.metric == "great_circle":
            radius = 2 * np.sin(np.radians(np.minimum(radius, 180.0)) / 2)
        lists = self.tree.query_ball_point(
            points, radius * (1 + 1e-9) + 1e-12, return_sorted=False, workers=-1
        )
        start = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
        found = np.fromiter(chain.from_iterable(lists), np.int64, start[-1])
        gap = points.repeat(np.diff(start), axis=0) - self.tree.data[found]
        distance = self._degrees(np.sqrt(np.einsum("ij,ij->i", gap, gap)))
        return csr_array((distance, found, start), shape=(len(lonlat), self.tree.n))

    def _degrees(self, distance: np.ndarray) -> np.ndarray:
        if self.metric == "degrees":
            return distance
        return np.degrees(2 * np.arcsin(np.minimum(distance / 2, 1.0)))


def _check_neighbors(neighbors: int) -> None:
    if neighbors < 1:
        raise ValueError(f"expected neighbors of at least 1, got {neighbors}")


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"expected metric 'great_circle' or 'degrees', got {metric!r}")
