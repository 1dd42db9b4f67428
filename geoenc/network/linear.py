"""Linear: the smallest network."""

from torch import Tensor, nn

from geoenc.network.base import Network


class Linear(Network):
    """W x + b: a linear map, as a probe of a position encoder or a projection of image features.

    Args:
        in_features, out_features: widths.
        bias: with b.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Linear(100, 256)(torch.zeros(5, 100)).shape
        torch.Size([5, 256])

    Reference:
        The linear network of Rußwurm et al., ICLR 2024, section 4.
    """

    linear: nn.Linear

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features)
        self.bias = bias
        self.linear = nn.Linear(in_features, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.linear(x)
