"""InfoNCELoss: the objective of CLIP, SatCLIP and GeoCLIP."""

import math

import torch
from torch import Tensor, nn

from geoenc.losses.criteria import check_temperature, full_precision
from geoenc.losses.tiled import multiclass_of_pairs


class InfoNCELoss(nn.Module):
    """-log softmax_j(cos(a_i, c_j) / temperature)[j = i], averaged over rows and directions.

    Args:
        temperature: divides the cosines; the initial value if ``learnable``.
        symmetric: average with the reverse question, which anchor belongs to a candidate.
        learnable: the logarithm of the temperature is a parameter of the loss; optimise
            ``[*model.parameters(), *loss.parameters()]``.
        gather: candidates of all processes, with gradient.

    Shape:
        anchor and candidate ``(B, D)``, extra ``(Q, D)`` more candidates; a scalar. Embeddings
        are normalised here.

    Example:
        >>> import torch, geoenc
        >>> loss = geoenc.InfoNCELoss(temperature=1.0)
        >>> round(loss(torch.eye(4), torch.eye(4)).item(), 6)
        0.743668

    Reference:
        Radford et al., CLIP, ICML 2021, figure 3; Klemmer et al., SatCLIP, AAAI 2025, equation 1.
    """

    symmetric: bool
    learnable: bool
    gather: bool
    log_temperature: nn.Parameter

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        symmetric: bool = True,
        learnable: bool = False,
        gather: bool = False,
    ) -> None:
        super().__init__()
        check_temperature(temperature=temperature)
        self.symmetric, self.learnable, self.gather = symmetric, learnable, gather
        log_temperature = torch.tensor(math.log(temperature))
        if learnable:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)

    @property
    def temperature(self) -> Tensor:
        """The temperature in use, a scalar tensor."""
        return self.log_temperature.exp()

    def forward(self, anchor: Tensor, candidate: Tensor, extra: Tensor | None = None) -> Tensor:
        """The loss of a batch of pairs; see the class."""
        with full_precision(anchor):
            return multiclass_of_pairs(
                anchor,
                candidate,
                self.temperature,
                extra=extra,
                symmetric=self.symmetric,
                gather=self.gather,
            )

    def extra_repr(self) -> str:
        """Settings as they would be written in the constructor."""
        return (
            f"temperature={self.temperature.item():.4g}, symmetric={self.symmetric}, "
            f"learnable={self.learnable}, gather={self.gather}"
        )
