"""What tables in the wild look like: nothing in them is changed, and nothing ends the program."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from shapely import GeometryCollection, LineString, Point, Polygon, box

import geoenc
from geoenc.streaming import embed_table
from geoenc.tables import open_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def encoder() -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(encoder, source: str, **options):
    """What was done, and the table."""
    done = embed_table(encoder, source, "out.parquet", progress=False, force=True, **options)
    return done, pq.read_table("out.parquet")


def csv(text: str) -> str:
    Path("in.csv").write_text(text, encoding="utf-8")
    return "in.csv"


# --- CSV


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["007", "012"], ["007", "012"]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["1234567890123456789", "0"], [1234567890123456789, 0]),
        (["-05", "3"], ["-05", "3"]),
        (["0", "-1"], [0, -1]),
        (["0.50", "007.5"], [0.5, 7.5]),
        (["1", "A12"], ["1", "A12"]),
        (["1", "1.5"], [1.0, 1.5]),
        (["", "x"], ["", "x"]),
        (["", "7"], [None, 7]),
        (["2024-01-01", "soon"], ["2024-01-01", "soon"]),
        (["a\nb", "c"], ["a\nb", "c"]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_columns_of_text_are_what_they_were(encoder, values, wanted, late, monkeypatch) -> None:
    """Whether the value that decides a type comes early, or in another block of the reader."""
    if late:
        monkeypatch.setattr("geoenc.tables._CSV_BLOCK", 64)
    many = 30 if late else 1
    lines = [f'"{value}",{lon},2' for value, lon in zip(values, (1, 3), strict=True)]
    done, table = run(encoder, csv("\n".join(["id,lon,lat", *[lines[0]] * many, lines[1]])))
    assert done.rows == many + 1
    assert table["id"].to_pylist() == [wanted[0]] * many + [wanted[1]]
    assert table["lon"].to_pylist() == [1.0] * many + [3.0]
    assert open_table("in.csv").rows == many + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a line of names in 'in.csv', got an empty file"),
        ("lon,lat,lon\n1,2,3\n", "different names in 'in.csv', got lon more than once"),
        ("a;lon;lat\n1;2;3\n", r"columns 'lon' and 'lat' in 'in.csv', got \['a;lon;lat'\]"),
        (
            "a,lon,lat\n1,2\n",
            "a table in 'in.csv', got: CSV parse error: .*Expected 3 columns, got 2",
        ),
    ],
)
def test_texts_that_are_no_table(encoder, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(encoder, csv(text))


def test_other_encodings_are_named(encoder) -> None:
    Path("in.csv").write_bytes("n,lon,lat\nMünchen,11.6,48.1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"UTF-8 in 'in.csv', got another encoding; convert it"):
        run(encoder, "in.csv")
    Path("in.csv").write_bytes("\ufeffn,lon,lat\nMünchen,11.6,48.1\n".encode())
    assert run(encoder, "in.csv")[1]["n"].to_pylist() == ["München"]


def test_one_column_cannot_be_both(encoder) -> None:
    with pytest.raises(ValueError, match="two columns, got 'lon' as both"):
        run(encoder, csv("lon,lat\n1,2\n"), lon="lon", lat="lon")


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("kind", ["csv", "parquet", "gpkg", "fgb"])
def test_no_row_and_one_row(encoder, rows: int, kind: str) -> None:
    frame = gpd.GeoDataFrame({"n": np.arange(rows)}, geometry=[Point(1, 2)] * rows, crs=4326)
    if kind == "csv":
        csv("n,lon,lat\n" + "0,1,2\n" * rows)
    elif kind == "parquet":
        frame.to_parquet("in.parquet")
    else:
        frame.to_file(f"in.{kind}", **({"SPATIAL_INDEX": "NO"} if kind == "fgb" else {}))
    done, table = run(encoder, f"in.{kind}")
    assert (done.rows, done.failed, table.num_rows) == (rows, 0, rows)
    assert len(gpd.read_parquet("out.parquet")) == rows


# --- Parquet


BASE = pd.DataFrame({"lon": [1.0, 2, 3, 4], "lat": [5.0, 6, 7, 8]})


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(list("abcd"), name="key"),
        pd.Index(list("abcd")),
        pd.MultiIndex.from_arrays([[1, 1, 2, 2], list("wxyz")], names=["a", "b"]),
        pd.RangeIndex(10, 18, 2),
        pd.Index([7, 7, 7, 7]),
    ],
    ids=["named", "unnamed", "two levels", "steps", "repeated"],
)
def test_the_index_of_pandas_is_kept(encoder, index: pd.Index) -> None:
    BASE.set_index(index).to_parquet("in.parquet")
    run(encoder, "in.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet("out.parquet")[["lon", "lat"]], BASE.set_index(index)
    )


def test_columns_keep_their_types(encoder) -> None:
    frame = BASE.assign(
        kind=pd.Categorical(list("xyxz")),
        moment=pd.to_datetime(["2024-01-01T10:00"] * 4).tz_localize("Europe/Paris"),
        big=np.array([2**64 - 1] * 4, dtype=np.uint64),
        parts=[[1], [2, 3], [], None],
        code=["007", "8", None, ""],
    )
    frame.to_parquet("in.parquet", row_group_size=1)
    for block_rows in (1, 3, 100):
        run(encoder, "in.parquet", block_rows=block_rows)
        got = pd.read_parquet("out.parquet")[frame.columns]
        pd.testing.assert_frame_equal(got, pd.read_parquet("in.parquet"))


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "Int64", "decimal"])
def test_degrees_of_many_types(encoder, kind: str) -> None:
    import decimal

    lon = {
        "string": pa.array(["1", " 2 ", "x", None]),
        "large_string": pa.array(["1", "2", "x", ""], pa.large_string()),
        "dictionary": pa.array(["1", "2", "x", None]).dictionary_encode(),
        "Int64": pa.array([1, 2, None, None]),
        "decimal": pa.array([decimal.Decimal(1), decimal.Decimal(2), None, None]),
    }[kind]
    pq.write_table(pa.table({"lon": lon, "lat": pa.array([5.0, 6, 7, 8])}), "in.parquet")
    done, table = run(encoder, "in.parquet")
    assert done.failed == 2
    np.testing.assert_allclose(
        table["embedding"].to_pylist()[:2], encoder.embed([(1, 5), (2, 6)]), atol=1e-6
    )
    assert table["lon"].type == lon.type


def test_columns_of_one_name_are_refused(encoder) -> None:
    column = pa.array([1.0])
    twice = pa.Table.from_arrays([column] * 3, names=["lon", "lat", "lon"])
    pq.write_table(twice, "in.parquet")
    with pytest.raises(ValueError, match=r"different names in 'in.parquet', got lon"):
        run(encoder, "in.parquet")


def test_a_row_group_is_not_held_in_memory() -> None:
    """A file that is one row group is read piece by piece."""
    numbers = np.random.default_rng(0).random(2_000_000)
    pq.write_table(
        pa.table({"lon": numbers, "lat": numbers, "more": numbers}),
        "in.parquet",
        row_group_size=len(numbers),
        compression="none",
        use_dictionary=False,
    )
    del numbers
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for block in open_table("in.parquet").blocks(1000):
        rows += block.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 2_000_000
    assert most < 0.25 * Path("in.parquet").stat().st_size


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_geoparquet_stays_geoparquet(encoder, version: str) -> None:
    frame = gpd.GeoDataFrame({"n": [1, 2]}, geometry=[Point(1, 2), box(5, 5, 6, 6)], crs=4326)
    frame.to_parquet("in.parquet", schema_version=version, write_covering_bbox=version > "1.0.0")
    run(encoder, "in.parquet")
    out = gpd.read_parquet("out.parquet")
    assert out.geometry.geom_equals(frame.geometry).all()
    if version > "1.0.0":
        found = gpd.read_parquet("out.parquet", bbox=(0, 0, 3, 3))
        assert found.n.tolist() == [1], "the covering of the input still serves"


def test_columns_beside_geometries(encoder) -> None:
    """Asked for by name, columns are embedded, and the geometries stay what they are."""
    frame = gpd.GeoDataFrame(
        {"x": [9.0, 8.0], "y": [7.0, 6.0]}, geometry=gpd.points_from_xy([1, 2], [3, 4]), crs=3857
    ).rename_geometry("shape")
    frame.to_parquet("in.parquet")
    _, table = run(encoder, "in.parquet", lon="x", lat="y")
    np.testing.assert_allclose(
        table["embedding"].to_pylist(), encoder.embed([(9, 7), (8, 6)]), atol=1e-6
    )
    out = gpd.read_parquet("out.parquet")
    assert out.crs == frame.crs
    assert out.geometry.geom_equals(frame.geometry).all()


# --- vector files


WILD = {
    "mixed": [Point(1, 2), LineString([(0, 0), (1, 1)]), box(0, 0, 1, 1), None],
    "collections": [GeometryCollection([Point(0, 0), box(0, 0, 1, 1)]), Point(3, 4)],
    "heights": [Point(1, 2, 3), Polygon([(0, 0, 1), (1, 0, 1), (1, 1, 1)])],
    "invalid": [Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), Polygon([(0, 0), (1, 1), (2, 2)])],
    "nothing between": [None, Point(1, 2), None, Point(3, 4), Point(5, 6), None],
    "nothing": [None, None],
}


@pytest.mark.parametrize("shapes", WILD.values(), ids=WILD)
@pytest.mark.parametrize("kind", ["parquet", "gpkg", "fgb"])
def test_geometries_of_all_kinds(encoder, kind: str, shapes: list) -> None:
    frame = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326)
    if kind == "parquet":
        frame.to_parquet("in.parquet")
    else:
        frame.to_file(f"in.{kind}", **({"SPATIAL_INDEX": "NO"} if kind == "fgb" else {}))
    done, table = run(encoder, f"in.{kind}", block_rows=4)
    wanted = frame.geoenc.embed(encoder).to_numpy()
    got = [one or [np.nan] * 5 for one in table["embedding"].to_pylist()]
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert done.failed == sum(one is None for one in shapes)


def test_unreadable_and_impossible_geometries(encoder) -> None:
    column = {"encoding": "WKB", "geometry_types": []}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    wkb = [b"\x01garbage", shapely.to_wkb(Point(1, 2)), shapely.to_wkb(Point(1, 200)), None]
    table = pa.table({"geometry": pa.array(wkb)}, metadata={b"geo": json.dumps(geo).encode()})
    pq.write_table(table, "in.parquet")
    done, _ = run(encoder, "in.parquet")
    assert done.report.read_text().split("\n")[1:4] == [
        "0,unreadable",
        "2,not degrees",
        "3,no place",
    ]


@pytest.mark.parametrize("kind", ["parquet", "gpkg", "fgb"])
def test_files_that_are_something_else(encoder, kind: str) -> None:
    Path(f"in.{kind}").write_bytes(b"garbage" * 100)
    with pytest.raises(ValueError, match=rf"a table in 'in.{kind}'.*(not recognized|magic bytes)"):
        run(encoder, f"in.{kind}")


def test_layers_of_a_geopackage(encoder) -> None:
    frame = gpd.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)], crs=4326)
    pd_only = gpd.GeoDataFrame({"style": ["red"]})
    import pyogrio

    pyogrio.write_dataframe(pd.DataFrame(pd_only), "in.gpkg", layer="styles")
    frame.to_file("in.gpkg", layer="points")
    _, table = run(encoder, "in.gpkg")
    assert table["n"].to_pylist() == [1], "tables without geometry are no layers"
    frame.to_file("in.gpkg", layer="more")
    with pytest.raises(ValueError, match=r"one layer in 'in.gpkg', got points, more; write one"):
        run(encoder, "in.gpkg")
