"""Siren: a network whose activation is the sine."""

import math

from torch import Tensor, nn

from geoenc.native import Layer
from geoenc.network.base import Network, check_dropout
from geoenc.network.dropout import Dropout
from geoenc.network.fused import as_layer, fused


class Siren(Network):
    """h_0 = sin(w_0 g_0), h_i = sin(w g_i), g_i = Dropout(W_i h_{i-1} + b_i); output W h + b.

    g_0 sees the input; ``depth`` layers have a sine and the last one has none. ``residual``: g_i
    becomes (g_i + g_{i-1}) / 2. ``hyperbolic``: h_0 = sin(w_0 sinh(2 g_0)), the H-Siren.

    Args:
        in_features, out_features: widths.
        hidden_features: width of the sine layers.
        depth: number of sine layers, at least 1.
        first_frequency: w_0.
        frequency: w; the first weights of the later layers shrink as it grows.
        dropout: probability, before each sine.
        residual: average with the layer before.
        hyperbolic: the first layer of H-Siren.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Siren(100, 256, dropout=0.5).eval()(torch.zeros(5, 100)).shape
        torch.Size([5, 256])

    Reference:
        Sitzmann et al., SIREN, NeurIPS 2020, sections 3.1 and 3.2; Rußwurm et al., ICLR 2024;
        SatCLIP, AAAI 2025 (dropout 0.5); Climplicit, 2025 (residual, hyperbolic).
    """

    hidden_features: int
    depth: int
    first_frequency: float
    frequency: float
    dropout: float
    residual: bool
    hyperbolic: bool
    layers: nn.ModuleList
    last_layer: nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden_features: int = 512,
        depth: int = 2,
        first_frequency: float = 30.0,
        frequency: float = 1.0,
        dropout: float = 0.0,
        residual: bool = False,
        hyperbolic: bool = False,
    ) -> None:
        super().__init__(in_features, out_features)
        check_dropout(dropout)
        for name, width in (("hidden_features", hidden_features), ("depth", depth)):
            if width < 1:
                raise ValueError(f"expected {name} of at least 1, got {width}")
        for name, value in (("first_frequency", first_frequency), ("frequency", frequency)):
            if not 0 < value < math.inf:
                raise ValueError(f"expected {name} above 0 and finite, got {value}")
        self.hidden_features, self.depth = hidden_features, depth
        self.first_frequency, self.frequency = first_frequency, frequency
        self.dropout, self.residual, self.hyperbolic = dropout, residual, hyperbolic
        widths = [in_features, *[hidden_features] * (depth - 1)]
        self.layers = nn.ModuleList(nn.Linear(width, hidden_features) for width in widths)
        self.last_layer = nn.Linear(hidden_features, out_features)
        self._dropout = Dropout(dropout, inplace=True)
        later = math.sqrt(6 / hidden_features) / frequency
        bounds = [1 / in_features, *[later] * depth]
        for layer, bound in zip([*self.layers, self.last_layer], bounds, strict=True):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = fused(self, x)
        if y is not None:
            return y
        angle = self._dropout(self.layers[0](x))
        first = (2 * angle).sinh() if self.hyperbolic else angle
        x = (self.first_frequency * first).sin()
        for layer in self.layers[1:]:
            before, angle = angle, self._dropout(layer(x))
            if self.residual:
                angle = (angle + before) / 2
            x = (self.frequency * angle).sin()
        return self.last_layer(x)

    def fused_layers(self) -> list[Layer | None]:
        """See `Network.fused_layers`."""
        if self.residual or self.hyperbolic:
            return []
        frequencies = [self.first_frequency, *[self.frequency] * (self.depth - 1)]
        hidden = [
            as_layer(layer, turns=frequency / math.tau)
            for layer, frequency in zip(self.layers, frequencies, strict=True)
        ]
        return [*hidden, as_layer(self.last_layer)]
