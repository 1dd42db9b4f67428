"""Is a model as good everywhere? How its successes lie on the globe, near and far from others."""

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoenc.coordinates import EARTH_RADIUS_KM, to_xyz
from geoenc.metrics.accuracy import class_means

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CENTRES = 256
"""Neighbourhoods at once."""


@dataclass(frozen=True, eq=False)
class SelfInformation:
    """Spatial self-information of the neighbourhood of each sample, in nats; higher is stranger.

    Args:
        unmarked: how improbable it is that samples lie as they do, had they been spread evenly.
        marked: how improbable it is that right and wrong samples lie as they do.
        neighbors: samples in the neighbourhood, itself included; 0 for a missing place.

    Shape:
        each ``(N,)``; scores float64, NaN for a missing place.
    """

    unmarked: Tensor
    marked: Tensor
    neighbors: Tensor

    def weighted_mean(self) -> tuple[float, float]:
        """Of both scores, each sample weighted by the number of its neighbours."""
        weight = self.neighbors.double()
        sums = [(score.nan_to_num() * weight).sum() for score in (self.unmarked, self.marked)]
        return sums[0].item() / weight.sum().item(), sums[1].item() / weight.sum().item()


def self_information(
    lonlat: Tensor, correct: Tensor, *, radius_km: float = 100.0, max_neighbors: int = 100
) -> SelfInformation:
    """-ln 2 Phi(-|S - m| / s), where S = sum_i sum_j w_ij (v_i - v) (v_j - v) is Moran's sum.

    Around each sample, the n samples within ``radius_km`` (the nearest ``max_neighbors``) have
    the value 1 if right and -1 if wrong; unmarked, all have 1. About 5 n points of value 0 fill
    the disc in rings. w_ij is 1 where j is one of the 4 nearest of i, v the mean of all values, m
    and s are mean and standard deviation of S for values spread at random: docs/reference/metrics.

    Args:
        lonlat: places in degrees; NaN is a missing place.
        correct: whether each sample is right: booleans, or 0 and 1.
        radius_km: of a neighbourhood; 318.55 (0.05 radians) in the released tables.
        max_neighbors: how many samples at most, and all that share the place of the last.

    Shape:
        lonlat ``(N, 2)``, correct ``(N,)``.

    Example:
        >>> import torch
        >>> from geoenc.metrics import self_information
        >>> lonlat = torch.cartesian_prod(torch.arange(10), torch.arange(8)) / 10
        >>> scattered = torch.rand(80, generator=torch.Generator().manual_seed(0)) < 0.5
        >>> west = lonlat[:, 0] < 0.45  # right in the west only
        >>> one, two = (self_information(lonlat, c, radius_km=40) for c in (west, scattered))
        >>> bool(one.marked.mean() > 3 * two.marked.mean())
        True

    Reference:
        Wu et al., TorchSpatial, NeurIPS 2024, section 3; the code of PyGBS.

    Differs:
        In log space, without the ceiling -ln 1e-256 = 589.5 of the published code. Samples of one
        place share the weight that is left for them, and a sample comes before a point of the
        rings at the same distance; there, rounding and the order of rows decide.
    """
    _check(lonlat, correct, radius_km, max_neighbors)
    _check_correct(correct)
    known = ~lonlat.isnan().any(-1).cpu().numpy()
    found = np.full((3, len(lonlat)), np.nan)
    found[2] = 0
    if known.any():
        where = lonlat.cpu().double().numpy()[known]
        places, row = np.unique(where, axis=0, return_inverse=True)
        hits = correct.cpu().double().numpy()[known]
        right, wrong = _sums(row.ravel(), hits), _sums(row.ravel(), 1 - hits)
        scores = _place_scores(places, right, wrong, radius_km / EARTH_RADIUS_KM, max_neighbors)
        found[:, known] = scores[:, row.ravel()]
    unmarked, marked, neighbors = torch.from_numpy(found).to(lonlat.device)
    return SelfInformation(unmarked, marked, neighbors.long())


def _sums(index: Ints, weights: Floats) -> Floats:
    return np.bincount(index, weights=weights).astype(np.float64)


def _check(lonlat: Tensor, values: Tensor, *positive: float) -> None:
    if lonlat.ndim != 2 or lonlat.shape[1] != 2 or values.shape != lonlat.shape[:1]:
        raise ValueError(
            "expected lonlat (N, 2) and one value for each of its rows, got "
            f"{tuple(lonlat.shape)} and {tuple(values.shape)}; give one row per sample"
        )
    if not all(value > 0 for value in positive):
        raise ValueError(
            f"expected a radius and a number of neighbours above 0, got {positive}; "
            "100 km and 100 neighbours are usual"
        )


def _check_correct(correct: Tensor) -> None:
    if not bool(((correct == 0) | (correct == 1)).all()):
        raise ValueError(
            "expected correct to hold only 0 and 1, got other numbers; compare the score with a "
            "threshold first, as error_km < 750"
        )


def _place_scores(places: Floats, right: Floats, wrong: Floats, angle: float, most: int) -> Floats:
    """Unmarked score, marked score and number of neighbours of each place, (3, P)."""
    from scipy.spatial import cKDTree

    xyz, frames = _local_frames(places)
    tree, count = cKDTree(xyz), right + wrong
    reach = np.nextafter(2 * math.sin(min(angle, math.pi) / 2), np.inf)
    nearest = range(1, min(most, len(xyz)) + 1)

    def around(rows: Ints) -> tuple[Ints, Ints, Floats]:
        near = tree.query(xyz[rows], nearest, distance_upper_bound=reach)[1]
        sizes = np.append(count, 0.0)[near]
        inside = (sizes > 0) & (sizes.cumsum(1) - sizes < most)
        return inside.nonzero()[0], near[inside], (sizes * inside).sum(1)

    starts = np.arange(_CENTRES, len(xyz), _CENTRES)
    blocks = np.split(np.arange(len(xyz)), starts)
    order = np.concatenate([around(rows)[2] for rows in blocks]).argsort()
    scores = np.empty((3, len(xyz)))
    for rows in np.split(order, starts):  # equally many neighbours, so equal rings
        centre, place, _ = around(rows)
        local = np.einsum("nij,nj->ni", frames[rows[centre]], xyz[place] - xyz[rows[centre]])
        scores[:, rows] = _scores(local, centre, right[place], wrong[place], angle)
    return scores


def _scores(local: Floats, centre: Ints, right: Floats, wrong: Floats, angle: float) -> Floats:
    """The scores of some neighbourhoods: of places in the frame of their centre, with counts."""
    from scipy.spatial import cKDTree
    from scipy.special import log_ndtr

    plus, minus = _sums(centre, right), _sums(centre, wrong)
    size, count = plus + minus, right + wrong
    rings = [_rings(int(n), angle) for n in size]
    grid = np.array([len(ring.points) for ring in rings])
    disc = np.repeat(np.arange(len(grid)), grid)

    tree = cKDTree(_apart(local, centre))
    own = np.minimum(4, count - 1)  # of the four nearest, those of the same place
    near, weight = _links(tree, _apart(local, centre), _gaps(local, centre, rings), count, own)
    points = _apart(np.concatenate([ring.points for ring in rings]), disc)
    gaps = np.concatenate([ring.gaps for ring in rings])
    near_grid, weight_grid = _links(tree, points, gaps, count, None)

    scores = []
    for marks, n, m in ((count, size, 0 * size), (right - wrong, plus, minus)):
        middle = (n - m) / (size + grid)
        v, values = middle[centre], np.append(marks, 0.0)
        z = marks - count * v  # sum of v_i - v over the samples of a place, and of its square
        squares = count - (marks + z) * v
        lag = (weight * values[near]).sum(1) - (4 - own) * v
        place = z * lag + own / np.maximum(count - 1, 1) * (z**2 - squares)
        lag = (weight_grid * values[near_grid]).sum(1) - 4 * middle[disc]
        moran = _sums(centre, place) - middle * _sums(disc, lag)
        mean, deviation = _null(n, m, grid)
        scores.append(-math.log(2) - log_ndtr(-np.abs(moran - mean) / deviation))
    return np.stack([*scores, size])


def _links(
    tree: Any, points: Floats, gaps: Floats, count: Floats, own: Floats | None
) -> tuple[Ints, Floats]:
    """Places around each point, and how many of their samples are among the 4 nearest, as share.

    The four are ``own`` samples of the point itself, which is then a place and not its own
    neighbour, points of the rings at the distances ``gaps``, and samples of the other places.
    """
    reach = np.nextafter(gaps.max(), np.inf)
    threads = torch.get_num_threads()
    distance, near = tree.query(points, 5, distance_upper_bound=reach, workers=threads)
    sizes = np.append(count, 0.0)[near]
    if own is not None:
        sizes[near == np.arange(len(near))[:, None]] = 0
    closer = sum(((1 + 1e-9) * gap[:, None] < distance).astype(np.float64) for gap in gaps.T)
    before = closer + sizes.cumsum(1) - sizes
    free = 4 - before - (0 if own is None else own[:, None])
    return near, np.clip(free, 0, sizes) / np.maximum(sizes, 1)


def _apart(points: Floats, neighborhood: Ints) -> Floats:
    """Points of neighbourhoods that do not see each other, for one tree."""
    return np.column_stack([points, 4.0 * neighborhood])


def _gaps(local: Floats, centre: Ints, rings: list["_Rings"]) -> Floats:
    """Distances of places to the 4 nearest points of the rings of their neighbourhood."""
    parts = np.split(local, np.flatnonzero(np.diff(centre)) + 1)
    return np.concatenate(
        [ring.tree.query(part, 4)[0] for ring, part in zip(rings, parts, strict=True)]
    )


def _null(plus: Floats, minus: Floats, grid: Ints) -> tuple[Floats, Floats]:
    """Mean and standard deviation of Moran's sum for values 1, -1 and 0 spread at random.

    With n_c values c of N, a_c = c - v and q = 4 max(n_1, n_-1) / N:
    m = -sum_c a_c^2 (1 + 4 n_c / N) over the c that occur, and s = 1 + the square root of
    sum over c = 1, -1 of 8 n_c (n_c - 1) / N (1 - 4 (2 n_c - 1) / (3 N))
    + min(n_1, n_-1) q (1 - q) sum over c = 1, -1 of (a_1 a_-1 - 2 a_c a_0 + a_0^2)^2.
    """
    total = plus + minus + grid
    middle = (plus - minus) / total
    mean, variance = np.zeros((2, len(total)))
    for value, n in ((1, plus), (-1, minus), (0, grid)):
        mean -= (n > 0) * (value - middle) ** 2 * (1 + 4 * n / total)
    for n in (plus, minus):
        variance += 8 * n * (n - 1) / total * (1 - 4 * (2 * n - 1) / (3 * total))
    share = 4 * np.maximum(plus, minus) / total
    pairs = np.minimum(plus, minus) * share * (1 - share)
    both = (1 - middle) * (-1 - middle) + middle**2
    for value in (1, -1):
        variance += pairs * (both + 2 * (value - middle) * middle) ** 2
    return mean, 1 + np.sqrt(variance)


class _Rings(NamedTuple):
    """Points of value 0, their tree, and the distances of each to the 4 nearest others."""

    points: Floats
    tree: Any
    gaps: Floats


@functools.lru_cache(maxsize=512)
def _rings(n: int, angle: float) -> _Rings:
    """About 5 n points in a disc around the north pole, less the pole."""
    from scipy.spatial import cKDTree

    step = 1 / math.sqrt(math.ceil(5 * n / (math.pi * angle**2)))
    rings = []
    for ring in range(1, math.ceil(angle / step) + 1):
        size = math.ceil(2 * math.pi * ring)
        azimuth = 2 * math.pi / size * np.arange(size) - math.pi
        flat = math.sin(step * ring) * np.stack([np.cos(azimuth), np.sin(azimuth)], 1)
        rings.append(np.column_stack([flat, np.full(size, -2 * math.sin(step * ring / 2) ** 2)]))
    points = np.concatenate(rings)
    tree = cKDTree(points)
    return _Rings(points, tree, tree.query(points, 5)[0][:, 1:])


def _local_frames(places: Floats) -> tuple[Floats, Floats]:
    """Unit vectors of places, (P, 3), and south, east and up there, (P, 3, 3)."""
    xyz = to_xyz(torch.from_numpy(places)).numpy()
    lon, lat = np.radians(places.T)
    south = np.stack([np.sin(lat) * np.cos(lon), np.sin(lat) * np.sin(lon), -np.cos(lat)], 1)
    east = np.stack([-np.sin(lon), np.cos(lon), 0 * lon], 1)
    return xyz, np.stack([south, east, xyz], 1)


def relative_information(
    lonlat: Tensor,
    correct: Tensor,
    *,
    radius_km: float = 100.0,
    rings: int = 10,
    min_samples: int = 20,
) -> Tensor:
    """sum_g n_g / n (p ln(p / p_g) + (1 - p) ln((1 - p) / (1 - p_g))), in nats; lower is fairer.

    Of the n samples within ``radius_km`` of a sample, the share p is right; of the n_g in ring g
    around it, p_g. The sum is over rings with enough samples, and 1e-8 is added to p_g and to
    1 - p_g. It is 0 where a model is as often right near a sample as further away.

    Args:
        lonlat: places in degrees; NaN is a missing place.
        correct: whether each sample is right: booleans, or 0 and 1.
        radius_km: of a neighbourhood; 318.55 (0.05 radians) in the released tables.
        rings: of equal width.
        min_samples: of a ring.

    Shape:
        lonlat ``(N, 2)``, correct ``(N,)``, and the result, float64; NaN for a missing place.

    Example:
        >>> import torch
        >>> from geoenc.metrics import relative_information
        >>> lonlat = torch.cartesian_prod(torch.arange(15), torch.arange(15)) / 10
        >>> centre = (lonlat - 0.7).norm(dim=-1) < 0.4  # right in the middle only
        >>> bool(relative_information(lonlat, centre)[112] > 0.1)
        True

    Reference:
        The distance-lag score of PyGBS, whose released tables it gives.

    Differs:
        A ring of which all are wrong counts as such; in the published code as all right.
    """
    from scipy.spatial import cKDTree

    _check(lonlat, correct, radius_km, rings, min_samples)
    _check_correct(correct)
    found = np.full(len(lonlat), np.nan)
    known = ~lonlat.isnan().any(-1).cpu().numpy()
    xyz = to_xyz(lonlat.cpu().double()).numpy()[known]
    right, tree = correct.cpu().double().numpy()[known], cKDTree(xyz)
    angle, scores = min(radius_km / EARTH_RADIUS_KM, math.pi), [np.empty(0)]
    reach = np.nextafter(2 * math.sin(angle / 2), np.inf)
    for start in range(0, len(xyz), _CENTRES):
        centres = xyz[start : start + _CENTRES]
        near = tree.query_ball_point(centres, reach)
        owner = np.repeat(np.arange(len(near)), [len(one) for one in near])
        flat = np.concatenate(near).astype(np.int64)
        chord = np.linalg.norm(xyz[flat] - centres[owner], axis=1)
        ring = np.floor(2 * np.arcsin(np.minimum(chord / 2, 1)) / angle * rings).astype(np.int64)
        cell, size = owner * rings + ring.clip(max=rings - 1), (len(near), rings)
        count = np.bincount(cell, minlength=len(near) * rings).reshape(size)
        hits = np.bincount(cell, right[flat], len(near) * rings).reshape(size).astype(np.float64)
        scores.append(_relative(hits, count, min_samples))
    found[known] = np.concatenate(scores)
    return torch.from_numpy(found).to(lonlat.device)


def _relative(hits: Floats, count: Ints, min_samples: int) -> Floats:
    """The score of neighbourhoods, of right samples and samples in each ring."""
    from scipy.special import rel_entr

    total = count.sum(1, keepdims=True)
    whole, ring = hits.sum(1, keepdims=True) / total, hits / np.maximum(count, 1)
    divergence = rel_entr(whole, ring + 1e-8) + rel_entr(1 - whole, 1 - ring + 1e-8)
    return (np.where(count >= min_samples, count / total, 0) * divergence).sum(1)


def worst_region(score: Tensor, region: Tensor, *, min_samples: int = 30) -> tuple[int, float]:
    """argmin and min over regions of the mean score, of those with enough samples to tell.

    Args:
        score: of each sample, for example whether it is right.
        region: its number, from 0; -1 is no region.
        min_samples: smaller regions are left out, since the worst of many small ones is chance.

    Shape:
        both ``(N,)``.

    Raises:
        ValueError: no region has enough samples.

    Example:
        >>> import torch
        >>> from geoenc.metrics import worst_region
        >>> correct = torch.tensor([True, True, False, True, False])
        >>> worst_region(correct, torch.tensor([0, 0, 1, 1, 2]), min_samples=2)
        (1, 0.5)
    """
    inside = region >= 0
    score, region = score[inside].double(), region[inside]
    counts = region.bincount()
    if not bool((counts >= min_samples).any()):
        raise ValueError(
            f"expected a region of at least {min_samples} samples, got at most "
            f"{int(counts.max()) if len(counts) else 0}; pass larger regions or min_samples"
        )
    means = class_means(score, region, len(counts)).masked_fill(counts < min_samples, torch.inf)
    worst = int(means.argmin())
    return worst, means[worst].item()


@dataclass(frozen=True, eq=False)
class DensityProfile:
    """Mean score of samples by how far their k-th neighbour is, from crowded to lonely.

    Args:
        edges_km: of the bins.
        samples: in each bin.
        score: mean in each bin.

    Shape:
        edges_km ``(Q + 1,)``, samples and score ``(Q,)``.
    """

    edges_km: Tensor
    samples: Tensor
    score: Tensor


def density_profile(
    lonlat: Tensor,
    score: Tensor,
    *,
    among: Tensor | None = None,
    neighbors: int = 10,
    bins: int = 5,
) -> DensityProfile:
    """Mean score between quantiles of d_k, the distance of a sample to its k-th neighbour.

    Args:
        lonlat: places in degrees; samples without one (NaN) are left out.
        score: of each sample, for example whether it is right.
        among: places of which the neighbours are, as those of the training data; the samples
            themselves, each without itself, if None.
        neighbors: k.
        bins: as many quantiles, fewer where many distances are equal.

    Shape:
        lonlat ``(N, 2)``, score ``(N,)``, among ``(M, 2)``.

    Example:
        >>> import torch
        >>> from geoenc.metrics import density_profile
        >>> lonlat = torch.stack([torch.arange(1.0, 9.0) ** 2, torch.zeros(8)], -1)
        >>> density_profile(lonlat, lonlat[:, 0] < 20, neighbors=1, bins=2).score
        tensor([1., 0.], dtype=torch.float64)
    """
    from scipy.spatial import cKDTree

    _check(lonlat, score, neighbors, bins)
    known = ~lonlat.isnan().any(-1)
    places = to_xyz(lonlat[known].cpu().double())
    crowd = places
    if among is not None:
        crowd = to_xyz(among[~among.isnan().any(-1)].cpu().double())
    rank = neighbors + (among is None)
    if len(crowd) < rank:
        raise ValueError(
            f"expected at least {rank} places for {neighbors} neighbours, got {len(crowd)}; "
            "pass fewer neighbors"
        )
    chord = torch.from_numpy(cKDTree(crowd.numpy()).query(places.numpy(), [rank])[0][:, 0])
    distance = 2 * EARTH_RADIUS_KM * (chord / 2).clamp(max=1).asin()
    edges = distance.quantile(torch.linspace(0, 1, bins + 1, dtype=torch.float64)).unique()
    group = torch.bucketize(distance, edges[1:-1])
    size = max(1, len(edges) - 1)
    means = class_means(score[known].cpu().double(), group, size)
    return DensityProfile(edges, group.bincount(minlength=size), means)
