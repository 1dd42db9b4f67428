"""The embedded data: the picture of the Earth, the countries, and labelled chips of both."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geoenc._optional import require
from geoenc.coordinates import EARTH_RADIUS_KM, as_lonlat
from geoenc.data.geotagged import GeotaggedImages
from geoenc.sampling import fibonacci

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray

LAND_FRACTION = 0.2648
"""Part of a lattice that falls on the embedded countries without Antarctica."""

LABELS = ("landscape", "continent", "subregion", "country")

_LEFT_OUT = ("ATA", "ATF")
_MERGED = {
    "Caribbean": "Central America and Caribbean",
    "Central America": "Central America and Caribbean",
    "Australia and New Zealand": "Oceania",
    "Melanesia": "Oceania",
}
# Colours of the surroundings (k-means of 15,000 of them, rounded), and which of them each
# continent has at 100 places or more.
_COLOURS = {
    "dark green": (36, 47, 19),
    "olive": (63, 64, 36),
    "brown": (99, 86, 57),
    "tan": (135, 118, 89),
    "sand": (180, 153, 118),
    "white": (225, 227, 226),
}
_LANDSCAPES = {
    "Africa": ("dark green", "olive", "brown", "tan", "sand"),
    "Asia": ("dark green", "olive", "brown", "tan", "sand"),
    "Europe": ("dark green", "olive", "brown", "tan", "white"),
    "North America": ("dark green", "olive", "brown", "tan", "white"),
    "Oceania": ("dark green", "olive", "brown"),
    "South America": ("dark green", "olive", "brown"),
}
_CHIPS_AT_ONCE = 500
_ROWS_AT_ONCE = 15


def load_globe(
    *,
    label: str = "landscape",
    num_points: int = 15_000,
    chip_size: int = 16,
    chip_km: float = 100.0,
) -> GeotaggedImages:
    """About 15,000 places on land, each with its chip of the Blue Marble and a label.

    Places are the points of a Fibonacci lattice inside a country, Antarctica left out; chips are
    cut by `geoenc.data.globe.chips`.

    The label ``"landscape"`` is the continent and the colour of the land 50 to
    250 km around, which the chip does not show: image and place both tell something of it and
    neither decides, while the others are decided by the place (docs/explanation/globe-data.md).

    Args:
        label: ``"landscape"``, ``"continent"``, ``"subregion"`` (United Nations M49, small ones
            merged) or ``"country"``.
        num_points: places wanted; as many come, within 1 % from 1000 on.
        chip_size: pixels per side of a chip.
        chip_km: side of a chip on the ground; the default is the spacing of 15,000 points.

    Shape:
        ``lonlat`` (N, 2) float64; ``images`` (N, 3, chip_size, chip_size) uint8, north up;
        ``target`` (N,) int64. Places run from north to south.

    Example:
        >>> from geoenc.data.globe import load_globe
        >>> globe = load_globe(num_points=1000)
        >>> globe.images.shape[1:], globe.classes[:2]
        (torch.Size([3, 16, 16]), ('Africa, brown', 'Africa, dark green'))

    Reference:
        NASA Earth Observatory, Blue Marble: Next Generation (Stoeckli et al. 2005), free to use
        with credit to NASA; Natural Earth 1:110 m countries, public domain.
    """
    if label not in LABELS:
        raise ValueError(f"expected label one of {LABELS}, got {label!r}; see load_globe")
    if num_points < 1:
        raise ValueError(f"expected num_points of at least 1, got {num_points}; 15_000 is usual")
    _check_chip(chip_size, chip_km)
    lonlat, row = _land(num_points)
    table = countries().iloc[row]
    image = picture()
    if label == "landscape":
        names = _landscape(image, lonlat, table["continent"].to_numpy(dtype=str))
    else:
        column = table["name" if label == "country" else label]
        names = column.replace(_MERGED).to_numpy(dtype=str)
    classes, target = np.unique(names, return_inverse=True)
    return GeotaggedImages(
        lonlat=torch.from_numpy(lonlat),
        target=torch.from_numpy(target.astype(np.int64)),
        classes=tuple(classes.tolist()),
        images=_channels_first(_cut(image, lonlat, chip_size, chip_km)),
    )


def countries() -> GeoDataFrame:
    """The embedded countries: name, iso_a3, continent, subregion, pop_est, gdp_md_est, geometry.

    Natural Earth 1:110 m (public domain), 178 rows in EPSG:4326; ``subregion`` is the United
    Nations M49 region of the code. Borders are those which Natural Earth draws.

    Example:
        >>> from geoenc.data import globe
        >>> globe.countries().query("iso_a3 == 'FRA'")["subregion"].item()
        'Western Europe'
    """
    import geopandas
    import shapely

    with (
        resources.files("geoenc.data").joinpath("assets/countries.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        columns = {name: arrays[name] for name in arrays.files}
    coords = columns.pop("steps").cumsum(axis=0, dtype=np.int64) / 1e5
    offsets = tuple(columns.pop(name) for name in ("rings", "polygons", "parts"))
    geometry = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, coords, offsets)
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs="EPSG:4326")


def picture() -> NDArray[np.uint8]:
    """The embedded Blue Marble, ``(2700, 5400, 3)``: north first, west first, 15 pixels a degree.

    NASA Earth Observatory, Blue Marble: Next Generation; free to use with credit to NASA.
    """
    image = require("PIL.Image", extra="train")
    with (
        resources.files("geoenc.data").joinpath("assets/blue_marble.jpg").open("rb") as file,
        image.open(file) as opened,
    ):
        return np.asarray(opened)


def chips(lonlat: Any, *, chip_size: int = 16, chip_km: float = 100.0) -> torch.Tensor:
    """Square pieces of the Blue Marble around places, undistorted: metric grids, north up.

    Pixel (i, j) shows the point at distance r and bearing a of the centre, where r sin a =
    chip_km ((j + 1/2) / chip_size - 1/2) is east and r cos a = chip_km (1/2 - (i + 1/2) /
    chip_size) north: the azimuthal equidistant projection. Where such a pixel is larger than a
    pixel of the picture, as towards the poles, the picture is averaged to its size first.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them.
        chip_size: pixels per side.
        chip_km: side on the ground.

    Shape:
        ``lonlat`` (N, 2); output ``(N, 3, chip_size, chip_size)`` uint8.

    Example:
        >>> from geoenc.data import globe
        >>> sahara, amazon = globe.chips([(10, 25), (-60, -3)]).float().mean((2, 3))
        >>> bool(sahara[0] > amazon[0])
        True
    """
    places = as_lonlat(lonlat).cpu().numpy()
    if places.ndim != 2:
        raise ValueError(
            f"expected lonlat of shape (N, 2), one row per chip, got {places.shape}; "
            "flatten the leading dimensions"
        )
    _check_chip(chip_size, chip_km)
    return _channels_first(_cut(picture(), places, chip_size, chip_km))


def _check_chip(size: int, side_km: float) -> None:
    if size < 1:
        raise ValueError(f"expected chip_size of at least 1 pixel, got {size}; 16 is usual")
    if not 0 < side_km <= 5000:
        raise ValueError(
            f"expected chip_km above 0 and at most 5000, got {side_km:g}; give kilometres"
        )


def _channels_first(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _landscape(
    image: NDArray[np.uint8], places: NDArray[np.float64], continent: NDArray[np.str_]
) -> NDArray[np.str_]:
    """Names "continent, colour" from the land in the square ring of 50 to 250 km around places."""
    ring = _cut(image, places, 10, 500.0).astype(np.float32)
    weight = np.ones((10, 10), dtype=np.float32)
    weight[4:6, 4:6] = 1e-3  # the chip itself: only where nothing else is land
    land = ring[..., 2] <= ring[..., 0] + 12  # water is painted blue
    weights = np.where(land, weight, 1e-6)[..., None]
    colour = (ring * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))

    names = np.array(list(_COLOURS))
    distance = np.linalg.norm(colour[:, None] - np.array(list(_COLOURS.values())), axis=-1)
    for here, colours in _LANDSCAPES.items():
        distance[np.ix_(continent == here, ~np.isin(names, colours))] = np.inf
    return np.char.add(np.char.add(continent, ", "), names[distance.argmin(axis=1)])


def _cut(
    image: NDArray[np.uint8], places: NDArray[np.float64], size: int, side_km: float
) -> NDArray[np.uint8]:
    """Chips (N, size, size, 3) of a picture of the whole Earth."""
    out = np.empty((len(places), size, size, 3), dtype=np.uint8)
    if not len(places):
        return out
    reach = np.degrees(side_km / EARTH_RADIUS_KM)
    south, north = places[:, 1].min() - reach, places[:, 1].max() + reach
    pixel_km = side_km / size
    smoothed = _averaged(_reduced(image, pixel_km), pixel_km, south, north)
    for start in range(0, len(places), _CHIPS_AT_ONCE):
        block = slice(start, start + _CHIPS_AT_ONCE)
        out[block] = _bilinear(smoothed, *_grid(places[block], size, side_km))
    return out


def _land(num_points: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lattice points inside the countries, and the row of the country of each."""
    import shapely

    lonlat = fibonacci(round(num_points / LAND_FRACTION)).numpy()
    table = countries()
    kept = np.flatnonzero(~table["iso_a3"].isin(_LEFT_OUT))
    tree = shapely.STRtree(shapely.points(lonlat))
    found, point = tree.query(table.geometry.to_numpy()[kept], predicate="contains")
    point, first = np.unique(point, return_index=True)
    return lonlat[point], kept[found[first]]


def _grid(
    places: NDArray[np.float64], size: int, side_km: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in degrees of the pixels of each chip, both (N, size, size)."""
    lon, lat = np.radians(places.T)
    zero = np.zeros_like(lon)
    centre = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    east = np.stack([-np.sin(lon), np.cos(lon), zero])
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])

    steps = ((np.arange(size) + 0.5) / size - 0.5) * (side_km / EARTH_RADIUS_KM)
    x, y = np.meshgrid(steps, -steps)
    angle = np.hypot(x, y)
    along, across = np.cos(angle), np.sinc(angle / np.pi)
    basis = np.stack([centre, east, north])  # (3 vectors, 3 coordinates, N)
    weight = np.stack([along, across * x, across * y])  # (3 vectors, size, size)
    px, py, pz = np.einsum("vcn,vij->cnij", basis, weight, optimize=True)
    return np.degrees(np.arctan2(py, px)), np.degrees(np.arcsin(np.clip(pz, -1, 1)))


def _reduced(image: NDArray[np.uint8], pixel_km: float) -> NDArray[np.uint8]:
    """The picture in whole blocks, as large as leaves 1.5 of them to a chip's pixel: for speed."""
    height, width = image.shape[:2]
    most = max(1, int(pixel_km / (1.5 * np.pi * EARTH_RADIUS_KM / height)))
    side = max(n for n in range(1, most + 1) if height % n == 0 and width % n == 0)
    if side == 1:
        return image
    blocks = image.reshape(height // side, side, width // side, side, 3)
    return _rounded(blocks.mean(axis=(1, 3), dtype=np.float32))


def _averaged(
    image: NDArray[np.uint8], pixel_km: float, south: float, north: float
) -> NDArray[np.uint8]:
    """The picture, averaged over boxes of ``pixel_km``, between two latitudes."""
    from scipy.ndimage import correlate1d

    rows = len(image)
    row_km = np.pi * EARTH_RADIUS_KM / rows
    top = max(0, int((90 - north) * rows / 180) - 1)
    bottom = min(rows, int((90 - south) * rows / 180) + 2)
    out = image.copy()
    if pixel_km > row_km:
        kernel = _box(pixel_km / row_km)
        out = _rounded(correlate1d(out, kernel, axis=0, output=np.float32, mode="nearest"))
    for start in range(top, bottom, _ROWS_AT_ONCE):
        band = out[start : start + _ROWS_AT_ONCE]
        lat = 90 - (start + len(band) / 2) * 180 / rows
        width = min(pixel_km / (row_km * np.cos(np.radians(lat))), image.shape[1] - 1)
        if width > 1:
            band[:] = _rounded(
                correlate1d(band, _box(width), axis=1, output=np.float32, mode="wrap")
            )
    return out


def _box(width: float) -> NDArray[np.float64]:
    """Weights of an average over ``width`` >= 1 pixels, the outermost counted in part."""
    reach = int(np.ceil(width / 2 - 0.5))
    return np.clip(width / 2 + 0.5 - np.abs(np.arange(-reach, reach + 1)), 0, 1) / width


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (values + 0.5).astype(np.uint8)


def _bilinear(
    image: NDArray[np.uint8], lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Values of the picture at places; longitude wraps, latitude stops at the last row."""
    height, width = image.shape[:2]
    x = (lon + 180) * (width / 360) - 0.5
    y = np.clip((90 - lat) * (height / 180) - 0.5, 0, height - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right = (x - left).astype(np.float32)[..., None]
    below = (y - top).astype(np.float32)[..., None]
    west, east = left % width, (left + 1) % width
    upper, lower = top * width, np.minimum(top + 1, height - 1) * width
    pixels = image.reshape(-1, 3)
    north = pixels[upper + west] * (1 - right) + pixels[upper + east] * right
    south = pixels[lower + west] * (1 - right) + pixels[lower + east] * right
    return _rounded(north * (1 - below) + south * below)
