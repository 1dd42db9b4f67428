"""Space2Vec: sines and cosines of the coordinates at many scales, along two or three directions."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from geoenc.fourier import SinCos, check_scales, exact, geometric, turns
from geoenc.position.sinusoidal import Sinusoidal
from geoenc.waves import Waves


class _Space2Vec(Sinusoidal):
    """Scales in degrees; sine and cosine of d / r for every direction d of the plane."""

    min_radius: float
    max_radius: float
    directions: ClassVar[tuple[tuple[float, float], ...]]

    def __init__(
        self, num_frequencies: int = 32, *, min_radius: float = 0.1, max_radius: float = 360.0
    ) -> None:
        check_scales(num_frequencies, min_radius, max_radius)
        super().__init__(out_features=2 * len(self.directions) * num_frequencies)
        self.num_frequencies = num_frequencies
        self.min_radius, self.max_radius = min_radius, max_radius

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees, 2 pi r: the radius divides degrees inside the sine."""
        return 2 * math.pi * geometric(self.min_radius, self.max_radius, self.num_frequencies)

    def rows(self, lonlat: Tensor, sin_cos: SinCos) -> Tensor:
        """See the class."""
        radius = geometric(
            self.min_radius, self.max_radius, self.num_frequencies, device=lonlat.device
        )
        frequency = 1 / (exact(2 * math.pi) * radius)
        east, north = torch.tensor(self.directions, dtype=torch.float64).to(lonlat).T[..., None]
        along = east * lonlat[0] + north * lonlat[1]
        sin, cos = sin_cos(turns(along[:, None], frequency[:, None]))
        return self._order(torch.stack([sin, cos], 2)).flatten(0, 2)

    def waves(self) -> Waves:
        """See `Sinusoidal.waves`."""
        directions = torch.tensor(self.directions, dtype=torch.float64).T[..., None, None]
        first = directions * (1 / self.wavelengths)[:, None].expand(-1, 2)
        phase = torch.tensor([0, 0.25], dtype=torch.float64).expand(first.shape[1:])
        columns = self._order(torch.arange(phase.numel()).view(phase.shape)).flatten()
        return Waves(torch.Tensor.double, first.flatten(1)[:, columns], phase.flatten()[columns])

    def _order(self, waves: Tensor) -> Tensor:
        """``(directions, F, 2, ...)`` in the published order of the columns."""
        return waves


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

    directions = ((1.0, 0.0), (0.0, 1.0))


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

    directions = ((1.0, 0.0), (-0.5, math.sqrt(3) / 2), (-0.5, -math.sqrt(3) / 2))

    def _order(self, waves: Tensor) -> Tensor:
        return waves.transpose(0, 1)
