"""Means over geometries against closed forms, against sampling, and against themselves moved."""

import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from shapely import (
    GeometryCollection,
    LineString,
    MultiLineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
)

import geoenc
from geoenc.coordinates import to_xyz
from geoenc.frames import _RULES, embed_frame
from geoenc.sampling import fibonacci


def encoder(**options) -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16), **options)


class UnitVector:
    """e(x) = the unit vector, in float64: its means have closed forms."""

    out_features = 3

    def embed(self, locations, time=None) -> torch.Tensor:
        return to_xyz(geoenc.as_lonlat(locations, missing=True))


def mean(*shapes, crs=4326, **options) -> np.ndarray:
    frame = gpd.GeoSeries(list(shapes), crs=crs)
    return embed_frame(UnitVector(), frame, **options).to_numpy().squeeze()


def box_mean(west: float, south: float, east: float, north: float) -> np.ndarray:
    """Integrals of cos(lat) cos(lon) and so on over a box of longitudes and latitudes."""
    w, s, e, n = np.deg2rad([west, south, east, north])
    area = (e - w) * (np.sin(n) - np.sin(s))
    square = (n - s) / 2 + (np.sin(2 * n) - np.sin(2 * s)) / 4
    z = (e - w) * (np.sin(n) ** 2 - np.sin(s) ** 2) / 2
    return np.array([(np.sin(e) - np.sin(w)) * square, (np.cos(w) - np.cos(e)) * square, z]) / area


def sampled_mean(polygon: shapely.Geometry, count: int = 400_000) -> np.ndarray:
    """Of the points of a uniform lattice on the sphere that lie in the polygon, drawn flat."""
    places = fibonacci(count)
    inside = shapely.contains_xy(polygon, *places.numpy().T)
    return to_xyz(places[inside]).mean(0).numpy()


def close(got: np.ndarray, wanted: np.ndarray, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(got, wanted, atol=atol, rtol=0)


# --- rules


@pytest.mark.parametrize(("corners", "degrees"), [(2, (5, 1)), (3, (5, 2))])
def test_rules_are_exact_to_their_degree(corners: int, degrees: tuple[int, int]) -> None:
    """Mean of a^i b^j over a segment: i! j! / (i+j+1)!; over a triangle: 2 i! j! / (i+j+2)!."""
    nodes, fine, coarse = _RULES[corners]
    for rule, degree in zip((fine, coarse), degrees, strict=True):
        errors = {}
        for i in range(degree + 2):
            for j in range(degree + 2 - i):
                factor = math.factorial(corners - 1) * math.factorial(i) * math.factorial(j)
                exact = factor / math.factorial(i + j + corners - 1)
                error = abs(rule @ (nodes[:, 0] ** i * nodes[:, 1] ** j) - exact)
                errors[i + j] = max(error, errors.get(i + j, 0.0))
        assert max(errors[d] for d in range(degree + 1)) < 1e-14
        assert errors[degree + 1] > 1e-5, "the degree is not higher than stated"


# --- polygons


@pytest.mark.parametrize(
    "bounds",
    [
        (0, 40, 10, 50),
        (-180, -60, 180, 60),
        (-180, -90, 180, 90),
        (0, -90, 360, 90),
        (-180, 70, 180, 90),
        (-100, -60, 70, 80),
        (350, 10, 375, 20),
    ],
)
def test_box_against_the_integral(bounds: tuple[float, ...]) -> None:
    close(mean(box(*bounds)), box_mean(*bounds))


def test_polygon_with_a_hole_against_sampling() -> None:
    hole = Point(30, 45).buffer(8).exterior
    polygon = Polygon([(0, 10), (60, 30), (70, 70), (10, 65)], [hole.coords])
    close(mean(polygon), sampled_mean(polygon), atol=2e-4)
    assert np.abs(mean(polygon) - mean(Polygon(polygon.exterior))).max() > 1e-3


def test_ring_start_and_direction_do_not_matter() -> None:
    uneven = [(0, 10), (60, 30), (70, 70), (40, 40), (10, 65)]
    square = [(0, 10), (40, 10), (40, 50), (0, 50)]  # two triangulations are equally good
    for ring in (np.array(uneven), np.array(square)):
        wanted = mean(Polygon(ring))
        for turn in range(len(ring)):
            close(mean(Polygon(np.roll(ring, turn, 0))), wanted, atol=1e-15)
            close(mean(Polygon(np.roll(ring[::-1], turn, 0))), wanted, atol=1e-15)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("at", [(10.0, 50.0), (180.0, -20.0), (33.0, 89.0)])
def test_a_shrinking_geometry_converges_to_its_point(size: float, at: tuple[float, float]) -> None:
    corner = np.array(at)
    shapes = [
        Polygon(corner + size * np.array([(0, 0), (1, 0), (0.7, 0.9)])),
        LineString([corner, corner + size]),
    ]
    apart = np.abs(mean(*shapes) - mean(Point(at)))
    assert apart.max() < 0.02 * size + 1e-14


ACROSS = {
    "beyond 180": box(170, 10, 200, 20),
    "below -180": box(-190, 10, -160, 20),
    "cut": MultiPolygon([box(170, 10, 180, 20), box(-180, 10, -160, 20)]),
    "jump": Polygon([(170, 10), (-160, 10), (-160, 20), (170, 20)]),
    "jump, reversed": Polygon([(170, 20), (-160, 20), (-160, 10), (170, 10)]),
    "jump, both sides named": Polygon(
        [(170, 10), (180, 10), (-180, 10), (-160, 10), (-160, 20), (-180, 20), (180, 20), (170, 20)]
    ),
}


@pytest.mark.parametrize("shape", ACROSS.values(), ids=ACROSS)
def test_polygon_across_the_antimeridian(shape: shapely.Geometry) -> None:
    close(mean(shape), box_mean(170, 10, 200, 20))


def test_hole_across_the_antimeridian() -> None:
    outside = [(150, 0), (-150, 0), (-150, 40), (150, 40)]
    for hole in ([(-170, 10), (-160, 10), (-160, 20), (-170, 20)], box(170, 10, 190, 20)):
        ring = hole if isinstance(hole, list) else np.asarray(hole.exterior.coords)
        west, east = (170, 190) if not isinstance(hole, list) else (190, 200)
        whole, inner = (
            60 * np.sin(np.deg2rad(40)),
            (east - west) * np.diff(np.sin(np.deg2rad([10, 20]))),
        )
        wanted = whole * box_mean(150, 0, 210, 40) - inner * box_mean(west, 10, east, 20)
        close(mean(Polygon(outside, [ring])), wanted / (whole - inner))


def circle(lat: float, start: float = 3.0, step: float = 5.0) -> np.ndarray:
    lon = (np.arange(0, 360, step) + start + 180) % 360 - 180
    return np.stack([lon, np.full_like(lon, lat)], -1)


def test_ring_around_a_pole() -> None:
    for lat in (70, -70):
        wanted = box_mean(-180, 70, 180, 90) * [1, 1, math.copysign(1, lat)]
        close(mean(Polygon(circle(lat))), wanted)
        close(mean(Polygon(circle(lat, start=120)[::-1])), wanted)


def test_hole_around_a_pole() -> None:
    close(mean(Polygon(circle(60), [circle(80, 1)])), box_mean(-180, 60, 180, 80))


def test_the_longitude_of_a_pole_does_not_matter() -> None:
    for lon in (0, 20, -170):
        close(mean(Polygon([(0, 80), (40, 80), (lon, 90)])), box_mean(0, 80, 40, 90))
        line = LineString([(33, 0), (lon, 90)])
        close(mean(line), mean(LineString([(33, 0), (33, 90)])), 1e-12)
        close(mean(line.reverse()), mean(line), 1e-12)


def test_projected_polygon_around_a_pole() -> None:
    """Halves of a square meet at the pole, and are together the square."""
    left, right = box(-2e6, -2e6, 0, 2e6), box(0, -2e6, 2e6, 2e6)
    square = mean(box(-2e6, -2e6, 2e6, 2e6), crs=3413)
    close(mean(left, right, crs=3413).mean(0), square, atol=1e-4)
    close(square[:2], np.zeros(2), atol=1e-6)
    disc = Point(0, 0).buffer(2e6, quad_segs=64)
    lat = gpd.GeoSeries([Point(2e6, 0)], crs=3413).to_crs(4326).y[0]
    close(mean(disc, crs=3413), box_mean(-180, lat, 180, 90), atol=1e-4)


def test_any_crs() -> None:
    """An edge in a projected CRS is straight there: an outline with many vertices, and without."""
    plain = box(200_000, 5_000_000, 800_000, 5_900_000)
    close(mean(plain, crs=32632), mean(shapely.segmentize(plain, 1000), crs=32632), atol=1e-5)
    degrees = gpd.GeoSeries([shapely.segmentize(plain, 1000)], crs=32632).to_crs(4326)
    close(mean(plain, crs=32632), sampled_mean(degrees[0], 4_000_000), atol=2e-4)


# --- lines, points, several


def test_line_against_the_integral() -> None:
    """Along the equator sin(10 deg) / (10 pi / 180); along a parallel, cos(lat) of it."""
    sinc = math.sin(math.radians(10)) / math.radians(10)
    close(mean(LineString([(170, 0), (-170, 0)])), [-sinc, 0, 0])
    lat = math.radians(60)
    close(mean(LineString([(-10, 60), (10, 60)])), [math.cos(lat) * sinc, 0, math.sin(lat)])
    close(mean(LineString([(-180, 0), (180, 0)])), [0, 0, 0])


def test_parts_weigh_as_long_as_they_are_on_the_sphere() -> None:
    """At 60 degrees a degree of longitude is half as long."""
    parts = LineString([(0, 60), (20, 60)]), LineString([(100, 0), (130, 0)])
    first, second = (mean(one) for one in parts)
    close(mean(MultiLineString(parts)), (first * 10 + second * 30) / 40)


def test_parts_weigh_as_large_as_they_are_on_the_sphere() -> None:
    boxes = (0, 60, 10, 70), (100, 0, 110, 10)
    area = np.array([np.diff(np.sin(np.deg2rad([one[1], one[3]])))[0] for one in boxes])
    wanted = (area / area.sum()) @ np.stack([box_mean(*one) for one in boxes])
    close(mean(MultiPolygon([box(*one) for one in boxes])), wanted)
    rest = [Point(0, 0), LineString([(1, 1), (50, 50)])]
    close(mean(GeometryCollection([*(box(*one) for one in boxes), *rest])), wanted)


def test_points_weigh_alike_and_are_exact() -> None:
    places = [(10.0, 20.0), (200.0, -30.0), (10.0, 20.0)]
    model = encoder()
    frame = gpd.GeoSeries([*map(Point, places), MultiPoint(places)], crs=4326)
    got = torch.from_numpy(embed_frame(model, frame).to_numpy(copy=True))
    assert torch.equal(got[:3], model.embed(places))
    torch.testing.assert_close(got[3], got[:3].mean(0))


def test_invalid_and_collapsed_polygons() -> None:
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    halves = [Polygon([(0, 0), (5, 5), (0, 10)]), Polygon([(10, 0), (5, 5), (10, 10)])]
    close(mean(bow), mean(MultiPolygon(halves)), atol=1e-9)
    flat = Polygon([(0, 0), (4, 4), (8, 8)])
    close(mean(flat), mean(LineString([(0, 0), (8, 8)])), atol=1e-9)
    close(mean(Polygon([(3, 3), (3, 3), (3, 3)])), mean(Point(3, 3)), atol=1e-15)
    close(mean(LineString([(3, 3), (3, 3)])), mean(Point(3, 3)), atol=1e-15)


def test_fine_encoders_are_refined_or_reported() -> None:
    model = geoenc.LocationEncoder(
        geoenc.Space2VecGrid(4, min_radius=0.5, max_radius=2.0), geoenc.Linear(16, 6)
    )
    square = gpd.GeoSeries([box(5, 5, 15, 25)], crs=4326)
    lon, lat = torch.meshgrid(
        5 + (torch.arange(400) + 0.5) / 40, 5 + (torch.arange(400) + 0.5) / 20, indexing="ij"
    )
    values = model.embed(torch.stack([lon, lat], -1)).double()
    weight = torch.deg2rad(lat).cos().double()[..., None]
    wanted = ((values * weight).sum((0, 1)) / weight.sum((0, 1))).numpy()
    close(embed_frame(model, square).to_numpy()[0], wanted, atol=1e-4)
    with pytest.warns(UserWarning, match="more than 10 points"):
        embed_frame(model, square, max_points=10)


# --- frames


def test_missing_rows_index_and_names() -> None:
    shapes = [Point(1, 2), None, Point(), Polygon(), Point(np.nan, 1), box(0, 0, 1, 1)]
    with np.errstate(invalid="ignore"):
        shapes += [GeometryCollection(), LineString([(0, 0), (np.nan, 1)])]
        shapes += [Polygon([(0, 0), (np.nan, 0), (1, 1)])]
    index = pd.Index(list("abcdefghi"), name="key")
    frame = gpd.GeoDataFrame({"v": range(9)}, geometry=shapes, index=index, crs=4326)
    got = embed_frame(encoder(), frame, prefix="e")
    assert got.index.equals(index)
    assert list(got.columns) == ["e0", "e1", "e2", "e3", "e4"]
    assert got.notna().all(axis=1).tolist() == [True, *[False] * 4, True, *[False] * 3]
    assert got.isna().all(axis=1).sum() == 7
    assert embed_frame(encoder(), frame.iloc[:0]).shape == (0, 5)
    assert frame.geometry.iloc[5].equals(box(0, 0, 1, 1)), "the argument is not modified"


def test_accessor() -> None:
    model = encoder()
    frame = gpd.GeoDataFrame(geometry=[Point(1, 2), box(3, 3, 4, 4)], index=[7, 7], crs=4326)
    pd.testing.assert_frame_equal(frame.geoenc.embed(model), embed_frame(model, frame))
    pd.testing.assert_frame_equal(
        frame.geoenc.embed(model, prefix="x"), embed_frame(model, frame.geometry, prefix="x")
    )


def test_columns_by_name() -> None:
    model = encoder()
    places = pd.DataFrame({"y": [48.86, None], "x": [2.35, 3.0]}, index=["Paris", "nowhere"])
    got = embed_frame(model, places.convert_dtypes(), lon="x", lat="y")
    np.testing.assert_allclose(got.loc["Paris"], model.embed([(2.35, 48.86)])[0], atol=1e-6)
    assert got.loc["nowhere"].isna().all()
    located = gpd.GeoDataFrame(places, geometry=[Point(0, 0), Point(1, 1)], crs=4326)
    pd.testing.assert_frame_equal(embed_frame(model, located, lon="x", lat="y"), got)
    with pytest.raises(ValueError, match=r"column 'lon', got \['y', 'x'\]; name it with lon="):
        places.geoenc.embed(model)


@pytest.mark.parametrize(
    "lon",
    [
        pd.Series(["2.35", "3"]),
        pd.Series(["2.35", "3"], dtype="string"),
        pd.Series([2.35, 3], dtype="category"),
        pd.Series([2.35, 3], dtype="Float64"),
        pd.Series([2.35, 3], dtype=object),
    ],
    ids=lambda one: str(one.dtype),
)
def test_columns_as_people_have_them(lon: pd.Series) -> None:
    model = encoder()
    wanted = model.embed([(2.35, 48.86), (3, 4)])
    frame = pd.DataFrame({"lon": lon, "lat": [48.86, 4]})
    np.testing.assert_allclose(embed_frame(model, frame), wanted, atol=1e-6)
    numbered = frame.set_axis([0, 1], axis=1)
    np.testing.assert_allclose(embed_frame(model, numbered, lon=0, lat=1), wanted, atol=1e-6)


def test_columns_that_are_no_numbers() -> None:
    frame = pd.DataFrame({"lon": ["2.35", "east"], "lat": [48.86, 4]})
    with pytest.raises(ValueError, match=r"degrees in column 'lon', got .*'east'; read them with"):
        embed_frame(encoder(), frame)
    twice = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["lon", "lat", "lon"])
    with pytest.raises(ValueError, match="one column 'lon', got several"):
        embed_frame(encoder(), twice)


def test_heights_and_measures_do_not_matter() -> None:
    ring = [(0, 0), (9, 0), (9, 9)]
    high = Polygon([(x, y, 7) for x, y in ring])
    close(mean(high), mean(Polygon(ring)), atol=0)
    close(mean(shapely.from_wkt("POINT ZM (1 2 3 4)")), mean(Point(1, 2)), atol=0)
    close(mean(shapely.from_wkt("LINESTRING M (0 0 5, 9 9 6)")), mean(LineString(ring[::2])), 0)


def test_a_crs_that_does_not_lead_to_degrees() -> None:
    local = gpd.GeoSeries([Point(0, 0)], crs='LOCAL_CS["plan",UNIT["metre",1]]')
    with pytest.raises(ValueError, match=r"leads to degrees, got 'plan' .* allow_override=True"):
        embed_frame(encoder(), local)


def test_dates_of_many_forms() -> None:
    from geoenc.frames import year_fractions

    half = pd.to_datetime("2024-07-02T00:00Z")
    forms = {
        "text": pd.Series(["2024-07-02", "2024-07-02 00:00", "2024-07-02T02:00+02:00", None]),
        "other text": pd.Series(["07/02/2024", "07/02/2024", "07/02/2024", None]),
        "zone": pd.Series([half, half, half, None]).dt.tz_convert("Asia/Tokyo"),
        "category": pd.Series(["2024-07-02"] * 3 + [None], dtype="category"),
        "days": pd.Series([half.date()] * 3 + [None]),
    }
    for name, column in forms.items():
        got = year_fractions(column).numpy()
        np.testing.assert_allclose(got, [0.5, 0.5, 0.5, np.nan], atol=1e-9, err_msg=name)
    mixed = pd.Series(["2024-07-02", "soon", "07/02/2024", "2024-07-02T00:00"])
    assert year_fractions(mixed, "coerce").isnan().tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="soon"):
        year_fractions(mixed)


def test_an_encoder_without_embed_is_named() -> None:
    with pytest.raises(TypeError, match=r"with embed, got XYZ; .*LocationEncoder\(position"):
        embed_frame(geoenc.XYZ(), pd.DataFrame({"lon": [0.0], "lat": [0.0]}))


def test_time() -> None:
    width = 3 + geoenc.CyclicTime().out_features
    model = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(width, 4), geoenc.CyclicTime())
    frame = gpd.GeoDataFrame(
        {
            "date": pd.to_datetime(["2024-01-01", "2024-07-02", None, "2024-07-02"]),
            "share": [0.0, 0.5, np.nan, 0.5],
        },
        geometry=[Point(1, 2), box(0, 0, 1e-9, 1e-9), box(0, 0, 1, 1), Point(0, 0)],
        crs=4326,
    )
    got = embed_frame(model, frame, time="date")
    pd.testing.assert_frame_equal(got, embed_frame(model, frame, time="share"))
    assert got.isna().all(axis=1).tolist() == [False, False, True, False]
    np.testing.assert_allclose(got.loc[1], got.loc[3], atol=1e-6)
    text = frame.assign(date=frame.date.dt.strftime("%Y-%m-%d"))
    pd.testing.assert_frame_equal(embed_frame(model, text, time="date"), got)
    with pytest.raises(ValueError, match="fractions of the year in column 'day', got 3 to 200"):
        embed_frame(model, frame.assign(day=[3, 50, 100, 200]), time="day")
    with pytest.raises(ValueError, match="expected time of shape"):
        embed_frame(model, frame)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"known CRS, got none; name it with frame\.set_crs"):
        embed_frame(encoder(), gpd.GeoSeries([box(0, 0, 1, 1)]))
    with pytest.raises(ValueError, match="active geometry"):
        embed_frame(encoder(), gpd.GeoDataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="reproject to EPSG:4326"):
        embed_frame(encoder(), gpd.GeoSeries([box(0, 0, 500_000, 500_000)], crs=4326))
    with pytest.raises(ValueError, match="positive tolerance"):
        embed_frame(encoder(), gpd.GeoSeries([box(0, 0, 1, 1)], crs=4326), tolerance=0)


def test_many_geometries_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [box(lon, 10, lon + 1, 12) for lon in range(-180, 180, 20)]
    frame, model = gpd.GeoSeries(shapes, crs=4326), encoder()
    wanted = embed_frame(model, frame).to_numpy()
    monkeypatch.setattr("geoenc.frames._GEOMETRIES", 5)
    monkeypatch.setattr("geoenc.frames._NODES", 20)
    np.testing.assert_allclose(embed_frame(model, frame).to_numpy(), wanted, atol=1e-6)
    alone = np.concatenate([embed_frame(model, frame[i : i + 1]).to_numpy() for i in range(18)])
    np.testing.assert_allclose(alone, wanted, atol=1e-6)


def test_a_vertex_on_the_edge_of_a_projected_world_is_kept() -> None:
    """Mollweide's Antarctica ends at the edge, which by rounding has no degrees."""
    from geoenc.data.globe import countries

    world = countries()
    projected = world.to_crs("ESRI:54009")
    assert np.isinf(projected.to_crs(4326).bounds.to_numpy()).any(), "else this tests nothing"
    embedder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.Linear(3, 3)).eval()
    found, wanted = (embed_frame(embedder, one) for one in (projected, world))
    assert (found - wanted).abs().to_numpy().max() < 5e-3
