"""Hybrids: what an encoder says of a place, together with what the nearest training rows say.

Nothing here is fitted to training rows: the answers of neighbours are only averaged, and a few
numbers are chosen on validation rows, whose neighbours are training rows as those of test rows.
So no row ever counts among its own neighbours.
"""

import math
import time
from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from geoenc.bench import neighbours as near
from geoenc.bench.entries import Entry
from geoenc.bench.parts import Part, Parts, taken
from geoenc.bench.protocols import Options, Protocol, Said, trained
from geoenc.bench.settings import Settings
from geoenc.coordinates import to_xyz

NEIGHBOURS = 32
"""Training rows that kriging looks at."""
RANGES = (0.3, 1.0, 3.0, 10.0)
"""Lengths of the covariance, in typical distances from a training row to the last neighbour."""
NUGGETS = (0.03, 0.3, 1.0, 3.0)
"""Variances of the noise, where that of the smooth part is 1."""
COUNTS = (5, 10, 25, 50, 100, 200)
"""Numbers of neighbours of a vote: more than for the floor, since an encoder sharpens it."""
WEIGHTS = tuple(step / 10 for step in range(11))
"""Of the neighbours in a pool."""
FLOORS = (0.01, 0.1, 0.3)
"""Share of the neighbours' probability that is spread over all classes."""
ENOUGH = 2000
"""Validation rows that choose a covariance, which costs most."""
_ROWS = 2048
"""Systems of equations at once."""


def kriging_weights(distance: Tensor, places: Tensor, length: float, nugget: float) -> Tensor:
    """w = K⁻¹ (k + μ 1), with μ such that w sums to 1: ordinary kriging.

    K_ij = exp(-|x_i - x_j| / length) + nugget [i = j] and k_i = exp(-|x - x_i| / length).

    Args:
        distance: |x - x_i|, chords of the unit sphere.
        places: unit vectors x_i.
        length: of the covariance, in chords.
        nugget: variance of what neighbours do not share.

    Shape:
        ``(n, k)`` and ``(n, k, 3)`` to ``(n, k)``.

    Example:
        >>> import torch
        >>> from geoenc.bench.hybrids import kriging_weights
        >>> places = torch.eye(3, dtype=torch.float64)[None]
        >>> kriging_weights(torch.ones(1, 3, dtype=torch.float64), places, 1.0, 0.1).sum()
        tensor(1., dtype=torch.float64)

    Reference:
        Cressie, Statistics for Spatial Data, 1993, section 3.2.
    """
    gap = (places[:, :, None] - places[:, None]).square().sum(-1).sqrt()
    covariance = (-gap / length).exp()
    covariance.diagonal(dim1=1, dim2=2).add_(nugget)
    sides = torch.stack([(-distance / length).exp(), torch.ones_like(distance)], -1)
    simple, ones = torch.cholesky_solve(sides, torch.linalg.cholesky(covariance)).unbind(-1)
    missing = (1 - simple.sum(1, keepdim=True)) / ones.sum(1, keepdim=True)
    return simple + missing * ones


def pool(encoder: Tensor, neighbours: Tensor, weight: float, floor: float, classes: int) -> Tensor:
    """(1 - w) f + w g, and for classes (1 - w) log P + w log((1 - e) Q + e / C).

    P is the softmax of the encoder's scores and Q the share of each class among the neighbours.

    Args:
        encoder: numbers f ``(n,)``, or scores ``(n, C)``.
        neighbours: numbers g ``(n,)``, or votes ``(n, C)``, of which negative ones count as 0.
        weight: w, from 0, the encoder alone, to 1, the neighbours alone.
        floor: e.
        classes: C; 0 for numbers.

    Example:
        >>> import torch
        >>> from geoenc.bench.hybrids import pool
        >>> pool(torch.tensor([1.0]), torch.tensor([3.0]), 0.25, 0.1, 0)
        tensor([1.5000])
    """
    if not classes:
        return (1 - weight) * encoder + weight * neighbours
    votes = neighbours.clamp_min(0)
    share = votes / votes.sum(1, keepdim=True).clamp_min(1e-300)
    said = ((1 - floor) * share + floor / classes).log()
    return (1 - weight) * encoder.double().log_softmax(-1) + weight * said


def kriging(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """Ordinary kriging from the nearest training rows; each class has its indicator kriged.

    The length and the nugget of the covariance are chosen on validation.
    """
    outputs, search = _kriged(parts, None if chosen is None else [_covariance(chosen)])
    return _said(parts, outputs, search[0]["settings"], search, deterministic=True)


def encoder_and_neighbours(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """`pool` of a trained encoder and of votes, or kriging, of the nearest training rows.

    Which of the two, their settings, the weight and the floor are chosen on validation.
    """
    assert entry is not None
    said = parts.memory.get(("trained", entry.name, seed))
    if said is None:
        option = None if chosen is None else chosen["encoder"]
        said = trained(parts, entry, settings, seed, option)
    experts = parts.memory.setdefault("experts", {})
    if not experts:
        experts["kriging"] = _kriged(parts, None)
        experts["votes"] = _voted(parts)
    train, validation = parts["train"], parts["validation"]
    start = time.process_time()
    tried: list[Options] = []
    floors = FLOORS if train.classes else (0.0,)
    kinds = experts if chosen is None else [chosen["neighbours"]]
    pairs = product(WEIGHTS, floors) if chosen is None else [(chosen["weight"], chosen["floor"])]
    for kind, (weight, floor) in product(kinds, list(pairs)):
        output = pool(said.validation, experts[kind][0]["validation"], weight, floor, train.classes)
        option = {"neighbours": kind, "weight": weight, "floor": floor}
        tried.append({"settings": option, "validation": validation.score(output)})
    for one in tried:
        one["seconds"] = (time.process_time() - start) / len(tried)
    best = max(tried, key=lambda one: one["validation"])["settings"]
    found, inner = experts[best["neighbours"]]
    outputs = {
        name: pool(getattr(said, name), found[name], best["weight"], best["floor"], train.classes)
        for name in ("validation", "test")
    }
    search = [*said.search, *(one for _, more in experts.values() for one in more), *tried]
    kept = {**best, "encoder": said.chosen, **inner[0]["settings"]}
    return _said(parts, outputs, kept, search, deterministic=False)


def _covariance(option: Mapping[str, Any]) -> tuple[float, float]:
    return option["length"], option["nugget"]


def _said(
    parts: Parts,
    outputs: Mapping[str, Tensor],
    chosen: Options,
    search: list[Options],
    deterministic: bool,
) -> Said:
    return Said(
        outputs["validation"],
        outputs["test"],
        chosen=chosen,
        search=search,
        deterministic=deterministic,
        num_train=len(parts["train"].target),
    )


def _kriged(
    parts: Parts, candidates: list[tuple[float, float]] | None
) -> tuple[dict[str, Tensor], list[Options]]:
    """Outputs of the best candidate, and the search with it first."""
    train, validation = parts["train"], parts["validation"]
    count = min(NEIGHBOURS, len(train.lonlat))
    found = {
        n: near.on_sphere(train.lonlat, parts[n].lonlat, count) for n in ("validation", "test")
    }
    if candidates is None:
        few = train.lonlat[:: max(1, len(train.lonlat) // 1000)]
        apart = float(near.on_sphere(train.lonlat, few, count)[0][:, -1].median())
        candidates = [(one * max(apart, 1e-9), nugget) for one in RANGES for nugget in NUGGETS]
    some = torch.arange(0, len(validation.lonlat), math.ceil(len(validation.lonlat) / ENOUGH))
    judge, (distance, rows) = taken(validation, some), (one[some] for one in found["validation"])
    search: list[Options] = []
    for length, nugget in candidates:
        start = time.process_time()
        score = judge.score(_krige(train, distance, rows, length, nugget))
        search.append(
            {
                "settings": {"length": length, "nugget": nugget},
                "validation": score,
                "seconds": time.process_time() - start,
            }
        )
    search.sort(key=lambda one: -one["validation"])
    best = _covariance(search[0]["settings"])
    return {name: _krige(train, *one, *best) for name, one in found.items()}, search


def _krige(train: Part, distance: Tensor, rows: Tensor, length: float, nugget: float) -> Tensor:
    """Means of the answers of neighbours, or votes for classes, with the weights of kriging."""
    xyz, answers = to_xyz(train.lonlat), []
    for apart, row in zip(distance.split(_ROWS), rows.split(_ROWS), strict=True):
        weight = kriging_weights(apart, xyz[row], length, nugget)
        target = train.target[row]
        if train.classes:
            votes = weight.new_zeros(len(row), train.classes)
            answers.append(votes.scatter_add_(1, target, weight))
        else:
            answers.append((weight * target).sum(1))
    return torch.cat(answers)


def _voted(parts: Parts) -> tuple[dict[str, Tensor], list[Options]]:
    """Means or votes of the nearest rows, as the floor but among more of them."""
    start = time.process_time()
    train, names = parts["train"], ("validation", "test")
    found = {n: near.on_sphere(train.lonlat, parts[n].lonlat, max(COUNTS)) for n in names}
    outputs, tried = near.chosen_answers(train, found, parts["validation"], counts=COUNTS)
    seconds = (time.process_time() - start) / len(tried)
    search: list[Options] = [
        {"settings": {"k": k, "weights": weights}, "validation": value, "seconds": seconds}
        for k, weights, value in tried
    ]
    return outputs, search


HYBRIDS: dict[str, Protocol] = {
    "kriging": kriging,
    "encoder-and-neighbours": encoder_and_neighbours,
}
