"""Network: a trainable map with explicit widths."""

from torch import Tensor

from geoenc.component import Component


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


def check_depth(depth: int) -> None:
    """Refuse a negative number of hidden layers."""
    if depth < 0:
        raise ValueError(f"expected depth of at least 0 hidden layers, got {depth}")


def check_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"expected dropout in [0, 1), got {dropout}")
