"""Geometries as points, segments and triangles in longitude and latitude, to integrate over.

Edges are straight in longitude and latitude, as GeoJSON and geopandas draw them, and a step of
more than 180 degrees of longitude goes the short way round, across the antimeridian.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_POLE = 90 - 1e-9
_POLE_POINTS = 25
"""A pole drawn flat is a line; with this many points on it the triangles are not all slivers."""


class Simplices(NamedTuple):
    """Pieces of one dimension: points, segments or triangles.

    Attributes:
        vertices: ``(S, k, 2)`` degrees; k = 1, 2, 3.
        owner: ``(S,)`` index of the geometry that each is a piece of.
    """

    vertices: Array
    owner: Array


def simplices(shapes: Array) -> Iterator[Simplices]:
    """The pieces of highest dimension of each geometry: what its mean is a mean over.

    A polygon without area counts as its outline, a line without length as its points. Where a
    ring starts and which way it runs makes no difference. A ring that goes round a pole encloses
    the smaller of the two sides. A step of exactly 360 degrees is the whole way round in polygons
    that are valid drawn flat, such as ``box(-180, -60, 180, 60)``, and in lines of two points.

    Args:
        shapes: ``(N,)`` shapely geometries, EPSG:4326; None and empty ones have no pieces.

    Example:
        >>> import numpy as np, shapely
        >>> from geoenc.simplices import simplices
        >>> (triangles,) = simplices(np.array([shapely.box(0, 0, 1, 1)]))
        >>> triangles.vertices.shape, triangles.owner
        ((2, 3, 2), array([0, 0]))
    """
    import shapely

    shapes = shapely.force_2d(shapes)
    dimension = np.asarray(shapely.get_dimensions(shapes))
    for level, pieces_of in ((2, _triangles), (1, _segments), (0, _points)):
        mine = np.flatnonzero(dimension == level)
        parts, owner = _parts(shapes[mine], level)
        pieces = pieces_of(parts, mine[owner])
        if len(pieces.owner):
            yield pieces
        flat = np.setdiff1d(mine, pieces.owner)  # without area or length: one dimension less
        if level == 2:
            shapes[flat] = shapely.boundary(shapes[flat])
        elif level == 1:
            shapes[flat] = shapely.extract_unique_points(shapes[flat])
        dimension[flat] = level - 1


def _parts(shapes: Array, dimension: int) -> tuple[Array, Array]:
    """Simple geometries of one dimension, and which of ``shapes`` each belongs to."""
    import shapely

    owner = np.arange(len(shapes))
    while (shapely.get_type_id(shapes) >= 4).any():  # collections, perhaps of collections
        shapes, index = shapely.get_parts(shapes, return_index=True)
        owner = owner[index]
    kept = (shapely.get_dimensions(shapes) == dimension) & ~shapely.is_empty(shapes)
    return shapes[kept], owner[kept]


def _points(parts: Array, owner: Array) -> Simplices:
    import shapely

    return Simplices(shapely.get_coordinates(parts)[:, None], owner)


def _segments(parts: Array, owner: Array) -> Simplices:
    import shapely

    places, line = shapely.get_coordinates(parts, return_index=True)
    together = line[1:] == line[:-1]
    start, step, line = places[:-1][together], np.diff(places, axis=0)[together], line[1:][together]
    alone = np.bincount(line, minlength=len(parts))[line] == 1
    whole = alone & (np.abs(step[:, 0]) >= 360)
    step[:, 0] = np.where(whole, step[:, 0], _short(step[:, 0]))
    from_pole, to_pole = (np.abs(lat) > _POLE for lat in (start[:, 1], start[:, 1] + step[:, 1]))
    start[from_pole, 0] += step[from_pole, 0]
    step[from_pole | to_pole, 0] = 0  # along a meridian: a pole has no longitude
    long = (step != 0).any(1)
    vertices = np.stack([start, start + step], 1)
    return Simplices(vertices[long], owner[line[long]])


def _triangles(parts: Array, owner: Array) -> Simplices:
    import shapely

    west, south, east, north = shapely.bounds(parts).T
    wild = (east - west > 180) | (south < -_POLE) | (north > _POLE)
    parts = shapely.normalize(parts)
    for one in np.flatnonzero(wild):
        parts[one] = _unrolled(parts[one])
    broken = ~shapely.is_valid(parts)
    parts[broken] = shapely.make_valid(parts[broken])
    parts, index = _parts(parts, 2)
    found, polygon = shapely.get_parts(
        shapely.constrained_delaunay_triangles(parts), return_index=True
    )
    vertices = shapely.get_coordinates(found).reshape(-1, 4, 2)[:, :3]
    solid = np.linalg.det(vertices[:, 1:] - vertices[:, :1]) != 0
    return Simplices(vertices[solid], owner[index[polygon[solid]]])


def _short(step: Array) -> Array:
    return np.where(np.abs(step) > 180, step - 360 * np.round(step / 360), step)


def _unrolled(polygon: Any) -> Any:
    """A polygon across the antimeridian or at a pole, drawn flat without a jump."""
    import shapely
    from shapely import affinity

    rings = [_polar(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
    steps = np.concatenate([np.abs(np.diff(ring[:, 0])) for ring in rings])
    flat = shapely.Polygon(rings[0], rings[1:])
    if not ((steps > 180) & (steps < 360)).any() and shapely.is_valid(flat):
        return flat
    outside, *holes = (shapely.make_valid(shapely.Polygon(_closed(ring))) for ring in rings)
    middle = outside.centroid.x
    for hole in holes:
        turns = round((middle - hole.centroid.x) / 360)
        for turn in (turns - 1, turns, turns + 1):
            outside = shapely.difference(outside, affinity.translate(hole, 360 * turn))
    return outside


def _polar(ring: Array) -> Array:
    """A ring whose vertices at a pole have the longitudes of the vertices beside them."""
    at = np.abs(ring[:-1, 1]) > _POLE
    if at.all() or not at.any():
        return ring
    ring = np.roll(ring[:-1], -np.argmin(at), axis=0)  # begin away from the poles
    at = np.abs(ring[:, 1]) > _POLE
    places = [ring[0]]
    for index in range(1, len(ring) + 1):
        here, before = index % len(ring), index - 1
        if at[before] and not at[here]:
            places.append(np.array([ring[here, 0], ring[before, 1]]))
        if not at[here]:
            places.append(ring[here])
        elif not at[before]:
            places.append(np.array([ring[before, 0], ring[here, 1]]))
    return np.stack(places)


def _closed(ring: Array) -> Array:
    """A ring whose steps go the short way round; over the pole if it then does not close."""
    lon = ring[0, 0] + np.concatenate([[0.0], np.cumsum(_short(np.diff(ring[:, 0])))])
    lat = ring[:, 1]
    if abs(lon[-1] - lon[0]) > 180:
        height = np.sin(np.deg2rad(lat))
        above = np.sum(np.diff(lon) * (height[1:] + height[:-1])) / (lon[-1] - lon[0])
        pole = 90.0 if above >= 0 else -90.0
        along = np.linspace(lon[-1], lon[0], _POLE_POINTS)
        lon = np.concatenate([lon, along, lon[:1]])
        lat = np.concatenate([lat, np.full(_POLE_POINTS, pole), lat[:1]])
    return np.stack([lon, lat], -1)
