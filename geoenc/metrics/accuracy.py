"""Rank of the right class, and shares of right guesses: over all samples, and class by class."""

import torch
from torch import Tensor


def target_rank(scores: Tensor, target: Tensor) -> Tensor:
    """1-based rank of the right class: how many classes score at least as high.

    Ties count against the right class, so that constant scores are no success. A row with NaN
    ranks last.

    Shape:
        scores ``(..., Q)``, target ``(...)``; ``(...)`` int64 in [1, Q].

    Example:
        >>> import torch
        >>> from geoenc.metrics import target_rank
        >>> target_rank(torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.3, 0.3]]), torch.tensor([2, 0]))
        tensor([2, 3])
    """
    if target.shape != scores.shape[:-1]:
        raise ValueError(
            f"expected scores (..., Q) and target (...), got {tuple(scores.shape)} and "
            f"{tuple(target.shape)}"
        )
    right = scores.gather(-1, target[..., None])
    rank = (scores >= right).sum(-1)
    return torch.where(scores.isnan().any(-1), scores.shape[-1], rank)


def top_k_accuracy(scores: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Whether the right class is among the k highest: the mean over rows.

    Args:
        scores: any monotone function of probability. NaN rows count as wrong.
        target: the right class.
        k: how many guesses; as many as there are classes are always right.

    Shape:
        scores ``(N, Q)``, target ``(N,)``; a scalar in [0, 1], float64.

    Example:
        >>> import torch
        >>> from geoenc.metrics import top_k_accuracy
        >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
        >>> top_k_accuracy(scores, torch.tensor([2, 0]), k=1)
        tensor(0.5000, dtype=torch.float64)
    """
    return _within(scores, target, k).double().mean()


def _within(scores: Tensor, target: Tensor, k: int) -> Tensor:
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    return (target_rank(scores, target) <= k) & ~scores.isnan().any(-1)


def reciprocal_rank(scores: Tensor, target: Tensor) -> Tensor:
    """1 / rank of the right class, per row; the mean is the MRR.

    Shape:
        scores ``(N, Q)``, target ``(N,)``; ``(N,)`` float64.
    """
    return 1 / target_rank(scores, target).double()


def class_accuracy(scores: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Top-k accuracy of each class over its own samples; NaN for classes without samples.

    Shape:
        scores ``(N, Q)``, target ``(N,)``; ``(Q,)`` float64.

    Example:
        >>> import torch
        >>> from geoenc.metrics import class_accuracy
        >>> scores = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])
        >>> class_accuracy(scores, torch.tensor([0, 0, 1]))
        tensor([0.5000, 0.0000,    nan], dtype=torch.float64)
    """
    return class_means(_within(scores, target, k).double(), target, scores.shape[-1])


def macro_accuracy(scores: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Mean of `class_accuracy` over the classes that have samples: rare ones count as much.

    Shape:
        scores ``(N, Q)``, target ``(N,)``; a scalar in [0, 1], float64.
    """
    return class_accuracy(scores, target, k).nanmean()


def class_means(values: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Mean of one value per sample within each class; NaN for classes without samples.

    Shape:
        values ``(N,)``, target ``(N,)``; ``(num_classes,)`` float64.
    """
    total = torch.zeros(num_classes, dtype=torch.float64, device=values.device)
    total = total.index_add(0, target, values.double())
    return total / target.bincount(minlength=num_classes)
