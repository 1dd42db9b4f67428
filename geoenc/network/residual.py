"""ResidualNet: the network of the geographic-prior papers."""

from torch import Tensor, nn

from geoenc.native import Layer
from geoenc.network.base import Network, check_depth, check_dropout
from geoenc.network.dropout import Dropout
from geoenc.network.fused import as_layer, fused


class ResidualNet(Network):
    """x_0 = ReLU(W x + b), then ``depth`` times x <- x + ReLU(W2 Dropout(ReLU(W1 x + b1)) + b2).

    With ``hidden_features`` the blocks have that width and a linear layer without bias follows.

    Args:
        in_features: width of the input.
        out_features: width of the output, and of every block unless ``hidden_features`` is given.
        hidden_features: width of the blocks before a last linear layer; None for no such layer.
        depth: number of residual blocks.
        dropout: probability, inside each block.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.ResidualNet(4, 256).eval()(torch.zeros(5, 4)).shape
        torch.Size([5, 256])

    Reference:
        Mac Aodha, Cole and Perona, Presence-only geographical priors, ICCV 2019, section 4;
        ``wrap`` in CSP, the network of SINR. With the last layer: FCNet in Rußwurm et al., ICLR
        2024, and the head of Tessellating the Earth, ECCV 2026.
    """

    hidden_features: int | None
    depth: int
    dropout: float
    input: nn.Linear
    blocks: nn.Sequential

    def __init__(
        self,
        in_features: int,
        out_features: int = 256,
        *,
        hidden_features: int | None = None,
        depth: int = 4,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_features, out_features)
        check_depth(depth)
        check_dropout(dropout)
        width = out_features if hidden_features is None else hidden_features
        if width < 1:
            raise ValueError(f"expected hidden_features of at least 1, got {width}")
        self.hidden_features, self.depth, self.dropout = hidden_features, depth, dropout
        self.input = nn.Linear(in_features, width)
        self.blocks = nn.Sequential(*[_Block(width, dropout) for _ in range(depth)])
        self.output = (
            nn.Identity() if hidden_features is None else nn.Linear(width, out_features, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = fused(self, x)
        return self.output(self.blocks(self.input(x).relu())) if y is None else y

    def fused_layers(self) -> list[Layer | None]:
        """See `Network.fused_layers`."""
        layers = [as_layer(self.input, slope=0)]
        for block in self.blocks:
            if type(block) is not _Block:
                return []
            layers += [as_layer(block.w1, slope=0), as_layer(block.w2, slope=0, skip=2)]
        return layers if type(self.output) is nn.Identity else [*layers, as_layer(self.output)]


class _Block(nn.Module):
    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(features, features)
        self.w2 = nn.Linear(features, features)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w2(self.dropout(self.w1(x).relu())).relu()
