"""Priors that count classes: everywhere, and in the cells of a grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geoenc.priors.base import Prior, class_frequencies


@dataclass
class ClassFrequency(Prior):
    """P(y = k) = (1 + n_k) / (n + Q), the same at every place.

    n_k is the number of labelled places of class k, n their sum, Q the number of classes.

    Example:
        >>> import torch
        >>> from geoenc.priors import ClassFrequency
        >>> prior = ClassFrequency().fit([(0, 0), (9, 9), (8, 8)], torch.tensor([0, 1, 1]), 2)
        >>> prior.probabilities([(50.0, 50.0)])
        tensor([[0.4000, 0.6000]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4: train frequency.
    """

    def remember(self, lonlat: np.ndarray, target: np.ndarray) -> None:
        """See `Prior`."""
        self._frequencies = class_frequencies(torch.from_numpy(target), self.num_classes).numpy()

    def distributions(self, lonlat: np.ndarray) -> np.ndarray:
        """See `Prior`."""
        return np.broadcast_to(self._frequencies, (len(lonlat), self.num_classes)).copy()


@dataclass
class RectangularGrid(Prior):
    """P(y = k | cell) = (n_k + a - 1) / (n + Q a - Q), n_k counted in the cell of the place.

    Args:
        num_columns: cells around the globe.
        num_rows: cells from pole to pole.
        pseudo_count: a, above 1, so that an empty cell prefers no class and no class is excluded.

    Example:
        >>> import torch
        >>> from geoenc.priors import RectangularGrid
        >>> prior = RectangularGrid(4, 2).fit([(10, 10), (20, 20)], torch.tensor([1, 1]), 2)
        >>> prior.probabilities([(80.0, 80.0), (-80.0, 80.0)])
        tensor([[0.2500, 0.7500],
                [0.5000, 0.5000]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4: discretized grid.

    Differs:
        The original reads beyond its table at longitude 180 and latitude 90. Here longitude 180
        belongs to the first column, as -180 does, and latitude 90 to the last row.
    """

    num_columns: int = 180
    num_rows: int = 60
    pseudo_count: float = 2.0

    def __post_init__(self) -> None:
        if self.num_columns < 1 or self.num_rows < 1:
            raise ValueError(
                f"expected num_columns and num_rows of at least 1, got {self.num_columns} and "
                f"{self.num_rows}"
            )
        if not self.pseudo_count > 1:
            raise ValueError(
                f"expected pseudo_count above 1, got {self.pseudo_count}; at 1 an empty cell has "
                "no distribution and unseen classes are excluded"
            )

    def remember(self, lonlat: np.ndarray, target: np.ndarray) -> None:
        """See `Prior`."""
        shape = (self.num_columns * self.num_rows, self.num_classes)
        self._counts = sparse_counts(self._cell(lonlat), target, shape)

    def distributions(self, lonlat: np.ndarray) -> np.ndarray:
        """See `Prior`."""
        return normalised(self._counts[self._cell(lonlat)].toarray() + (self.pseudo_count - 1))

    def _cell(self, lonlat: np.ndarray) -> np.ndarray:
        column = np.floor((lonlat[:, 0] + 180) / 360 * self.num_columns).astype(np.int64)
        row = np.floor((lonlat[:, 1] + 90) / 180 * self.num_rows).astype(np.int64)
        last = self.num_rows - 1
        return np.minimum(row, last) * self.num_columns + column % self.num_columns


def sparse_counts(rows: np.ndarray, target: np.ndarray, shape: tuple[int, int]) -> Any:
    """How often each class occurs in each row, as a sparse matrix of ``shape`` (rows, Q)."""
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows)), (rows, target)), shape=shape)


def normalised(scores: np.ndarray) -> np.ndarray:
    """Rows divided by their sums."""
    return scores / scores.sum(1, keepdims=True)
