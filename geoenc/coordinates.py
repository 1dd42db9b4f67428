"""Places as tensors: the gate for values, unit vectors, the Equal Earth plane, distances."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.fourier import exact

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG), the only one in this library."""

_FURTHEST_LONGITUDE = 540.0


def as_lonlat(locations: Any, order: str = "lonlat", missing: bool = False) -> Tensor:
    """Checked places, ``(..., 2)`` float64 degrees, longitude first: the gate for values.

    Longitudes outside [-180, 180], as in data that run from 0 to 360, are wrapped. The argument
    is never modified.

    Args:
        locations: a tensor, an array, a list of pairs, a pandas frame with columns ``lon`` and
            ``lat``, or a GeoSeries or GeoDataFrame of points in any known CRS (it is reprojected
            to EPSG:4326).
        order: ``"lonlat"`` or ``"latlon"``: which column comes first.
        missing: accept rows with NaN, which stand for places that are not known. A row with one
            NaN becomes a row of two.

    Shape:
        input ``(..., 2)``; output the same, on the same device.

    Raises:
        ValueError: wrong shape, latitude beyond 90 degrees, infinity, NaN without ``missing``,
            unknown CRS.
        TypeError: something that does not hold numbers.

    Example:
        >>> import geoenc
        >>> geoenc.as_lonlat([(2.35, 48.86), (287.6, -33.4)])
        tensor([[  2.3500,  48.8600],
                [-72.4000, -33.4000]], dtype=torch.float64)
    """
    if order not in ("lonlat", "latlon"):
        raise ValueError(f"expected order 'lonlat' or 'latlon', got {order!r}")
    frame = _frame_columns(locations, order)
    lonlat = _as_tensor(locations if frame is None else frame)
    if lonlat.shape[-1:] != (2,):
        raise ValueError(
            f"expected lonlat of shape (..., 2) in degrees, got {tuple(lonlat.shape)}; "
            "stack longitude and latitude along the last dimension"
        )
    if order == "latlon" and frame is None:
        lonlat = lonlat.flip(-1)
    return _checked(lonlat, missing)


def _checked(lonlat: Tensor, missing: bool) -> Tensor:
    lon, lat = lonlat.unbind(-1)
    unknown = lon.isnan() | lat.isnan()
    if not missing and bool(unknown.any()):
        rows = int(unknown.sum())
        raise ValueError(
            f"expected known places, got NaN in {rows} of {unknown.numel()} rows; "
            "remove them, or pass missing=True to keep them as missing places"
        )
    if bool(lonlat.isinf().any()):
        raise ValueError(
            f"expected finite degrees, got infinity in {int(lonlat.isinf().any(-1).sum())} rows; "
            "remove them, or write NaN and pass missing=True"
        )
    beyond = lat.abs() > 90
    if bool(beyond.any()):
        value = lat[beyond].flatten()[0].item()
        raise ValueError(
            f"latitude {value:.10g} is outside [-90, 90] ({int(beyond.sum())} rows); if columns "
            'are (lat, lon), pass order="latlon"; if they are metres, reproject to EPSG:4326'
        )
    far = lon.abs() > _FURTHEST_LONGITUDE
    if bool(far.any()):
        value = lon[far].flatten()[0].item()
        raise ValueError(
            f"longitude {value:g} is outside [-540, 540] ({int(far.sum())} rows), too far to be "
            "degrees that only need wrapping; if they are metres, reproject to EPSG:4326"
        )
    wrapped = torch.where(lon.abs() > 180, lon - 360 * torch.round(lon / 360), lon)
    checked = torch.stack([wrapped, lat], -1)
    if missing:
        checked = checked.masked_fill(unknown[..., None], torch.nan)
    return checked


def _as_tensor(locations: Any) -> Tensor:
    if isinstance(locations, Tensor):
        if locations.is_complex() or locations.dtype == torch.bool:
            raise TypeError(
                f"expected lonlat of real numbers in degrees, got dtype {locations.dtype}"
            )
        return locations.to(wide_dtype(locations.device))
    try:
        array = np.asarray(locations, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"expected lonlat as numbers of shape (..., 2) in degrees, got "
            f"{type(locations).__name__} that cannot be read so ({error})"
        ) from error
    return torch.from_numpy(array.copy())


def _frame_columns(locations: Any, order: str) -> Any:
    """Longitude and latitude columns of a pandas or geopandas object, or None for others."""
    if hasattr(locations, "geometry") and hasattr(locations, "to_crs"):
        points = locations.geometry
        if points.crs is None:
            raise ValueError(
                "expected geometries with a known CRS, got none; name it with "
                'frame.set_crs("EPSG:4326") if they are longitude and latitude in degrees'
            )
        if order == "latlon":
            raise ValueError(
                'expected order="lonlat" with geometries, whose axes are x and y, got "latlon"'
            )
        points = points.to_crs(4326)
        known = points.geom_type.notna() & ~points.is_empty
        kinds = set(points[known].geom_type)
        if kinds - {"Point"}:
            raise ValueError(
                f"expected Point geometries, got {', '.join(sorted(kinds))}; "
                "use .representative_point() for one place per geometry"
            )
        columns = np.full((len(points), 2), np.nan)
        columns[known.to_numpy(), 0] = points[known].x
        columns[known.to_numpy(), 1] = points[known].y
        return columns
    if hasattr(locations, "columns") and hasattr(locations, "to_numpy"):
        if {"lon", "lat"} <= set(locations.columns):
            return locations[["lon", "lat"]].to_numpy(dtype=np.float64, na_value=np.nan)
        raise ValueError(
            f"expected a frame with columns 'lon' and 'lat', got {list(locations.columns)}; "
            "rename them, or pass frame[[LON, LAT]].to_numpy()"
        )
    return None


def wide_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def to_xyz(lonlat: Tensor) -> Tensor:
    """Unit vectors: x = cos(lat) cos(lon), y = cos(lat) sin(lon), z = sin(lat).

    Shape:
        ``(..., 2)`` degrees to ``(..., 3)``; x towards (0, 0), y towards (90, 0), z towards the
        north pole.

    Example:
        >>> import torch
        >>> from geoenc.coordinates import to_xyz
        >>> to_xyz(torch.tensor([90.0, 0.0])).round(decimals=6).abs()
        tensor([0., 1., 0.])
    """
    lon, lat = (lonlat * exact(math.pi / 180)).unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1)


def to_lonlat(xyz: Tensor) -> Tensor:
    """Degrees of vectors that need not have unit length: the inverse of `to_xyz`.

    Shape:
        ``(..., 3)`` to ``(..., 2)``. At the poles the longitude is 0.

    Example:
        >>> import torch
        >>> from geoenc.coordinates import to_lonlat
        >>> to_lonlat(torch.tensor([0.0, -2.0, 0.0]))
        tensor([-90.,   0.])
    """
    x, y, z = xyz.unbind(-1)
    return torch.rad2deg(torch.stack([torch.atan2(y, x), torch.atan2(z, torch.hypot(x, y))], -1))


def equal_earth(lonlat: Tensor) -> Tensor:
    """The Equal Earth projection, an equal-area map of the globe.

    With t = asin(sqrt(3)/2 sin(lat)):
    x = 2 sqrt(3) lon cos(t) / (3 (9 A4 t^8 + 7 A3 t^6 + 3 A2 t^2 + A1)),
    y = A4 t^9 + A3 t^7 + A2 t^3 + A1 t.

    Shape:
        ``(..., 2)`` degrees to ``(..., 2)`` in Earth radii: x in [-2.7066, 2.7066],
        y in [-1.3174, 1.3174].

    Example:
        >>> import torch
        >>> from geoenc.coordinates import equal_earth
        >>> equal_earth(torch.tensor([180.0, 0.0], dtype=torch.float64))
        tensor([2.7066, 0.0000], dtype=torch.float64)

    Reference:
        Savric, Patterson and Jenny, The Equal Earth map projection, IJGIS 2019, equation 7.
    """
    a1, a2, a3, a4 = map(exact, (1.340264, -0.081106, 0.000893, 0.003796))
    lon, lat = (lonlat * exact(math.pi / 180)).split(1, -1)
    sine = exact(3**0.5 / 2) * lat.sin()
    cosine = (1 - sine * sine).sqrt()
    t = sine.float().asin().to(sine.dtype)  # onnxruntime has no arcsine of float64; to it, add
    t = t + (sine * t.cos() - cosine * t.sin())  # the sine of the rest, which is the rest
    square = t * t
    sixth = square**3
    slope = a1 + 3 * a2 * square + sixth * (7 * a3 + 9 * a4 * square)
    x = exact(2 * 3**0.5 / 3) * lon * cosine / slope
    y = t * (a1 + a2 * square + sixth * (a3 + a4 * square))
    return torch.cat([x, y], -1)


def great_circle_km(start: Tensor, end: Tensor) -> Tensor:
    """Distance along the sphere, 2 R asin(|u - v| / 2) for unit vectors u and v.

    Stable for near places and for antipodes: the half chord and its complement are both used.

    Args:
        start, end: places, ``(..., 2)`` degrees; the leading dimensions broadcast.

    Shape:
        ``(...)`` kilometres on a sphere of radius `EARTH_RADIUS_KM`.

    Example:
        >>> import torch
        >>> from geoenc.coordinates import great_circle_km
        >>> berkeley, paris = torch.tensor([(-122.27, 37.87), (2.35, 48.86)]).double()
        >>> round(great_circle_km(berkeley, paris).item())
        8937
    """
    wide = wide_dtype(start.device)
    u, v = to_xyz(start.to(wide)), to_xyz(end.to(wide))
    return 2 * EARTH_RADIUS_KM * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
