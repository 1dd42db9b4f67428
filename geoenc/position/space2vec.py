"""Space2Vec: sines and cosines of the coordinates at many scales, along two or three directions."""

import math

import torch
from torch import Tensor

from geoenc.fourier import check_scales, geometric, sin_cos
from geoenc.position.base import PositionEncoder


class _Space2Vec(PositionEncoder):
    """Scales in degrees, and what both variants say about them."""

    def __init__(
        self, columns: int, num_frequencies: int, min_radius: float, max_radius: float
    ) -> None:
        check_scales(num_frequencies, min_radius, max_radius)
        super().__init__(out_features=columns * num_frequencies)
        self.num_frequencies = num_frequencies
        self.min_radius, self.max_radius = min_radius, max_radius

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees, 2 pi r: the radius divides degrees inside the sine."""
        return 2 * math.pi * geometric(self.min_radius, self.max_radius, self.num_frequencies)

    def _sin_cos(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``(..., directions)`` degrees at every scale: two of ``(..., directions, F)``."""
        radius = geometric(
            self.min_radius, self.max_radius, self.num_frequencies, device=directions.device
        )
        return sin_cos(directions[..., None] / (2 * math.pi * radius), self.working_dtype)


class Space2VecGrid(_Space2Vec):
    """[sin(c / r), cos(c / r)] for c in (lon, lat) and radii r from min to max, in degrees.

    Columns: coordinate slowest, then scale (finest first), then sine and cosine.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: r_0 and r_(F-1) in degrees, geometrically spaced between. The
            wavelength is 2 pi r degrees: not a divisor of 360, hence a jump at the antimeridian.

    Shape:
        ``(..., 2)`` to ``(..., 4 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Space2VecGrid(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([64])

    Reference:
        Mai et al., Multi-scale representation learning for spatial feature distributions using
        grid cells, ICLR 2020, equations 3 to 5; ``grid`` in CSP.

    Differs:
        The paper prints the cosine first; the published code and its weights have the sine first.
    """

    def __init__(
        self, num_frequencies: int = 32, *, min_radius: float = 0.1, max_radius: float = 360.0
    ) -> None:
        super().__init__(4, num_frequencies, min_radius, max_radius)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        return torch.stack(self._sin_cos(lonlat), -1).flatten(-3)


class Space2VecTheory(_Space2Vec):
    """[sin(d / r), cos(d / r)] for three projections d of (lon, lat), 120 degrees apart.

    d_1 = lon, d_2 = -lon / 2 + sqrt(3) / 2 lat, d_3 = -lon / 2 - sqrt(3) / 2 lat. Columns: scale
    slowest (finest first), then projection, then sine and cosine.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: in degrees, as for `Space2VecGrid`.

    Shape:
        ``(..., 2)`` to ``(..., 6 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Space2VecTheory(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([96])

    Reference:
        Mai et al., ICLR 2020, equation 4, after the grid cells of Gao et al., ICLR 2019.
    """

    def __init__(
        self, num_frequencies: int = 32, *, min_radius: float = 0.1, max_radius: float = 360.0
    ) -> None:
        super().__init__(6, num_frequencies, min_radius, max_radius)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        lon, lat = lonlat.unbind(-1)
        across = lat * (math.sqrt(3) / 2)
        directions = torch.stack([lon, across - lon / 2, -across - lon / 2], -1)
        return torch.stack(self._sin_cos(directions), -1).transpose(-3, -2).flatten(-3)
