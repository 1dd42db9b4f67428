"""The gate, unit vectors, the Equal Earth plane and distances, against slow arithmetic."""

import math

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc.coordinates import (
    EARTH_RADIUS_KM,
    as_lonlat,
    equal_earth,
    great_circle_km,
    to_lonlat,
    to_xyz,
)
from geoenc.sampling import fibonacci, uniform

POLES_AND_EDGES = torch.tensor(
    [(0, 90), (10, 90), (0, -90), (180, 0), (-180, 0), (180, 89.9), (0, 0), (-180, -90)],
    dtype=torch.float64,
)
PLACES = torch.cat([POLES_AND_EDGES, fibonacci(200)])


# --- the gate -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "locations",
    [
        [(2.5, 48.0), (-70.0, -33.0)],
        ((2.5, 48.0), (-70.0, -33.0)),
        np.array([[2.5, 48.0], [-70.0, -33.0]]),
        np.array([[2.5, 48.0], [-70.0, -33.0]], dtype=np.float32),
        np.asfortranarray([[2.5, 48.0], [-70.0, -33.0]]),
        torch.tensor([[2.5, 48.0], [-70.0, -33.0]]),
        torch.tensor([[2.5, 48.0], [-70.0, -33.0]], dtype=torch.float16),
        pd.DataFrame({"name": ["a", "b"], "lat": [48.0, -33.0], "lon": [2.5, -70.0]}),
        geopandas.GeoSeries.from_xy([2.5, -70.0], [48.0, -33.0], crs=4326),
        geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([2.5, -70], [48, -33], crs=4326)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gate_reads_what_people_have(locations: object) -> None:
    lonlat = as_lonlat(locations)
    assert lonlat.dtype == torch.float64
    assert lonlat.tolist() == [[2.5, 48.0], [-70.0, -33.0]]


@pytest.mark.parametrize("shape", [(2,), (5, 2), (0, 2), (3, 4, 2)])
def test_gate_keeps_the_shape(shape: tuple[int, ...]) -> None:
    assert as_lonlat(torch.zeros(shape)).shape == shape
    assert as_lonlat(torch.zeros(shape), missing=True).shape == shape


def test_gate_reprojects_frames() -> None:
    paris = geopandas.GeoSeries.from_xy([2.35], [48.86], crs=4326)
    assert torch.allclose(as_lonlat(paris.to_crs(3857)), as_lonlat(paris), atol=1e-9)
    assert torch.allclose(as_lonlat(paris.to_crs(2154)), as_lonlat(paris), atol=1e-6)


def test_gate_swaps_columns() -> None:
    assert as_lonlat([(48.0, 2.5)], order="latlon").tolist() == [[2.5, 48.0]]


@pytest.mark.parametrize(
    ("longitude", "wrapped"),
    [(180, 180), (-180, -180), (181, -179), (359.5, -0.5), (360, 0), (-200.25, 159.75), (539, 179)],
)
def test_gate_wraps_longitudes(longitude: float, wrapped: float) -> None:
    assert as_lonlat([(longitude, 10.0)]).tolist() == [[wrapped, 10.0]]


@given(st.floats(-540, 540), st.floats(-90, 90))
def test_wrapping_keeps_the_place(lon: float, lat: float) -> None:
    wrapped = as_lonlat([(lon, lat)])
    assert wrapped[0, 0].abs() <= 180
    assert wrapped[0, 1] == lat
    assert torch.allclose(
        to_xyz(wrapped), to_xyz(torch.tensor([[lon, lat]], dtype=torch.float64)), atol=1e-12
    )


def test_gate_leaves_its_argument_alone() -> None:
    tensor = torch.tensor([(350.0, 10.0), (torch.nan, 3.0)], dtype=torch.float64)
    array = tensor.numpy().copy()
    as_lonlat(tensor, missing=True).zero_()
    as_lonlat(array, missing=True).zero_()
    assert tensor[0].tolist() == [350.0, 10.0]
    assert array[0].tolist() == [350.0, 10.0]
    inside = torch.tensor([(1.0, 2.0)], dtype=torch.float64)
    as_lonlat(inside).zero_()
    assert inside.tolist() == [[1.0, 2.0]]


def test_half_a_missing_place_is_missing() -> None:
    lonlat = as_lonlat([(math.nan, 10.0), (10.0, math.nan), (1.0, 2.0)], missing=True)
    assert lonlat.isnan().tolist() == [[True, True], [True, True], [False, False]]


def test_missing_geometries_are_missing_places() -> None:
    points = geopandas.GeoSeries.from_wkt(["POINT (1 2)", None, "POINT EMPTY"], crs=4326)
    assert as_lonlat(points, missing=True).isnan().any(1).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="NaN in 2 of 3 rows"):
        as_lonlat(points)


@pytest.mark.parametrize(
    ("locations", "error", "words"),
    [
        (torch.zeros(128, 3), ValueError, ["(..., 2)", "got (128, 3)", "stack"]),
        ([], ValueError, ["(..., 2)", "got (0,)"]),
        (5.0, ValueError, ["(..., 2)", "got ()"]),
        ([(35.0, 151.2)], ValueError, ["latitude 151.2", "[-90, 90]", 'order="latlon"']),
        ([(0, -90.001)], ValueError, ["latitude -90.001", "(1 rows)"]),
        ([(261848.15, 50.0)], ValueError, ["longitude 261848", "metres", "EPSG:4326"]),
        ([(541, 0)], ValueError, ["longitude 541", "[-540, 540]"]),
        ([(math.inf, 0), (0, 0)], ValueError, ["finite", "infinity in 1 rows", "NaN"]),
        ([(0, -math.inf)], ValueError, ["finite"]),
        ([(math.nan, 0), (0, 0)], ValueError, ["NaN in 1 of 2 rows", "missing=True"]),
        (["Paris"], TypeError, ["numbers", "got list"]),
        (object(), TypeError, ["numbers", "got object"]),
        ([(1, 2), (3,)], TypeError, ["numbers", "got list"]),
        (torch.zeros(2, dtype=torch.bool), TypeError, ["real numbers", "torch.bool"]),
        (torch.zeros(2, dtype=torch.complex64), TypeError, ["real numbers", "complex64"]),
        (pd.DataFrame({"x": [1.0]}), ValueError, ["'lon' and 'lat'", "['x']", "rename"]),
        (geopandas.GeoSeries.from_xy([0], [0]), ValueError, ["known CRS", "set_crs"]),
        (
            geopandas.GeoSeries.from_wkt(["LINESTRING (0 0, 1 1)"], crs=4326),
            ValueError,
            ["Point", "LineString", "representative_point"],
        ),
    ],
)
def test_gate_refuses(locations: object, error: type, words: list[str]) -> None:
    with pytest.raises(error) as caught:
        as_lonlat(locations)
    for word in words:
        assert word in str(caught.value)


def test_gate_refuses_orders() -> None:
    with pytest.raises(ValueError, match="'lonlat' or 'latlon', got 'yx'"):
        as_lonlat([(0, 0)], order="yx")
    with pytest.raises(ValueError, match='geometries, whose axes are x and y, got "latlon"'):
        as_lonlat(geopandas.GeoSeries.from_xy([0], [0], crs=4326), order="latlon")


# --- unit vectors -------------------------------------------------------------------------------


def test_xyz_is_the_textbook_vector() -> None:
    for place, got in zip(PLACES.tolist(), to_xyz(PLACES).tolist(), strict=True):
        lon, lat = map(math.radians, place)
        wanted = [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
        assert got == pytest.approx(wanted, abs=1e-15)


def test_axes_point_where_they_say() -> None:
    axes = to_xyz(torch.tensor([(0, 0), (90, 0), (0, 90)], dtype=torch.float64))
    assert torch.allclose(axes, torch.eye(3, dtype=torch.float64), atol=1e-15)


@given(st.floats(-180, 180), st.floats(-89.9999, 89.9999), st.floats(1e-3, 1e6))
def test_lonlat_inverts_xyz_at_any_length(lon: float, lat: float, length: float) -> None:
    place = torch.tensor([lon, lat], dtype=torch.float64)
    back = to_lonlat(to_xyz(place) * length)
    turn = (back[0] - place[0]).abs()
    assert min(turn, (turn - 360).abs()) < 1e-8
    assert abs(back[1] - place[1]) < 1e-10


def test_poles_have_longitude_zero() -> None:
    poles = torch.tensor([(0, 0, 1), (0, 0, -2)], dtype=torch.float64)
    assert to_lonlat(poles).tolist() == [[0, 90], [0, -90]]


# --- Equal Earth --------------------------------------------------------------------------------


def slow_equal_earth(lon: float, lat: float) -> tuple[float, float]:
    """Equation 7 of Savric et al., with the powers written out."""
    a = (1.340264, -0.081106, 0.000893, 0.003796)
    t = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(lat)))
    x = 2 * math.sqrt(3) * math.radians(lon) * math.cos(t)
    x /= 3 * (9 * a[3] * t**8 + 7 * a[2] * t**6 + 3 * a[1] * t**2 + a[0])
    return x, a[3] * t**9 + a[2] * t**7 + a[1] * t**3 + a[0] * t


def test_equal_earth_is_the_published_formula() -> None:
    for place, got in zip(PLACES.tolist(), equal_earth(PLACES).tolist(), strict=True):
        assert got == pytest.approx(slow_equal_earth(*place), abs=1e-14)


def test_equal_earth_is_equal_area() -> None:
    """The determinant of the Jacobian in (lon, sin lat), in radians, is the same everywhere."""
    places = uniform(50, generator=torch.Generator().manual_seed(1))
    jacobian = torch.func.vmap(torch.func.jacrev(equal_earth))(places)
    area = torch.linalg.det(jacobian) * (180 / math.pi) ** 2 / places[:, 1].deg2rad().cos()
    # the published coefficients have six decimals
    assert area.max() / area.min() - 1 < 1e-3
    assert area.mean() == pytest.approx(1.0, abs=1e-3)


def test_equal_earth_stays_within_its_frame() -> None:
    plane = equal_earth(PLACES).abs().amax(0)
    assert plane.tolist() == pytest.approx([2.7066, 1.3174], abs=1e-4)
    poles = torch.tensor([(30.0, 90.0), (30.0, -90.0)], dtype=torch.float64, requires_grad=True)
    equal_earth(poles).sum().backward()
    assert poles.grad is not None
    assert poles.grad.isfinite().all()


# --- distances ----------------------------------------------------------------------------------


def haversine_km(a: list[float], b: list[float]) -> float:
    lon1, lat1, lon2, lat2 = map(math.radians, (*a, *b))
    inside = math.sin((lat2 - lat1) / 2) ** 2
    inside += math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(min(1.0, inside)))


def test_distance_is_haversine() -> None:
    others = PLACES.roll(7, 0)
    for a, b, got in zip(
        PLACES.tolist(), others.tolist(), great_circle_km(PLACES, others).tolist(), strict=True
    ):
        assert got == pytest.approx(haversine_km(a, b), rel=1e-7, abs=1e-6)


def test_distance_of_near_places_and_antipodes() -> None:
    start = torch.tensor([(10.0, 45.0)], dtype=torch.float64)
    metre = 360 / (2 * math.pi * EARTH_RADIUS_KM * 1000)
    assert great_circle_km(start, start).item() == 0
    near = start + torch.tensor([0.0, metre / 1000], dtype=torch.float64)
    assert great_circle_km(start, near).item() == pytest.approx(1e-6, rel=1e-3)
    antipode = torch.tensor([(-170.0, -45.0)], dtype=torch.float64)
    half = math.pi * EARTH_RADIUS_KM
    assert great_circle_km(start, antipode).item() == pytest.approx(half, rel=1e-12)
    almost = antipode + torch.tensor([0.0, metre], dtype=torch.float64)
    assert half - great_circle_km(start, almost).item() == pytest.approx(1e-3, rel=1e-3)


def test_distance_broadcasts_and_widens() -> None:
    matrix = great_circle_km(PLACES[:5, None].float(), PLACES[None, :7].float())
    assert matrix.shape == (5, 7)
    assert matrix.dtype == torch.float64


def test_distance_is_a_metric() -> None:
    a, b, c = uniform(300, generator=torch.Generator().manual_seed(0)).chunk(3)
    assert torch.allclose(great_circle_km(a, b), great_circle_km(b, a))
    assert (great_circle_km(a, c) <= great_circle_km(a, b) + great_circle_km(b, c) + 1e-9).all()
    assert great_circle_km(a * torch.nan, b).isnan().all()
