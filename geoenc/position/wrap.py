"""Wrap: longitude and latitude each on a circle."""

import torch
from torch import Tensor

from geoenc.fourier import sin_cos
from geoenc.position.base import PositionEncoder


class Wrap(PositionEncoder):
    """[sin a, sin b, cos a, cos b] with a = 2 pi lon / 360 and b = 2 pi lat / latitude_period.

    With the published latitude period of 180 degrees both poles get one code; with 360 the
    columns are the sines and cosines of the angles themselves.

    Args:
        latitude_period: degrees after which the latitude repeats.

    Shape:
        ``(..., 2)`` to ``(..., 4)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Wrap()(torch.tensor([90.0, 0.0])).round(decimals=3).abs()
        tensor([1., 0., 0., 1.])

    Reference:
        Mac Aodha, Cole and Perona, Presence-only geographical priors, ICCV 2019, section 3.2.
    """

    wraps_antimeridian = True

    def __init__(self, latitude_period: float = 180.0) -> None:
        super().__init__(out_features=4)
        self.latitude_period = latitude_period
        if not latitude_period > 0:
            raise ValueError(f"expected latitude_period above 0 degrees, got {latitude_period}")

    @property
    def wavelengths(self) -> Tensor:
        """``(2,)`` degrees: of the longitude, then of the latitude."""
        return torch.tensor([360.0, self.latitude_period], dtype=torch.float64)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        lon, lat = lonlat.unbind(-1)
        turns = torch.stack([lon / 360, lat / self.latitude_period], -1)
        sin, cos = sin_cos(turns, self.working_dtype)
        return torch.cat([sin, cos], -1)
