"""Network: a trainable map with explicit widths."""

import torch
from torch import Tensor

from geoenc.component import Component
from geoenc.native import Layer
from geoenc.network.fused import fused, is_changed


class Network(Component, root=True):
    """NN: ``(..., in_features)`` -> ``(..., out_features)``, trainable.

    Args:
        in_features, out_features: widths, as for ``nn.Linear``.
    """

    in_features: int
    out_features: int

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        for name, width in (("in_features", in_features), ("out_features", out_features)):
            if width < 1:
                raise ValueError(f"expected {name} of at least 1, got {width}")
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        raise NotImplementedError

    @torch.no_grad()
    def write(self, x: Tensor, out: Tensor) -> None:
        """NN(x) into ``out``, without gradient.

        Args:
            x: ``(n, in_features)``.
            out: ``(n, out_features)``.
        """
        own = _owner(type(self), "forward") is _owner(type(self), "fused_layers")
        if not own or is_changed(self) or fused(self, x, out) is None:
            out.copy_(self(x))

    def fused_layers(self) -> list[Layer | None]:
        """The layers as a kernel computes them in a row, None for one that it cannot.

        A network that has them asks `geoenc.network.fused.fused` first in its ``forward``. By
        default there are none.
        """
        return []


def _owner(kind: type, name: str) -> type:
    """The class that defines a method."""
    return next(one for one in kind.__mro__ if name in one.__dict__)


def check_depth(depth: int) -> None:
    """Refuse a negative number of hidden layers."""
    if depth < 0:
        raise ValueError(f"expected depth of at least 0 hidden layers, got {depth}")


def check_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"expected dropout in [0, 1), got {dropout}")
