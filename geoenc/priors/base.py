"""Prior: one shape for everything that only counts where the classes were seen."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat

_ROWS = 512
"""Places at once: as many rows of neighbours are in memory."""


class Prior(ABC):
    """P(y | place) from counts of labelled places; hyperparameters in the constructor.

    A subclass keeps what it needs of the labelled places in `remember` and gives one
    distribution over the classes for each place in `distributions`.
    """

    num_classes: int = 0

    def fit(self, lonlat: Any, target: Tensor, num_classes: int) -> Self:
        """Remember labelled places, and return the prior itself.

        Args:
            lonlat: anything `geoenc.as_lonlat` reads. Samples without a place (NaN) are left out.
            target: class of each place; samples with -1 are left out.
            num_classes: Q, how many classes.

        Raises:
            ValueError: no labelled place, a class of Q or more, rows that do not agree.
        """
        places = as_lonlat(lonlat, missing=True).double().cpu()
        target = torch.as_tensor(target).cpu()
        if places.ndim != 2 or target.shape != places.shape[:1]:
            raise ValueError(
                f"expected lonlat (N, 2) and target (N,), got {tuple(places.shape)} and "
                f"{tuple(target.shape)}"
            )
        kept = (target >= 0) & ~places.isnan().any(1)
        _check_target(target[kept], num_classes)
        self.num_classes = num_classes
        self.remember(places[kept].numpy(), target[kept].long().numpy())
        return self

    def probabilities(self, lonlat: Any) -> Tensor:
        """P(y | place); the classes are equally probable where the place is missing.

        Args:
            lonlat: anything `geoenc.as_lonlat` reads, NaN where unknown.

        Shape:
            ``(..., 2)`` to ``(..., Q)`` float32; rows sum to 1.

        Raises:
            ValueError: `fit` was not called.
        """
        if self.num_classes == 0:
            raise ValueError(
                f"expected a {type(self).__name__} with labelled places, got an empty one; "
                "call .fit(lonlat, target, num_classes) first"
            )
        places = as_lonlat(lonlat, missing=True)
        rows = places.double().cpu().reshape(-1, 2)
        found = torch.full((len(rows), self.num_classes), 1 / self.num_classes)
        for chunk in (~rows.isnan().any(1)).nonzero()[:, 0].split(_ROWS):
            found[chunk] = torch.from_numpy(self.distributions(rows[chunk].numpy())).float()
        return found.reshape(*places.shape[:-1], self.num_classes).to(places.device)

    @abstractmethod
    def remember(self, lonlat: np.ndarray, target: np.ndarray) -> None:
        """Keep what `distributions` needs of labelled places ``(N, 2)`` and classes ``(N,)``."""

    @abstractmethod
    def distributions(self, lonlat: np.ndarray) -> np.ndarray:
        """Rows that sum to 1, ``(n, 2)`` known places to ``(n, Q)`` float64."""


def class_frequencies(target: Tensor, num_classes: int) -> Tensor:
    """P(y = k) = (1 + n_k) / (n + Q): the share of each class, counted once more.

    Args:
        target: n classes; -1 is left out.
        num_classes: Q, how many classes.

    Shape:
        ``(N,)`` integers to ``(Q,)`` float64.

    Example:
        >>> import torch
        >>> from geoenc.priors import class_frequencies
        >>> class_frequencies(torch.tensor([0, 0, 1, -1]), 2)
        tensor([0.6000, 0.4000], dtype=torch.float64)
    """
    known = target[target >= 0]
    _check_target(known, num_classes)
    counts = known.bincount(minlength=num_classes).double() + 1
    return counts / counts.sum()


def _check_target(target: Tensor, num_classes: int) -> None:
    if len(target) == 0:
        raise ValueError("expected at least one labelled sample, got none; target -1 is no label")
    if target.is_floating_point() or int(target.max()) >= num_classes:
        raise ValueError(
            f"expected integer classes below num_classes={num_classes}, got "
            f"{target.max().item()} of {target.dtype}"
        )
