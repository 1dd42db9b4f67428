"""Answers of the k nearest training rows, on the sphere or in a space of embeddings."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geoenc.bench.parts import Part
from geoenc.coordinates import to_xyz

COUNTS = (1, 3, 5, 10, 25, 50)
WEIGHTS = ("uniform", "distance")
_NUMBERS = 2**24
"""Distances, or differences, at once."""


def on_sphere(train: Tensor, places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances (chords of the unit sphere) and rows of the nearest training places.

    Shape:
        ``(N, 2)`` and ``(n, 2)`` degrees to two of ``(n, min(count, N))``, nearest first.
    """
    from scipy.spatial import cKDTree

    count = min(count, len(train))
    tree = cKDTree(to_xyz(train).numpy())
    distance, near = tree.query(to_xyz(places), k=count)
    shape = (len(places), count)
    return (
        torch.from_numpy(np.reshape(distance, shape)),
        torch.from_numpy(np.reshape(near, shape)),
    )


def in_space(train: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same by Euclidean distance between embeddings ``(N, D)`` and ``(n, D)``."""
    count = min(count, len(train))
    size = max(1, _NUMBERS // max(len(train), count * train.shape[1]))
    squares = train.square().sum(1)
    distances, rows = [], []
    for block in points.split(size):
        near = (squares - 2 * block @ train.T).topk(count, largest=False).indices
        gap = (train[near] - block[:, None]).double().square().sum(-1).sqrt()
        order = gap.argsort(dim=1, stable=True)
        distances.append(gap.gather(1, order))
        rows.append(near.gather(1, order))
    return torch.cat(distances), torch.cat(rows)


def answers(
    distance: Tensor, target: Tensor, classes: int, weights: str, *, nearest_first: bool = False
) -> Tensor:
    """Votes for each class, or the weighted mean, of the neighbours.

    Of classes with as many votes the first wins, or with ``nearest_first`` that of the nearest.

    Args:
        distance: ``(n, k)``, nearest first.
        target: ``(n, k)`` answers of the neighbours.
        classes: how many; 0 for numbers.
        weights: ``"uniform"``, or ``"distance"``: 1 / d.
        nearest_first: see above.

    Shape:
        ``(n, classes)`` or ``(n,)``.
    """
    if weights == "uniform":
        if not classes:
            return target.mean(1)
        weight = torch.ones_like(distance)
    else:
        weight = 1 / (distance + (1e-9 * float(distance.mean()) + 1e-300))
    if not classes:
        return (weight * target).sum(1) / weight.sum(1)
    votes = torch.zeros(len(target), classes, dtype=weight.dtype).scatter_add_(1, target, weight)
    if nearest_first:
        k = target.shape[1]
        bonus = torch.arange(k, 0, -1, dtype=weight.dtype) / (k * k + 1)  # less than a vote in all
        votes += torch.zeros_like(votes).scatter_reduce(
            1, target, bonus.expand(len(target), k), "amax"
        )
    return votes


def chosen_answers(
    train: Part,
    near: dict[str, tuple[Tensor, Tensor]],
    validation: Part,
    *,
    counts: Sequence[int] = COUNTS,
    weights: Sequence[str] = WEIGHTS,
    nearest_first: bool = False,
) -> tuple[dict[str, Tensor], list[tuple[int, str, float]]]:
    """Outputs with the number of neighbours and the weights that are best on validation.

    Args:
        train: the rows that answer.
        near: distances and rows of the neighbours of each part, ``"validation"`` among them.
        validation: where the choice is made.
        counts, weights: candidates; of equals the first is chosen.
        nearest_first: see `answers`.

    Returns:
        the outputs by part, and (k, weights, validation score) of every candidate, the chosen
        one first.
    """
    most = near["validation"][0].shape[1]

    def said(name: str, k: int, weight: str) -> Tensor:
        distance, rows = (one[:, :k] for one in near[name])
        return answers(
            distance, train.target[rows], train.classes, weight, nearest_first=nearest_first
        )

    tried = [
        (k, weight, validation.score(said("validation", k, weight)))
        for k in [k for k in counts if k <= most] or [most]
        for weight in weights
    ]
    best = max(tried, key=lambda one: one[2])
    outputs = {name: said(name, best[0], best[1]) for name in near}
    return outputs, [best, *(one for one in tried if one is not best)]
