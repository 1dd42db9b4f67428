"""Time of the year as a vector."""

import math

import torch
from torch import Tensor

from geoenc.component import Component


class TimeEncoder(Component, root=True):
    """Fraction of the year ``(...)`` in [0, 1) -> ``(..., out_features)``.

    Args:
        out_features: width of the code.
    """

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, time: Tensor) -> Tensor:
        """Encode fractions of the year."""
        raise NotImplementedError


class CyclicTime(TimeEncoder):
    """[sin(2 pi t - pi), cos(2 pi t - pi)] for t, the fraction of the year.

    Shape:
        ``(...)`` to ``(..., 2)``, in the dtype of the argument.

    Example:
        >>> import torch, geoenc
        >>> geoenc.CyclicTime()(torch.tensor([0.5])).round(decimals=3)
        tensor([[0., 1.]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 3.2: the year runs from -1 to 1, times pi.
    """

    def __init__(self) -> None:
        super().__init__(out_features=2)

    def forward(self, time: Tensor) -> Tensor:
        """See the class."""
        angle = math.pi * (2 * time - 1)
        return torch.stack([angle.sin(), angle.cos()], -1)
