"""FFN: the feed-forward network of Space2Vec and CSP."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from geoenc.native import Layer
from geoenc.network.base import Network, check_depth, check_dropout
from geoenc.network.dropout import Dropout
from geoenc.network.fused import as_layer, fused

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2, inplace=True),
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
HOMOGENEOUS = ("relu", "leaky_relu")  # m act(x) = act(m x) for m >= 0: both can work in place


class FFN(Network):
    """``depth`` blocks LayerNorm(x + Dropout(act(W x + b))), then Dropout(act(W x + b)).

    The skip is there where the two widths agree. **The last layer has activation and dropout
    too**, as in the published code and weights: the dropout objective of CSP relies on it.

    Args:
        in_features, out_features: widths.
        hidden_features: width of the hidden layers.
        depth: number of hidden layers; 0 leaves one layer from input to output.
        activation: ``"relu"``, ``"leaky_relu"`` (slope 0.2), ``"gelu"``, ``"sigmoid"``, ``"tanh"``.
        dropout: probability.
        residual: skip connections where widths agree.
        layer_norm: LayerNorm after each hidden layer.
        final_activation: activation and dropout on the last layer.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.FFN(128, 256).eval()(torch.zeros(5, 128)).shape
        torch.Size([5, 256])

    Reference:
        Mai et al., Space2Vec, ICLR 2020, section 3.2; Mai et al., CSP, ICML 2023, appendix A.2.
    """

    hidden_features: int
    depth: int
    activation: str
    dropout: float
    residual: bool
    layer_norm: bool
    layers: nn.Sequential

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden_features: int = 512,
        depth: int = 1,
        activation: str = "relu",
        dropout: float = 0.5,
        residual: bool = True,
        layer_norm: bool = True,
        final_activation: bool = True,
    ) -> None:
        super().__init__(in_features, out_features)
        check_depth(depth)
        check_dropout(dropout)
        if hidden_features < 1:
            raise ValueError(f"expected hidden_features of at least 1, got {hidden_features}")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"expected activation to be one of {', '.join(ACTIVATIONS)}, got {activation!r}"
            )
        self.hidden_features, self.depth = hidden_features, depth
        self.activation, self.dropout = activation, dropout
        self.residual, self.layer_norm = residual, layer_norm
        self.final_activation = final_activation
        widths = [in_features, *[hidden_features] * depth]
        self.layers = nn.Sequential(
            *[
                _Block(before, after, activation, dropout, residual, layer_norm)
                for before, after in pairwise(widths)
            ],
            _Block(
                widths[-1],
                out_features,
                activation if final_activation else None,
                dropout if final_activation else 0.0,
                residual=False,
                layer_norm=False,
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = fused(self, x)
        return self.layers(x) if y is None else y

    def fused_layers(self) -> list[Layer | None]:
        """See `Network.fused_layers`."""
        return [layer.fused() if type(layer) is _Block else None for layer in self.layers]


class _Block(nn.Module):
    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str | None,
        dropout: float,
        residual: bool,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        nn.init.xavier_uniform_(self.linear.weight)
        self.activation = nn.Identity() if activation is None else ACTIVATIONS[activation]()
        self.dropout_first = activation in HOMOGENEOUS
        self.dropout = Dropout(dropout, inplace=self.dropout_first)
        self.skip = residual and in_features == out_features
        self.layernorm = nn.LayerNorm(out_features) if layer_norm else nn.Identity()

    def fused(self) -> Layer | None:
        """As the kernel reads it; None with other parts than a kernel has."""
        act, norm = self.activation, self.layernorm
        if type(act) not in (nn.ReLU, nn.LeakyReLU, nn.Identity):
            return None
        if type(norm) not in (nn.LayerNorm, nn.Identity):
            return None
        if isinstance(norm, nn.LayerNorm) and norm.bias is None:
            return None
        if isinstance(act, nn.LeakyReLU):
            slope = act.negative_slope
        else:
            slope = 0.0 if isinstance(act, nn.ReLU) else 1.0
        return as_layer(
            self.linear,
            slope=slope,
            skip=int(self.skip),
            norm=norm if isinstance(norm, nn.LayerNorm) else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        y = (
            self.activation(self.dropout(y))
            if self.dropout_first
            else self.dropout(self.activation(y))
        )
        return self.layernorm(x + y if self.skip else y)
