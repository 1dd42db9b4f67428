"""SoftVoronoi: soft membership in cells around trained sites on the sphere."""

import math
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import layer_norm, linear, normalize

from geoenc.coordinates import to_xyz, wide_dtype
from geoenc.position.base import BLOCK_ELEMENTS, PositionEncoder
from geoenc.position.shared import LOWEST, check_table, choose
from geoenc.sampling import fibonacci

ATTENTIONS = ("linear", "cosine")


class SoftVoronoi(PositionEncoder):
    """LayerNorm((1 - gate) P e + gate sum_r a_r token_r), e = sum_k w_k embedding_k.

    w = softmax(tau_k x . s_k): membership of the unit vector x in the soft Voronoi cells of the
    sites s_k, sharper for larger tau_k. a = softmax((W e + b) / T): attention to tokens; with
    ``"cosine"`` W e is of unit rows and unit e, without b. P is the identity where the widths
    agree. All of s, tau, embeddings, tokens, W, b, T and P are trained.

    Args:
        out_features: width of the code and of the tokens.
        num_sites: K, on a Fibonacci lattice at first; `fit` takes them from data.
        site_features: width of e.
        num_tokens: how many.
        gate: share of the tokens, from 0 to 1.
        attention: ``"linear"`` or ``"cosine"``.
        generator: of embeddings, tokens and W.

    Shape:
        ``(..., 2)`` to ``(..., out_features)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.SoftVoronoi(64, 256)(torch.tensor([12.3, 45.6])).shape
        torch.Size([64])

    Reference:
        Cher et al., Tessellating the Earth (TTE), ECCV 2026; the network that follows there is
        ``ResidualNet(512, 512, hidden_features=512, depth=2)``.

    Differs:
        The published training loop renormalises s and clamps tau to exp(-0.7 .. 6.2) before each
        step of the optimizer; here s is normalised always, and tau clamped in training mode. It
        also anneals T, which its checkpoints forget.
    """

    num_sites: int
    site_features: int
    num_tokens: int
    gate: float
    sites: nn.Parameter
    log_tau: nn.Parameter
    embeddings: nn.Parameter
    tokens: nn.Parameter
    to_tokens: nn.Linear
    log_temperature: nn.Parameter
    norm: nn.LayerNorm
    wraps_antimeridian = True
    wraps_poles = True

    def __init__(
        self,
        out_features: int = 512,
        num_sites: int = 4096,
        *,
        site_features: int = 384,
        num_tokens: int = 64,
        gate: float = 0.5,
        attention: str = "linear",
        generator: Generator | None = None,
    ) -> None:
        counts = (out_features, num_sites, site_features, num_tokens)
        if min(counts) < 1:
            raise ValueError(
                "expected out_features, num_sites, site_features and num_tokens of at least 1, "
                f"got {counts}"
            )
        check_table(num_sites, site_features, "use a smaller num_sites or site_features")
        if not 0 <= gate <= 1:
            raise ValueError(f"expected gate from 0 to 1, got {gate}")
        if attention not in ATTENTIONS:
            raise ValueError(f"expected attention to be one of {ATTENTIONS}, got {attention!r}")
        super().__init__(out_features)
        self.num_sites, self.site_features, self.num_tokens = num_sites, site_features, num_tokens
        self.gate, self.attention = gate, attention
        self.sites = nn.Parameter(to_xyz(fibonacci(num_sites)).float())
        self.log_tau = nn.Parameter(torch.full((num_sites,), math.log(45.0)))
        drawn = torch.randn(num_sites, site_features, generator=generator)
        self.embeddings = nn.Parameter(0.02 * drawn)
        tokens = nn.init.orthogonal_(torch.empty(num_tokens, out_features), generator=generator)
        self.tokens = nn.Parameter(normalize(tokens, dim=-1))
        self.to_tokens = nn.Linear(site_features, num_tokens, bias=attention == "linear")
        nn.init.normal_(self.to_tokens.weight, std=0.1, generator=generator)
        if self.to_tokens.bias is not None:
            nn.init.zeros_(self.to_tokens.bias)
        self.log_temperature = nn.Parameter(torch.zeros(1))
        same = site_features == out_features
        self.projection = None if same else nn.Linear(site_features, out_features)
        for parameter in () if self.projection is None else self.projection.parameters():
            bound = site_features**-0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        self.norm = nn.LayerNorm(out_features)

    @torch.no_grad()
    def fit(self, lonlat: Any, *, generator: Generator | None = None) -> Self:
        """Take the sites from places: without replacement, or with it if there are too few."""
        self.sites.copy_(to_xyz(choose(lonlat, self.num_sites, generator)))
        return self

    def membership(self, lonlat: Tensor) -> Tensor:
        """w: how far each place belongs to each cell; rows sum to 1.

        Shape:
            ``(..., 2)`` degrees to ``(..., num_sites)``.
        """
        xyz = to_xyz(lonlat.to(wide_dtype(lonlat.device)))
        sites = normalize(self.sites.to(xyz.dtype), dim=-1)
        log_tau = self.log_tau.to(xyz.dtype)
        tau = (log_tau.clamp(-0.7, 6.2) if self.training else log_tau).exp()
        logits = xyz @ (sites * tau[:, None]).T
        highest = logits.detach().amax(-1, keepdim=True)
        return (logits - highest).to(self.working_dtype).clamp_min(LOWEST).softmax(-1)

    @property
    def _block_rows(self) -> int:
        """Fewer than the width of the code allows: the memberships are wider."""
        return max(BLOCK_ELEMENTS // self.num_sites, 64)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        dtype = self.working_dtype
        site = self.membership(lonlat) @ self.embeddings.to(dtype)
        if self.attention == "cosine":
            rows = normalize(self.to_tokens.weight.to(dtype), dim=-1)
            scores = linear(normalize(site, dim=-1), rows)
        else:
            scores = _linear(site, self.to_tokens)
        temperature = self.log_temperature.to(dtype).exp().clamp(0.01, 10.0)
        token = (scores / temperature).softmax(-1) @ self.tokens.to(dtype)
        if self.projection is not None:
            site = _linear(site, self.projection)
        mixed = (1 - self.gate) * site + self.gate * token
        return layer_norm(
            mixed, (self.out_features,), self.norm.weight.to(dtype), self.norm.bias.to(dtype)
        )


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """The layer in the dtype of x: in half precision only the result of `encode` is narrowed."""
    return linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
