"""Sphere2Vec: products of sines and cosines of latitude and longitude at many scales."""

from typing import ClassVar

import torch
from torch import Tensor

from geoenc.fourier import check_scales, geometric, sin_cos
from geoenc.position.base import PositionEncoder


class _Sphere2Vec(PositionEncoder):
    """Scales without unit: the angle in radians is divided by the radius; 360 r degrees repeat.

    At radius 1 the columns contain the unit vector. At any other scale whose 1 / r is not an
    integer the code jumps at the antimeridian and depends on the longitude at the poles.
    """

    columns: ClassVar[int]

    def __init__(
        self, num_frequencies: int = 32, *, min_radius: float = 0.001, max_radius: float = 1.0
    ) -> None:
        check_scales(num_frequencies, min_radius, max_radius)
        super().__init__(out_features=self.columns * num_frequencies)
        self.num_frequencies = num_frequencies
        self.min_radius, self.max_radius = min_radius, max_radius

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees, 360 r: the radius divides radians inside the sine."""
        return 360 * geometric(self.min_radius, self.max_radius, self.num_frequencies)

    def _scaled(self, lonlat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """sin and cos of lon / r, then sin and cos of lat / r, each ``(..., F)``."""
        radius = geometric(
            self.min_radius, self.max_radius, self.num_frequencies, device=lonlat.device
        )
        sin, cos = sin_cos(lonlat[..., None] / (360 * radius), self.working_dtype)
        return sin[..., 0, :], cos[..., 0, :], sin[..., 1, :], cos[..., 1, :]

    def _unscaled(self, lonlat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sin(lon), cos(lon) and cos(lat), each ``(..., 1)``."""
        sin, cos = sin_cos(lonlat / 360, self.working_dtype)
        return sin[..., :1], cos[..., :1], cos[..., 1:]

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        return torch.stack(self._terms(lonlat), -1).flatten(-2)

    def _terms(self, lonlat: Tensor) -> list[Tensor]:
        """The columns of one scale, in the published order, each ``(..., F)``."""
        raise NotImplementedError


class Sphere2VecC(_Sphere2Vec):
    """[sin P, cos P cos L, cos P sin L] per scale, with P = lat / r and L = lon / r in radians.

    Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, geometrically spaced; wavelengths are 360 r degrees.

    Shape:
        ``(..., 2)`` to ``(..., 3 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecC(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([48])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 4 (sphereC).
    """

    columns = 3

    def _terms(self, lonlat: Tensor) -> list[Tensor]:
        sin_lon, cos_lon, sin_lat, cos_lat = self._scaled(lonlat)
        return [sin_lat, cos_lat * cos_lon, cos_lat * sin_lon]


class Sphere2VecCPlus(_Sphere2Vec):
    """[sin P, cos P, sin L, cos L, cos P cos L, cos P sin L] per scale: sphereC and the grid.

    P = lat / r and L = lon / r in radians. Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 6 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecCPlus(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([96])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 7 (sphereC+).
    """

    columns = 6

    def _terms(self, lonlat: Tensor) -> list[Tensor]:
        sin_lon, cos_lon, sin_lat, cos_lat = self._scaled(lonlat)
        return [sin_lat, cos_lat, sin_lon, cos_lon, cos_lat * cos_lon, cos_lat * sin_lon]


class Sphere2VecM(_Sphere2Vec):
    """[sin P, cos P cos lon, cos lat cos L, cos P sin lon, cos lat sin L] per scale.

    P = lat / r and L = lon / r in radians: in each product one angle is scaled, the other is not.
    Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 5 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecM(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([80])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 5 (sphereM).
    """

    columns = 5

    def _terms(self, lonlat: Tensor) -> list[Tensor]:
        sin_lon, cos_lon, sin_lat, cos_lat = self._scaled(lonlat)
        sin_lon1, cos_lon1, cos_lat1 = self._unscaled(lonlat)
        return [
            sin_lat,
            cos_lat * cos_lon1,
            cos_lat1 * cos_lon,
            cos_lat * sin_lon1,
            cos_lat1 * sin_lon,
        ]


class Sphere2VecMPlus(_Sphere2Vec):
    """[sin P, cos P, sin L, cos L, then the four products of sphereM] per scale.

    P = lat / r and L = lon / r in radians. Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 8 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecMPlus(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([128])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 8 (sphereM+).

    Differs:
        TorchSpatial's copy ignores ``min_radius``; pass ``min_radius=1`` with the same
        ``max_radius`` to load its weights.
    """

    columns = 8

    def _terms(self, lonlat: Tensor) -> list[Tensor]:
        sin_lon, cos_lon, sin_lat, cos_lat = self._scaled(lonlat)
        sin_lon1, cos_lon1, cos_lat1 = self._unscaled(lonlat)
        return [
            sin_lat,
            cos_lat,
            sin_lon,
            cos_lon,
            cos_lat * cos_lon1,
            cos_lat1 * cos_lon,
            cos_lat * sin_lon1,
            cos_lat1 * sin_lon,
        ]
