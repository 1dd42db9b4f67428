"""P(y | image) from frozen features: the image classifier where none is stored."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from geoenc.data.dataset import LocationDataset
from geoenc.recipes.batches import required, stored
from geoenc.recipes.config import Config


def classify_images(
    config: Config,
    labelled: LocationDataset,
    validation: LocationDataset,
    features: Tensor,
    *,
    num_classes: int | None = None,
) -> Tensor:
    """Stage D: P(y | image) from a linear probe on frozen features.

    argmin_W mean cross-entropy + penalty / 2 |W|^2 by L-BFGS, along a path from the strongest
    penalty to the weakest; the one with the least cross-entropy on the validation part is kept.

    Args:
        config: uses ``image``.
        labelled, validation: features and targets; classes are numbered alike.
        features: of the images to judge, ``(N, D)``.
        num_classes: one more than the largest target if None.

    Returns:
        probabilities ``(N, Q)``, float64.
    """
    parts = (labelled, validation)
    x, held_x = (stored(part)[:] for part in parts)
    y, held_y = (required(part.target, "target") for part in parts)
    classes = int(max(y.max(), held_y.max())) + 1 if num_classes is None else num_classes
    weight = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    x, held_x = (F.pad(part, (0, 1), value=1.0) for part in (x, held_x))
    best, kept = math.inf, weight.detach().clone()
    for penalty in sorted(config.image.penalties, reverse=True):
        _minimise(weight, x, y, penalty, config.image.max_iterations)
        held_out = F.cross_entropy(held_x @ weight.detach(), held_y, ignore_index=-1).item()
        if held_out < best:
            best, kept = held_out, weight.detach().clone()
    return (F.pad(features, (0, 1), value=1.0) @ kept).double().softmax(-1)


def _minimise(weight: Tensor, x: Tensor, y: Tensor, penalty: float, iterations: int) -> None:
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight, y) + penalty / 2 * weight[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
