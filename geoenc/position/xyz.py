"""XYZ: the point on the unit sphere."""

from torch import Tensor

from geoenc.coordinates import to_xyz
from geoenc.position.base import PositionEncoder


class XYZ(PositionEncoder):
    """[cos(lat) cos(lon), cos(lat) sin(lon), sin(lat)].

    Shape:
        ``(..., 2)`` to ``(..., 3)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.XYZ()(torch.tensor([0.0, 90.0])).round(decimals=6)
        tensor([0., 0., 1.])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019; a baseline of all later papers.

    Differs:
        The geographic prior's own ``encode_3D`` doubles the latitude, so that the equator and the
        poles share z = 0; this is the point on the sphere.
    """

    wraps_antimeridian = True
    wraps_poles = True

    def __init__(self) -> None:
        super().__init__(out_features=3)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        return to_xyz(lonlat)
