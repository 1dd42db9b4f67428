"""What a map shows and how: the world, one side of the globe, or a region."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat, equal_earth, to_lonlat, to_xyz
from geoenc.sampling import lattice

_EDGE = 181
_BEHIND = -0.8
"""Cosine of the distance from its centre beyond which a regional map shows nothing."""


@dataclass(frozen=True)
class World:
    """The whole world on the Equal Earth projection, which keeps areas."""

    equal_area = True

    def places(self, height: int) -> Tensor:
        """Where the cells of a map of so many rows have their centres, ``(rows, columns, 2)``."""
        return lattice(height)

    def corners(self, height: int) -> Tensor:
        """Corners of these cells on the plane, ``(rows + 1, columns + 1, 2)``."""
        return self.project(_lattice((-180.0, -90.0, 180.0, 90.0), height + 1, 2 * height + 1))

    def project(self, lonlat: Tensor) -> Tensor:
        """Places on the plane of the map; NaN where they are hidden."""
        return equal_earth(lonlat)

    def frame(self) -> Tensor:
        """The outline of the map on the plane, ``(N, 2)``."""
        return self.project(_sides((-180.0, -90.0, 180.0, 90.0)))


@dataclass(frozen=True)
class Globe:
    """The globe from far above: orthographic, x = u . east, y = u . north where u . centre >= 0.

    Args:
        centre: the place in the middle, (lon, lat).
    """

    centre: tuple[float, float] = (0.0, 0.0)

    equal_area = False

    def places(self, height: int) -> Tensor:
        """Where the cells of a map of so many rows have their centres, ``(rows, rows, 2)``."""
        step = (torch.arange(height, dtype=torch.float64) + 0.5) * (2 / height) - 1
        y, x = torch.meshgrid(-step, step, indexing="ij")
        # cells that the edge cuts are asked at the edge, as are those beyond, which are not drawn
        outside = torch.hypot(x, y).clamp_min(1.0)
        x, y = x / outside, y / outside
        plane = torch.stack([(1 - x * x - y * y).clamp_min(0.0).sqrt(), x, y], -1)
        return to_lonlat(plane @ basis(self.centre))

    def corners(self, height: int) -> Tensor:
        """Corners of these cells on the plane, ``(rows + 1, rows + 1, 2)``."""
        step = torch.arange(height + 1, dtype=torch.float64) * (2 / height) - 1
        return torch.stack(torch.meshgrid(-step, step, indexing="ij")[::-1], -1)

    def project(self, lonlat: Tensor) -> Tensor:
        """Places on the plane of the map, in Earth radii; NaN on the far side."""
        plane = to_xyz(lonlat.double()) @ basis(self.centre).mT
        return plane[..., 1:].where(plane[..., :1] >= 0, torch.nan)

    def frame(self) -> Tensor:
        """The unit circle, ``(N, 2)``."""
        angle = torch.linspace(0, 2 * torch.pi, 4 * _EDGE, dtype=torch.float64)
        return torch.stack([angle.cos(), angle.sin()], -1)


@dataclass(frozen=True)
class Region:
    """A part of the world on the Lambert azimuthal equal-area projection about its middle.

    (x, y) = sqrt(2 / (1 + u . c)) (u . east, u . north), where c is the mean direction of the
    extent.

    Args:
        extent: (west, south, east, north) in degrees; east of the antimeridian, ``west > east``.

    Raises:
        ValueError: an extent without area, beyond the globe, or all of it.

    Example:
        >>> from geoenc.plot import Region
        >>> fiji = Region((170, -25, -170, -10))
        >>> fiji.places(3).shape
        torch.Size([3, 4, 2])
    """

    extent: tuple[float, float, float, float]

    equal_area = True

    def __post_init__(self) -> None:
        west, south, east, north = self.extent
        right = -90 <= south < north <= 90 and -180 <= west <= 180 and west != east
        if not right or not east - west <= 360:
            raise ValueError(
                "expected extent=(west, south, east, north) in degrees with an area, got "
                f"{self.extent}; longitude comes first"
            )
        if (south, north) == (-90, 90) and self._straight()[2] - west == 360:
            raise ValueError("expected the extent of a part of the world, got all; use World()")

    def places(self, height: int) -> Tensor:
        """Where the cells of a map of so many rows have their centres, ``(rows, columns, 2)``."""
        rows, columns = height, self._columns(height)
        edges = _lattice(self._straight(), rows + 1, columns + 1)
        return as_lonlat((edges[:-1, :-1] + edges[1:, 1:]) / 2)

    def corners(self, height: int) -> Tensor:
        """Corners of these cells on the plane, ``(rows + 1, columns + 1, 2)``."""
        return self.project(_lattice(self._straight(), height + 1, self._columns(height) + 1))

    def project(self, lonlat: Tensor) -> Tensor:
        """Places on the plane of the map, in Earth radii; NaN far on the other side."""
        plane = to_xyz(lonlat.double()) @ basis(self.centre).mT
        along = plane[..., :1]
        scale = (2 / (1 + along).clamp_min(1e-12)).sqrt()
        return (scale * plane[..., 1:]).where(along >= _BEHIND, torch.nan)

    def frame(self) -> Tensor:
        """The outline of the map on the plane, ``(N, 2)``."""
        west, south, east, north = self._straight()
        if east - west < 360:
            return self.project(_sides((west, south, east, north)))
        lon = torch.linspace(west, east, 4 * _EDGE, dtype=torch.float64)
        wide = torch.full_like(lon, south if abs(south) < abs(north) else north)
        return self.project(torch.stack([lon, wide], -1))

    @property
    def centre(self) -> tuple[float, float]:
        """The mean direction of the extent: the pole for a cap."""
        edges = _lattice(self._straight(), 46, 91)
        middle = (edges[:-1, :-1] + edges[1:, 1:]) / 2
        weight = middle[..., 1:].deg2rad().cos()
        lon, lat = to_lonlat((weight * to_xyz(middle)).sum((0, 1))).tolist()
        return lon, lat

    def _straight(self) -> tuple[float, float, float, float]:
        west, south, east, north = self.extent
        return west, south, east + 360 * (east < west), north

    def _columns(self, height: int) -> int:
        west, south, east, north = self._straight()
        widest = 0.0 if south < 0 < north else min(abs(south), abs(north))
        across = (east - west) * torch.tensor(widest).deg2rad().cos().item()
        return max(1, round(height * across / (north - south)))


View = World | Globe | Region
"""What the keyword ``view`` of every map takes."""

WORLD = World()


def _lattice(extent: Sequence[float], rows: int, columns: int) -> Tensor:
    """So many places from north to south and west to east, the sides of the extent included."""
    west, south, east, north = extent
    lat = torch.linspace(north, south, rows, dtype=torch.float64)
    lon = torch.linspace(west, east, columns, dtype=torch.float64)
    return torch.stack([lon.expand(rows, -1), lat[:, None].expand(-1, columns)], -1)


def _sides(extent: Sequence[float]) -> Tensor:
    grid = _lattice(extent, _EDGE, _EDGE)
    return torch.cat([grid[0], grid[:, -1], grid[-1].flip(0), grid[:, 0].flip(0)])


def basis(centre: tuple[float, float]) -> Tensor:
    """Rows: the direction of a place, east and north there."""
    lon, lat = as_lonlat(centre).deg2rad()
    zero = torch.zeros_like(lon)
    return torch.stack(
        [
            to_xyz(as_lonlat(centre)),
            torch.stack([-lon.sin(), lon.cos(), zero]),
            torch.stack([-lat.sin() * lon.cos(), -lat.sin() * lon.sin(), lat.cos()]),
        ]
    )
