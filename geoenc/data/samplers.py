"""Which samples: a stratified share of the labels, and epochs that no class dominates."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler


def few_shot(target: Tensor, fraction: float, *, generator: Generator | None = None) -> Tensor:
    """Rows of a stratified random share: max(1, round(n fraction)) of each class with n samples.

    Halves round to even. Every class with a label keeps at least one, so the share of a long
    tail is larger than ``fraction``. Rows with target -1 have no label and are never drawn.

    Args:
        target: class of each row.
        fraction: share of the labels, in (0, 1].
        generator: source of randomness.

    Shape:
        target ``(N,)`` integers; sorted row numbers ``(n,)`` int64.

    Raises:
        ValueError: a fraction outside (0, 1], or no labels at all.

    Example:
        >>> import torch
        >>> from geoenc.data import few_shot
        >>> target = torch.tensor([0] * 100 + [1])
        >>> len(few_shot(target, 0.05))
        6

    Reference:
        Mai et al., CSP, ICML 2023, section 4: the labelled subset.
    """
    if not 0 < fraction <= 1:
        raise ValueError(
            f"expected a fraction of the labels in (0, 1], got {fraction}; 5 % is 0.05"
        )
    if target.ndim != 1 or target.is_floating_point():
        raise ValueError(
            f"expected integer target of shape (N,), got {target.dtype} of {tuple(target.shape)}"
        )
    chosen = []
    for rows in _rows_of_classes(target):
        count = max(1, round(len(rows) * fraction))
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


def _rows_of_classes(target: Tensor) -> list[Tensor]:
    """Row numbers of each class that has any, classes and rows in ascending order."""
    labelled = (target >= 0).nonzero()[:, 0]
    if len(labelled) == 0:
        raise ValueError(f"expected at least one label, got {len(target)} rows without any")
    rows = labelled[target[labelled].argsort(stable=True)]
    counts = target[rows].unique_consecutive(return_counts=True)[1]
    return list(rows.split(counts.tolist()))


class ClassBalancedSampler(Sampler[int]):
    """Each epoch draws at most ``max_per_class`` rows of each class, shuffled.

    It looks at labels: pre-training with it is not free of them, as in the published CSP code.

    Args:
        target: class of each row, ``(N,)``; rows with -1 are left out.
        max_per_class: cap for each class and epoch.
        generator: source of randomness; each epoch draws anew.

    Example:
        >>> import torch
        >>> from geoenc.data import ClassBalancedSampler
        >>> len(ClassBalancedSampler(torch.tensor([0] * 50 + [1] * 3), max_per_class=10))
        13

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4.
    """

    def __init__(
        self, target: Tensor, max_per_class: int = 100, *, generator: Generator | None = None
    ) -> None:
        if max_per_class < 1:
            raise ValueError(f"expected max_per_class of at least 1, got {max_per_class}")
        self.max_per_class, self.generator = max_per_class, generator
        self._rows = _rows_of_classes(target)

    def __len__(self) -> int:
        return sum(min(len(rows), self.max_per_class) for rows in self._rows)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.cat(
            [
                rows[torch.randperm(len(rows), generator=self.generator)[: self.max_per_class]]
                for rows in self._rows
            ]
        )
        yield from drawn[torch.randperm(len(drawn), generator=self.generator)].tolist()
