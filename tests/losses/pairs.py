"""The objectives as loops over pairs of plain numbers: slow, obvious, independent of torch."""

import math
from collections.abc import Sequence

from torch import Tensor

Vector = Sequence[float]


def vectors(tensor: Tensor) -> list[list[float]]:
    return tensor.detach().double().tolist()


def cosine(a: Vector, b: Vector) -> float:
    def length(v: Vector) -> float:
        return math.sqrt(sum(x * x for x in v))

    if length(a) == 0 or length(b) == 0:
        return 0.0
    return sum(x * y for x, y in zip(a, b, strict=True)) / (length(a) * length(b))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def softmax_loss(
    anchors: Sequence[Vector], columns: Sequence[Sequence[Vector]], right: Sequence[int], t: float
) -> float:
    """mean_i -log softmax of the right column; row i has its own columns."""
    losses = []
    for anchor, candidates, target in zip(anchors, columns, right, strict=True):
        scores = [math.exp(cosine(anchor, candidate) / t) for candidate in candidates]
        losses.append(-math.log(scores[target] / sum(scores)))
    return mean(losses)


def binary_loss(
    anchors: Sequence[Vector],
    columns: Sequence[Sequence[Vector]],
    right: Sequence[int | None],
    t: float,
) -> float:
    """mean -log sigma over right pairs plus mean -log(1 - sigma) over all others."""
    positive, negative = [], []
    for anchor, candidates, target in zip(anchors, columns, right, strict=True):
        for index, candidate in enumerate(candidates):
            p = sigmoid(cosine(anchor, candidate) / t)
            if index == target:
                positive.append(-math.log(p))
            else:
                negative.append(-math.log(1 - p))
    return mean(positive) + mean(negative)


CRITERIA = {"multiclass": softmax_loss, "nce": binary_loss}


def in_batch(anchor: Tensor, candidate: Tensor, criterion: str, t: float) -> float:
    a, c = vectors(anchor), vectors(candidate)
    return CRITERIA[criterion](a, [c] * len(a), list(range(len(a))), t)


def random_location(
    image: Tensor, location: Tensor, sampled: Tensor, criterion: str, t: float
) -> float:
    images, places, others = vectors(image), vectors(location), sampled.detach().double().tolist()
    if criterion == "nce":
        return binary_loss(images, others, [None] * len(images), t)
    columns = [[place, *more] for place, more in zip(places, others, strict=True)]
    return softmax_loss(images, columns, [0] * len(images), t)


def presence_absence(
    logits: Tensor, target: Tensor, background: Tensor | None, positive: float | None, weight: float
) -> float:
    rows, classes = logits.shape
    total = 0.0
    for row, right in zip(vectors(logits), target.tolist(), strict=True):
        for k, logit in enumerate(row):
            if k == right:
                total += (classes if positive is None else positive) * -math.log(sigmoid(logit))
            else:
                total += -math.log(1 - sigmoid(logit))
    loss = total / (rows * classes)
    if weight and background is not None:
        absent = [-math.log(1 - sigmoid(x)) for row in vectors(background) for x in row]
        loss += weight * mean(absent)
    return loss
