"""RBF: nearness to anchors, as Gaussians of the distance."""

import math
from typing import Any, Self

import torch
from torch import Generator, Tensor

from geoenc.coordinates import to_xyz
from geoenc.position.base import PositionEncoder
from geoenc.position.shared import LOWEST, choose
from geoenc.sampling import uniform

DISTANCES = ("planar", "great_circle")


class RBF(PositionEncoder):
    """exp(-d_j^2 / (2 bandwidth^2)) for the distance d_j to each of M anchors, in degrees.

    ``"planar"``: d^2 = (lon - lon_j)^2 + (lat - lat_j)^2, as published: it does not wrap, and
    degrees of longitude count alike at all latitudes. ``"great_circle"``: d is the arc between
    the two places.

    The anchors start uniform on the sphere; `fit` takes them from data. They are a buffer and
    travel with the saved weights.

    Args:
        num_anchors: M, how many.
        bandwidth: in degrees. From 8.9 bandwidths on the value stays at 4e-18.
        distance: ``"planar"`` or ``"great_circle"``.
        generator: of the first anchors.

    Shape:
        ``(..., 2)`` to ``(..., M)``.

    Example:
        >>> import torch, geoenc
        >>> rbf = geoenc.RBF(1, 10.0).fit([(2.35, 48.86)])
        >>> rbf(torch.tensor([(2.35, 48.86), (12.35, 48.86)]))
        tensor([[1.0000],
                [0.6065]])

    Reference:
        The baseline ``rbf`` of Mai et al., Space2Vec, ICLR 2020.

    Differs:
        Published anchors are indices into the training set, not part of the weights. The arc on
        the sphere is new.
    """

    num_anchors: int
    bandwidth: float
    anchors: Tensor

    def __init__(
        self,
        num_anchors: int = 200,
        bandwidth: float = 2.0,
        *,
        distance: str = "planar",
        generator: Generator | None = None,
    ) -> None:
        if num_anchors < 1:
            raise ValueError(f"expected num_anchors of at least 1, got {num_anchors}")
        if not 0 < bandwidth < math.inf:
            raise ValueError(f"expected bandwidth above 0 degrees, got {bandwidth}")
        if distance not in DISTANCES:
            raise ValueError(f"expected distance to be one of {DISTANCES}, got {distance!r}")
        super().__init__(out_features=num_anchors)
        self.num_anchors, self.bandwidth, self.distance = num_anchors, bandwidth, distance
        self.register_buffer("anchors", uniform(num_anchors, generator=generator))

    @property
    def wraps_antimeridian(self) -> bool:  # type: ignore[override]
        """With the arc, but not in the plane."""
        return self.distance == "great_circle"

    wraps_poles = wraps_antimeridian

    def fit(self, lonlat: Any, *, generator: Generator | None = None) -> Self:
        """Take the anchors from places: without replacement, or with it if there are too few.

        Args:
            lonlat: places that `geoenc.as_lonlat` reads, none of them missing.
            generator: source of randomness, on the CPU.
        """
        self.anchors = choose(lonlat, self.num_anchors, generator).to(self.anchors)
        return self

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        if self.distance == "planar":
            shrink = 0.5**0.5 / self.bandwidth
            exponent = -_square(lonlat * shrink, self.anchors * shrink, self.working_dtype)
        else:
            exponent = self._arc(lonlat).square() * (-0.5 / self.bandwidth**2)
        return exponent.clamp_min(LOWEST).exp()

    def _arc(self, lonlat: Tensor) -> Tensor:
        """Degrees along the sphere, 4 atan(sin / (1 + cos)) of half the arc, from the chord.

        The two clamps end the slopes of the roots at the anchor and at its antipode, where the
        slope of the square is zero and undefined; they move the arc by less than 1e-12 degrees.
        """
        sin_square = _square(to_xyz(lonlat) / 2, to_xyz(self.anchors) / 2, lonlat.dtype)
        cos_square = (1 - sin_square).to(self.working_dtype).clamp_min(1e-30)
        sin_square = sin_square.to(self.working_dtype).clamp_min(1e-30)
        quarter = (sin_square.sqrt() / (1 + cos_square.sqrt())).atan()
        return quarter * (720 / math.pi)


def _square(points: Tensor, anchors: Tensor, dtype: torch.dtype) -> Tensor:
    """Squared distance ``(..., M)`` between ``(..., d)`` and ``(M, d)``, without cancellation.

    The differences are narrowed to ``dtype``, in which they are squared.
    """
    pairs = zip(points.unbind(-1), anchors.unbind(-1), strict=True)
    first, *others = ((point[..., None] - anchor).to(dtype) for point, anchor in pairs)
    square = first.square()
    for other in others:
        square = torch.addcmul(square, other, other)
    return square
