"""GPS2VecCells: nearness to the cells of the place's own UTM zone."""

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding

from geoenc.position.base import PositionEncoder
from geoenc.position.shared import LOWEST, cell

BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""UTM latitude bands, 8 degrees each from -80; X has 12."""
IRREGULAR = {
    "V": [(0, 3, 3), (3, 12, 9)],
    "X": [(0, 9, 3), (9, 21, 15), (21, 33, 27), (33, 42, 39)],
}
"""West, east and central meridian of the zones around Norway and Svalbard."""
SOUTH, NORTH = -80.0, 84.0


class GPS2VecCells(PositionEncoder):
    """exp(-d_ij / sigma), d_ij the distance on the UTM map to the centre of cell (i, j).

    The cells divide a rectangle around the place's UTM zone and latitude band: from the least to
    the greatest northing on the band's two edges, and from the zone's western edge to as far on
    the other side of its central meridian. The code jumps at the edges of zones and bands, and
    does not say which zone the place is in.

    UTM is defined from -80 to 84 degrees; beyond, a place has the code of the nearest latitude
    within.

    Args:
        num_columns, num_rows: cells from west to east and from south to north.
        sigma_km: distance after which a value falls by a factor e.

    Shape:
        ``(..., 2)`` to ``(..., num_columns num_rows)``; column slowest.

    Example:
        >>> import torch, geoenc
        >>> geoenc.GPS2VecCells(4, 3)(torch.tensor([12.3, 45.6])).shape
        torch.Size([12])

    Reference:
        Yin et al., GPS2Vec: towards generating worldwide GPS embeddings, SIGSPATIAL 2019. Series:
        Snyder, Map projections, a working manual, USGS 1395, 1987, equations 8-9 and 8-10.

    Differs:
        The published code knows no zone 31V, the sea west of Norway, and nothing beyond UTM.
    """

    num_columns: int
    num_rows: int
    sigma_km: float
    wraps_antimeridian = True
    frames: Tensor

    def __init__(
        self, num_columns: int = 20, num_rows: int = 20, *, sigma_km: float = 20.0
    ) -> None:
        if num_columns < 1 or num_rows < 1:
            raise ValueError(
                f"expected num_columns and num_rows of at least 1, got {num_columns} and {num_rows}"
            )
        if not 0 < sigma_km < math.inf:
            raise ValueError(f"expected sigma_km above 0, got {sigma_km}")
        super().__init__(out_features=num_columns * num_rows)
        self.num_columns, self.num_rows, self.sigma_km = num_columns, num_rows, sigma_km
        self.register_buffer("frames", _frames(), persistent=False)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        lon, lat = lonlat.unbind(-1)
        lon = lon - 360 * ((lon.detach() + 180) / 360).floor()
        lat = lat.clamp(SOUTH, NORTH)
        row = cell((lat - SOUTH) / 8, 20) * 120 + cell((lon + 180) / 3, 120)
        frame = embedding(row, self.frames)
        meridian, west, south, width, height = frame.unbind(-1)
        easting, northing = transverse_mercator(lon - meridian, lat)
        across = ((easting - west) / width)[..., None] - _centres(self.num_columns, lonlat)
        along = ((northing - south) / height)[..., None] - _centres(self.num_rows, lonlat)
        dtype = self.working_dtype
        across = (across * (width / self.sigma_km)[..., None]).to(dtype)
        along = (along * (height / self.sigma_km)[..., None]).to(dtype)
        square = across.square()[..., :, None] + along.square()[..., None, :]
        return (-square.clamp(1e-24, LOWEST**2).sqrt()).exp().flatten(-2)


def transverse_mercator(lon: Tensor, lat: Tensor) -> tuple[Tensor, Tensor]:
    """Easting from the central meridian and northing from the equator in km, as UTM has them.

    Snyder's series on the WGS 84 ellipsoid, good to a millimetre within 3 degrees of the
    meridian and to centimetres within 6.

    Args:
        lon: degrees east of the central meridian.
        lat: degrees.
    """
    radius, scale, e2 = 6378.137, 0.9996, 0.00669438
    e4, e6, second = e2**2, e2**3, e2 / (1 - e2)
    phi = torch.deg2rad(lat)
    sin, cos = phi.sin(), phi.cos()
    t = (sin / cos).square()
    c = second * cos.square()
    a = torch.deg2rad(lon) * cos
    n = radius / (1 - e2 * sin.square()).sqrt()
    meridian = radius * (
        (1 - e2 / 4 - 3 * e4 / 64 - 5 * e6 / 256) * phi
        - (3 * e2 / 8 + 3 * e4 / 32 + 45 * e6 / 1024) * (2 * phi).sin()
        + (15 * e4 / 256 + 45 * e6 / 1024) * (4 * phi).sin()
        - (35 * e6 / 3072) * (6 * phi).sin()
    )
    a2 = a.square()
    fifth = 5 - 18 * t + t.square() + 72 * c - 58 * second
    easting = n * a * (1 + a2 / 6 * (1 - t + c + a2 / 20 * fifth))
    fourth = 5 - t + 9 * c + 4 * c.square()
    sixth = 61 - 58 * t + t.square() + 600 * c - 330 * second
    northing = meridian + n * (sin / cos) * a2 / 2 * (1 + a2 / 12 * (fourth + a2 / 30 * sixth))
    return scale * easting, scale * northing


def _centres(num: int, like: Tensor) -> Tensor:
    return (torch.arange(num, dtype=like.dtype, device=like.device) + 0.5) / num


def _frames() -> Tensor:
    """``(20 * 120, 5)``: central meridian, then west, south, width and height of the rectangle.

    One row for each latitude band and 3 degrees of longitude, which no zone's edge divides.
    """
    zones = []
    for letter in BANDS:
        row = [(edge, edge + 6, edge + 3) for edge in range(-180, 180, 6) for _ in range(2)]
        for zone in IRREGULAR.get(letter, []):
            first, last = (zone[0] + 180) // 3, (zone[1] + 180) // 3
            row[first:last] = [zone] * (last - first)
        zones += row
    west, east, meridian = torch.tensor(zones, dtype=torch.float64).unbind(-1)
    south = SOUTH + 8 * torch.arange(20, dtype=torch.float64).repeat_interleave(120)
    north = torch.where(south == 72, NORTH, south + 8) - 1e-8
    edges = torch.stack([west, meridian.minimum(east), east]) - meridian
    lower = transverse_mercator(edges, south.expand_as(edges))
    upper = transverse_mercator(edges, north.expand_as(edges))
    left = torch.minimum(lower[0][0], upper[0][0])
    northings = torch.cat([lower[1], upper[1]])
    bottom, top = northings.amin(0), northings.amax(0)
    return torch.stack([meridian, left, bottom, -2 * left, top - bottom], -1)
