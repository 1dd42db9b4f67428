"""Direct: the coordinates themselves."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geoenc.fourier import exact
from geoenc.position.base import PositionEncoder


class Direct(PositionEncoder):
    """(2 (lon - west) / (east - west) - 1, 2 (lat - south) / (north - south) - 1).

    With the whole globe as extent this is (lon / 180, lat / 90).

    Args:
        extent: (west, east, south, north) in degrees; these edges map to -1 and 1. Places
            outside are not clipped.

    Shape:
        ``(..., 2)`` to ``(..., 2)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Direct()(torch.tensor([90.0, -45.0]))
        tensor([ 0.5000, -0.5000])

    Reference:
        The baseline called naive in Mai et al., Space2Vec, ICLR 2020.
    """

    def __init__(self, extent: Sequence[float] = (-180.0, 180.0, -90.0, 90.0)) -> None:
        super().__init__(out_features=2)
        self.extent = extent
        check_extent(extent)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        return unit_extent(lonlat, self.extent)


def unit_extent(lonlat: Tensor, extent: Sequence[float]) -> Tensor:
    """Places scaled so that the edges (west, east, south, north) become -1 and 1."""
    west, east, south, north = map(exact, extent)
    lon, lat = lonlat.split(1, -1)
    return torch.cat(
        [2 * (lon - west) / (east - west) - 1, 2 * (lat - south) / (north - south) - 1], -1
    )


def check_extent(extent: Sequence[float], *, globe: bool = False) -> None:
    """Refuse an extent that is not (west, east, south, north) in this order, or on the globe."""
    lon, lat, order = math.inf, math.inf, "west < east and south < north"
    if globe:
        lon, lat, order = 180, 90, "-180 <= west < east <= 180 and -90 <= south < north <= 90"
    if len(extent) != 4 or not (
        -lon <= extent[0] < extent[1] <= lon and -lat <= extent[2] < extent[3] <= lat
    ):
        raise ValueError(
            f"expected extent (west, east, south, north) with {order}, got {tuple(extent)}"
        )
