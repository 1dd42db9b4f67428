"""Embeddings of data frames: points, lines and polygons in any CRS, or columns by name.

Importing this module gives every data frame the accessor ``frame.geoenc``.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geoenc.coordinates import _FURTHEST_LONGITUDE as FURTHEST_LONGITUDE
from geoenc.coordinates import as_lonlat
from geoenc.simplices import Simplices, simplices
from geoenc.temporal import year_fraction_of_dates

if TYPE_CHECKING:
    import geopandas as gpd

_GEOMETRIES = 1024
"""Geometries at once; memory, not the result, depends on it."""
_NODES = 65536
_WIDEST = 45.0
"""Degrees that a piece may extend over: by chance, two poor rules can agree."""
_WITHIN_EDGE = 1 - 1e-9
"""Of projected coordinates: some centimetres nearer to the origin."""

_EDGE_PARTS = 64
"""An outline in a projected CRS is reprojected with at least so many vertices."""


class Embeds(Protocol):
    """What embeds: every encoder of this library."""

    out_features: int

    def embed(self, locations: Any, time: Tensor | None = None) -> Tensor:
        """Embeddings of places."""
        ...


def embed_frame(
    encoder: Embeds,
    frame: "pd.DataFrame | gpd.GeoSeries",
    *,
    time: str | None = None,
    lon: str | int | None = None,
    lat: str | int | None = None,
    prefix: str = "emb_",
    tolerance: float = 0.01,
    max_points: int = 100_000,
) -> pd.DataFrame:
    """One embedding per row: e(x) of a point, the mean of e over a line or a polygon.

    The mean is (integral of e dA) / (integral of dA) on the sphere, and with dL for lines. Points
    of a multi-point count equally. Each piece is integrated by two rules on the same nodes and
    halved until both agree; the better one counts.

    Args:
        encoder: anything with ``embed``.
        frame: a GeoDataFrame or GeoSeries in any known CRS, or a frame with columns of degrees.
        time: name of a column, for encoders with time: dates, or fractions of the year.
        lon, lat: names of columns of degrees; without them the geometries, or in a frame without
            geometries the columns ``lon`` and ``lat``.
        prefix: of the columns; their numbers begin at 0.
        tolerance: how well the two rules must agree, relative to the length of e. The error of
            the mean is far smaller where e is smooth.
        max_points: stop refining a geometry after this many evaluations of e.

    Returns:
        A frame on the same index; NaN where a geometry, a place or a time is missing.

    Raises:
        ValueError: no CRS, no such column, coordinates that are no degrees.
        TypeError: an encoder without ``embed``.

    Example:
        >>> import geopandas, shapely, geoenc
        >>> from geoenc.frames import embed_frame
        >>> encoder = geoenc.published.encoder("SINR")
        >>> land = geopandas.GeoSeries([shapely.box(0, 40, 9, 50)], ["square"], crs="EPSG:4326")
        >>> embed_frame(encoder, land).shape
        (1, 256)
    """
    if not tolerance > 0 or max_points < 0:
        raise ValueError(
            f"expected a positive tolerance and max_points of at least 0, got {tolerance} and "
            f"{max_points}"
        )
    if not hasattr(encoder, "embed"):
        raise TypeError(
            f"expected an encoder with embed, got {type(encoder).__name__}; of a position encoder "
            "make a LocationEncoder(position, network), of a classifier give .encoder"
        )
    moment = None if time is None else year_fractions(column_of(frame, time, "time"))
    if lon is not None or lat is not None or not hasattr(frame, "to_crs"):
        numbers = [_numbers(frame, lon, "lon"), _numbers(frame, lat, "lat")]
        embedding = encoder.embed(np.stack(numbers, -1), moment).cpu()
    else:
        embedding = embed_shapes(encoder, in_degrees(frame), moment, tolerance, max_points)
    wide = torch.promote_types(embedding.dtype, torch.float32)
    names = [f"{prefix}{column}" for column in range(embedding.shape[-1])]
    return pd.DataFrame(embedding.to(wide).numpy(), index=frame.index, columns=names)


def off_earth(places: Any) -> Any:
    """Rows of ``(N, 2)`` degrees that `geoenc.as_lonlat` refuses; NaN is missing, not refused.

    Example:
        >>> import numpy as np
        >>> from geoenc.frames import off_earth
        >>> off_earth(np.array([[2.35, 48.86], [48.86, 151.2], [np.nan, np.inf], [np.nan, 0]]))
        array([False,  True,  True, False])
    """
    far = np.abs(places) > [FURTHEST_LONGITUDE, 90]
    return far.any(-1)


@pd.api.extensions.register_dataframe_accessor("geoenc")
class Accessor:
    """``frame.geoenc``: what geoenc does with a frame.

    Example:
        >>> import pandas, geoenc.frames
        >>> cities = pandas.DataFrame({"x": [2.35], "y": [48.86]}, index=["Paris"])
        >>> encoder = geoenc.published.encoder("SINR")
        >>> cities.geoenc.embed(encoder, lon="x", lat="y").index.tolist()
        ['Paris']
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def embed(self, encoder: Embeds, **options: Any) -> pd.DataFrame:
        """Embeddings of the rows; options are those of `embed_frame`."""
        return embed_frame(encoder, self._frame, **options)


def _numbers(frame: Any, name: str | int | None, role: str) -> Any:
    column = column_of(frame, role if name is None else name, role)
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"expected degrees in column {column.name!r}, got {error}; read them with "
            'pandas.to_numeric(column, errors="coerce"), where the others become missing'
        ) from error


def column_of(frame: Any, name: str | int, role: str) -> pd.Series:
    """A column by name, or an error that says how to name it."""
    if name not in getattr(frame, "columns", ()):
        raise ValueError(
            f"expected a column {name!r}, got {list(getattr(frame, 'columns', []))}; name it with "
            f"{role}=, or pass a GeoDataFrame"
        )
    if list(frame.columns).count(name) > 1:
        raise ValueError(f"expected one column {name!r}, got several; rename them")
    return frame[name]


def year_fractions(column: pd.Series, unreadable: Literal["raise", "coerce"] = "raise") -> Tensor:
    """Fractions of the year of dates, or of numbers that are such fractions; NaN where missing.

    Args:
        column: dates, text that is dates, or numbers from 0 to 1.
        unreadable: ``"raise"``, or ``"coerce"`` to NaN.

    Raises:
        ValueError: other numbers, or text that is no date.
    """
    if not pd.api.types.is_numeric_dtype(column):
        return year_fraction_of_dates(_dates(column, unreadable).to_numpy(dtype="datetime64[us]"))
    fraction = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    wrong = (fraction < 0) | (fraction > 1)
    if wrong.any() and unreadable == "raise":
        raise ValueError(
            f"expected fractions of the year in column {column.name!r}, got "
            f"{np.nanmin(fraction):g} to {np.nanmax(fraction):g}; convert them with "
            "geoenc.temporal.year_fraction_of_days or year_fraction_of_months"
        )
    fraction[wrong] = np.nan
    return torch.from_numpy(fraction)


def _dates(column: pd.Series, unreadable: Literal["raise", "coerce"]) -> pd.Series:
    """Moments in UTC. Text may be of several ISO forms; the rest of it must be of one form."""
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    rest = column[dates.isna() & column.notna()]
    if len(rest):
        dates = dates.copy()
        try:
            with warnings.catch_warnings(category=UserWarning, action="ignore"):  # of slowness
                read = pd.to_datetime(rest, errors=unreadable, utc=True)
        except ValueError as error:
            raise ValueError(
                f"expected dates such as 2024-07-01 in column {column.name!r}, got {error}; read "
                'them with pandas.to_datetime(column, errors="coerce"), where the others become '
                "missing"
            ) from error
        dates[dates.isna() & column.notna()] = read
    return dates.dt.tz_localize(None)


def in_degrees(frame: "gpd.GeoDataFrame | gpd.GeoSeries") -> Any:
    """Geometries as an array of their own, reprojected to EPSG:4326.

    Edges in a projected CRS are straight there and get more vertices first.

    Raises:
        ValueError: no geometry, or no CRS.
    """
    import shapely
    from pyproj.exceptions import ProjError

    if getattr(frame, "active_geometry_name", "") is None:
        raise ValueError(
            "expected a GeoDataFrame with an active geometry, got none; choose it with "
            "frame.set_geometry(COLUMN)"
        )
    series = frame.geometry
    if series.crs is None:
        raise ValueError(
            "expected geometries with a known CRS, got none; name it with "
            'frame.set_crs("EPSG:4326") if they are longitude and latitude in degrees'
        )
    if not series.crs.is_geographic:
        length = shapely.length(series.to_numpy())
        long = length > 0  # neither a point nor missing
        finer = series.to_numpy().copy()
        finer[long] = shapely.segmentize(finer[long], length[long] / _EDGE_PARTS)
        series = type(series)(finer, index=series.index, crs=series.crs)
    try:
        shapes = series.to_crs(4326).to_numpy().copy()
        lost = np.isinf(shapely.bounds(shapes)).any(1)
        if lost.any():  # by rounding, a vertex on the edge of the projected world is beyond it
            inside = shapely.transform(series.to_numpy()[lost], lambda xy: xy * _WITHIN_EDGE)
            shapes[lost] = type(series)(inside, crs=series.crs).to_crs(4326).to_numpy()
        return shapes
    except ProjError as error:
        raise ValueError(
            f"expected a CRS that leads to degrees, got {series.crs.name!r} ({error}); name the "
            'right one with frame.set_crs("EPSG:...", allow_override=True)'
        ) from error


def embed_shapes(
    encoder: Embeds,
    shapes: Any,
    moment: Tensor | None = None,
    tolerance: float = 0.01,
    max_points: int = 100_000,
) -> Tensor:
    """As `embed_frame`, of an array of geometries in degrees, which may be changed.

    Args:
        encoder: anything with ``embed``.
        shapes: ``(N,)`` shapely geometries, EPSG:4326; None where missing.
        moment: ``(N,)`` fractions of the year.
        tolerance, max_points: as for `embed_frame`.

    Shape:
        ``(N, out_features)`` on the CPU; NaN where missing.
    """
    import shapely

    places, index = shapely.get_coordinates(shapes, return_index=True)
    unknown = np.isnan(places).any(1)
    shapes[index[unknown]] = None
    as_lonlat(places[~unknown])  # the gate: degrees?
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    single = missing | (shapely.get_type_id(shapes) == 0)
    points = np.full((len(shapes), 2), np.nan)
    points[single & ~missing] = shapely.get_coordinates(shapes[single & ~missing])
    result = encoder.embed(points, moment).cpu()  # NaN where a mean follows
    rest = np.flatnonzero(~single if moment is None else ~single & ~moment.isnan().numpy())
    rough = 0
    for start in range(0, len(rest), _GEOMETRIES):
        rows = rest[start : start + _GEOMETRIES]
        some = None if moment is None else moment[rows]
        total = torch.zeros(len(rows), result.shape[-1], dtype=torch.float64)
        mass = torch.zeros(len(rows), dtype=torch.float64)
        for pieces in simplices(shapes[rows]):
            rough += _integrate(encoder, pieces, some, (total, mass), tolerance, max_points)
        result[rows] = (total / mass[:, None]).to(result.dtype)
    if rough:
        warnings.warn(
            f"expected two rules to agree to tolerance={tolerance:g} on all {len(rest)} lines and "
            f"polygons, got {rough} that needed more than {max_points} points; their means are "
            "rough: raise max_points, or tolerance if that will do",
            stacklevel=3,
        )
    return result


def _integrate(
    encoder: Embeds,
    pieces: Simplices,
    moment: Tensor | None,
    sums: tuple[Tensor, Tensor],
    tolerance: float,
    max_points: int,
) -> int:
    """Add the integrals of e and of 1 to ``sums``; returns how many geometries stay rough."""
    total, mass = sums
    nodes, fine, coarse = _RULES[pieces.vertices.shape[1]]
    at_once = max(1, _NODES // len(nodes))
    spent = np.zeros(len(total), dtype=np.int64)
    rough: set[int] = set()
    while True:
        halve = np.zeros(len(pieces.owner), dtype=bool)
        for start in range(0, len(halve), at_once):
            block = slice(start, start + at_once)
            vertices, owner = (one[block] for one in pieces)
            lonlat = nodes @ vertices
            size, density = _measure(vertices, np.deg2rad(lonlat[..., 1]))
            lonlat[..., 0] -= 360 * np.round(lonlat[..., 0] / 360)
            times = None if moment is None else moment[owner][:, None].expand(-1, len(nodes))
            value = encoder.embed(lonlat, times).cpu()
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            better, worse = (
                torch.einsum("sn,snd->sd", torch.from_numpy(rule * density).to(value), value)
                for rule in (fine, coarse)
            )
            weight = torch.from_numpy(density @ fine)
            length = value.norm(dim=-1).mean(-1)
            apart = (better - worse).norm(dim=-1)
            apart = apart + length * torch.from_numpy(np.abs(density @ (fine - coarse)))
            wide = np.ptp(vertices, axis=1).max(-1) > _WIDEST
            halve[block] = wide | (apart > tolerance * length * weight).numpy()
            done = torch.from_numpy(~halve[block] | (spent[owner] >= max_points))
            rough.update(owner[halve[block] & done.numpy()].tolist())
            halve[block] &= ~done.numpy()
            index, volume = torch.from_numpy(owner)[done], torch.from_numpy(size)[done]
            total.index_add_(0, index, better[done].double() * volume[:, None])
            mass.index_add_(0, index, weight[done] * volume)
        if not halve.any():
            break
        pieces = _halves(Simplices(*(one[halve] for one in pieces)))
        spent += np.bincount(pieces.owner, minlength=len(spent)) * len(nodes)
    return len(rough)


def _measure(vertices: Any, lat: Any) -> tuple[Any, Any]:
    """Size of each piece, and the density on the sphere at its nodes, of the order of 1."""
    edges = vertices[:, 1:] - vertices[:, :1]
    if vertices.shape[1] == 1:
        return np.ones(len(vertices)), np.ones_like(lat)
    if vertices.shape[1] == 3:
        return np.abs(np.linalg.det(edges)) / 2, np.cos(lat)
    size = np.hypot(edges[:, 0, 0], edges[:, 0, 1])
    return size, np.hypot(edges[..., 0] * np.cos(lat), edges[..., 1]) / size[:, None]


def _halves(pieces: Simplices) -> Simplices:
    """Each piece cut in two across its longest edge."""
    vertices, owner = pieces
    corners = vertices.shape[1]
    lat = np.deg2rad(vertices[..., 1])
    edges = np.roll(vertices, -1, axis=1) - vertices
    long = np.hypot(edges[..., 0] * np.cos(lat).max(1, initial=0)[:, None], edges[..., 1]).argmax(1)
    turn = (long[:, None] + np.arange(corners)) % corners
    vertices = np.take_along_axis(vertices, turn[..., None], 1)
    middle = vertices[:, :2].mean(1)
    left, right = vertices.copy(), vertices.copy()
    left[:, 1], right[:, 0] = middle, middle
    return Simplices(np.concatenate([left, right]), np.concatenate([owner, owner]))


def _rules() -> dict[int, tuple[Any, Any, Any]]:
    """Nodes, a good rule and a poorer one on the same nodes, for points, segments, triangles.

    Segments: Gauss (degree 5) and the midpoint (1). Triangles: Radon's rule (degree 5) and the
    one of degree 2 on four of its seven nodes.
    """
    root = math.sqrt(15)
    x = 0.5 + root / 10 * np.array([-1, 0, 1])
    near, far = (6 - root) / 21, (6 + root) / 21
    corners = [np.where(np.eye(3) > 0, 1 - 2 * a, a) for a in (near, far)]
    triangle = np.concatenate([np.full((1, 3), 1 / 3), *corners])
    radon = np.repeat([270.0, 155 - root, 155 + root], [1, 3, 3]) / 1200
    second = 1 / 18 / (2 * near**2 + (1 - 2 * near) ** 2 - 1 / 3)
    return {
        1: (np.ones((1, 1)), np.ones(1), np.ones(1)),
        2: (np.stack([1 - x, x], -1), np.array([5, 8, 5]) / 18, np.array([0.0, 1.0, 0.0])),
        3: (triangle, radon, np.repeat([1 - 3 * second, second, 0.0], [1, 3, 3])),
    }


_RULES = _rules()
