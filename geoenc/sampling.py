"""Points on the sphere: random, in a region, evenly spread, and as the original CSP drew them."""

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor


def uniform(
    num: int, *, generator: Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Places spread uniformly over the area of the sphere: lon = 360 u - 180, sin(lat) = 2 v - 1.

    Args:
        num: how many.
        generator: source of randomness; it must live on ``device``, or on the CPU, in which case
            the places are drawn there and moved.
        device: where the result lives.

    Shape:
        ``(num, 2)`` float64 degrees (float32 on devices without float64).

    Example:
        >>> import torch
        >>> from geoenc.sampling import uniform
        >>> places = uniform(100_000, generator=torch.Generator().manual_seed(0))
        >>> round((places[:, 1].abs() > 60).double().mean().item(), 2)      # 1 - sin(60)
        0.13

    Differs:
        The default of the original CSP code draws from one quadrant of the globe only.
    """
    draw = _unit_square(num, generator, device)
    lon = 360 * draw[:, 0] - 180
    lat = torch.rad2deg(torch.asin(2 * draw[:, 1] - 1))
    return torch.stack([lon, lat], -1)


def legacy_disc(
    num: int, *, generator: Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Negative places as both published CSP scripts drew them: a disc in the lon/lat plane.

    With z ~ U(-1, 1) and a ~ U(0, 2 pi): lon = 180 sqrt(1 - z^2) cos(a),
    lat = 90 sqrt(1 - z^2) sin(a). So (lon/180)^2 + (lat/90)^2 <= 1 always: a ninth of the globe
    is never drawn. Only for reproduction; use `uniform`.

    Shape:
        ``(num, 2)`` float64 degrees.
    """
    draw = _unit_square(num, generator, device)
    z = 2 * draw[:, 0] - 1
    angle = 2 * math.pi * draw[:, 1]
    radius = (1 - z * z).sqrt()
    return torch.stack([180 * radius * angle.cos(), 90 * radius * angle.sin()], -1)


def legacy_quadrant(
    num: int, *, generator: Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Negative places as the default of the published CSP code draws them: lon = 180 u, lat = 90 v.

    A point of the sphere is computed there and then not used, so that every negative lies in the
    north-eastern quadrant, and too many of them near the pole. Only for reproduction; use
    `uniform`.

    Shape:
        ``(num, 2)`` float64 degrees, u and v uniform in [0, 1).
    """
    draw = _unit_square(num, generator, device)
    return draw * draw.new_tensor([180.0, 90.0])


class Within:
    """Places spread uniformly over the area of a region of the globe.

    A point is drawn in the boxes around the polygons, a box with probability in proportion to its
    area (lon2 - lon1) (sin lat2 - sin lat1) on the sphere and a point uniformly within, until it
    falls into its polygon.

    Args:
        region: a shapely polygon or multipolygon in degrees, longitude first; or a sequence of
            them, whose union it is. Longitudes may run past 180 for a region across the
            antimeridian; results do not.

    Raises:
        ValueError: a region without area, or beyond the globe.

    Example:
        >>> import shapely, torch
        >>> from geoenc.sampling import Within
        >>> box = shapely.box(-10, 40, 30, 60)
        >>> places = Within(box)(1000, generator=torch.Generator().manual_seed(0))
        >>> bool(shapely.contains_xy(box, *places.T.numpy()).all())
        True
    """

    def __init__(self, region: Any) -> None:
        import shapely

        union = shapely.union_all(np.atleast_1d(np.asarray(region, dtype=object)))
        parts = shapely.get_parts(union)
        parts = parts[(shapely.get_dimensions(parts) == 2) & (shapely.area(parts) > 0)]
        if len(parts) == 0:
            raise ValueError(
                f"expected a region with an area, got {union.geom_type} without; "
                "pass polygons, for example shapely.box(west, south, east, north)"
            )
        west, south, east, north = shapely.bounds(parts).T
        if south.min() < -90 or north.max() > 90 or west.min() < -360 or east.max() > 360:
            raise ValueError(
                f"expected a region in degrees, longitude first, got bounds {west.min():g} to "
                f"{east.max():g} and {south.min():g} to {north.max():g}; reproject it to EPSG:4326"
            )
        shapely.prepare(parts)
        self.region, self._parts = union, parts
        bottom, top = np.sin(np.radians(south)), np.sin(np.radians(north))
        self._corners = torch.from_numpy(np.stack([west, bottom, east - west, top - bottom], 1))
        self._areas = (self._corners[:, 2] * self._corners[:, 3]).cumsum(0)

    def __call__(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """So many places, ``(num, 2)`` float64 degrees; drawn on the CPU and moved."""
        drawn, found = num, self._accepted(num, generator)
        while len(found) < num:
            share = max(len(found) / drawn, 0.01)
            more = math.ceil((num - len(found)) / share) + 8
            drawn, found = drawn + more, torch.cat([found, self._accepted(more, generator)])
        return found[:num].to(device)

    def _accepted(self, num: int, generator: Generator | None) -> Tensor:
        """Those of ``num`` points in the boxes that fall into their polygons."""
        import shapely

        _check_count(num)
        home = None if generator is None else generator.device
        draw = torch.rand(num, 3, generator=generator, dtype=torch.float64, device=home).cpu()
        box = torch.searchsorted(self._areas, draw[:, 2] * self._areas[-1], right=True)
        box.clamp_(max=len(self._areas) - 1)
        corner = self._corners[box]
        lon = corner[:, 0] + draw[:, 0] * corner[:, 2]
        lat = torch.rad2deg(torch.asin(corner[:, 1] + draw[:, 1] * corner[:, 3]))
        inside = shapely.contains_xy(self._parts[box.numpy()], lon.numpy(), lat.numpy())
        lon = torch.where(lon.abs() > 180, torch.remainder(lon + 180, 360) - 180, lon)
        return torch.stack([lon, lat], -1)[torch.from_numpy(inside)]


def fibonacci(num: int) -> Tensor:
    """A Fibonacci lattice, evenly spread and deterministic: sin(lat_i) = 1 - (2 i + 1) / num.

    The longitude advances by the golden angle from one point to the next.

    Shape:
        ``(num, 2)`` float64 degrees, from north to south.

    Example:
        >>> from geoenc.sampling import fibonacci
        >>> fibonacci(3)[:, 1].round(decimals=1)
        tensor([ 41.8000,   0.0000, -41.8000], dtype=torch.float64)

    Reference:
        Gonzalez, Measurement of areas on a sphere using Fibonacci and latitude-longitude
        lattices, Mathematical Geosciences 2010.
    """
    _check_count(num)
    index = torch.arange(num, dtype=torch.float64)
    lat = torch.rad2deg(torch.asin(1 - (2 * index + 1) / num))
    turns = index * ((5**0.5 - 1) / 2)
    lon = 360 * (turns - torch.round(turns))
    return torch.stack([lon, lat], -1)


def lattice(height: int, width: int | None = None) -> Tensor:
    """Centres of the cells of a global latitude-longitude grid, north first, west first.

    Args:
        height: rows; a row spans 180 / height degrees.
        width: columns; twice ``height`` by default.

    Shape:
        ``(height, width, 2)`` float64 degrees: the pixels of a world map.

    Example:
        >>> from geoenc.sampling import lattice
        >>> lattice(2)[0]
        tensor([[-135.,   45.],
                [ -45.,   45.],
                [  45.,   45.],
                [ 135.,   45.]], dtype=torch.float64)
    """
    width = 2 * height if width is None else width
    _check_count(height)
    _check_count(width)
    lat = 90 - 180 * (torch.arange(height, dtype=torch.float64) + 0.5) / height
    lon = 360 * (torch.arange(width, dtype=torch.float64) + 0.5) / width - 180
    return torch.stack([lon.expand(height, -1), lat[:, None].expand(-1, width)], -1)


def _check_count(num: int) -> None:
    if num < 0:
        raise ValueError(f"expected a number of points of at least 0, got {num}")


def _unit_square(
    num: int, generator: Generator | None, device: torch.device | str | None
) -> Tensor:
    _check_count(num)
    device = torch.device("cpu" if device is None else device)
    wide = torch.float32 if device.type == "mps" else torch.float64
    home = device if generator is None else generator.device
    return torch.rand(num, 2, generator=generator, dtype=wide, device=home).to(device)
