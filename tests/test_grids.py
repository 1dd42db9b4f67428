"""Maps of the globe: every cell has the embedding of its centre, whatever file and block."""

import json
import os
import pickle
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import torch
from interruption import stop_after

import geoenc
from geoenc import grids
from geoenc.cli import main
from geoenc.grids import embed_cells, embed_grid, on_land

zarr = pytest.importorskip("zarr")
rasterio = pytest.importorskip("rasterio")
h3 = pytest.importorskip("h3")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def encoder() -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grid(encoder, out: str, degrees: float = 10, **options):
    return embed_grid(encoder, out, degrees=degrees, progress=False, **options)


def wanted(encoder, height: int = 18) -> np.ndarray:
    return encoder.embed(geoenc.sampling.lattice(height)).numpy()


@pytest.fixture(params=[2**22, 2000, 20])
def block_bytes(request, monkeypatch) -> int:
    """One block; blocks that do not divide the grid; blocks of a single cell."""
    monkeypatch.setattr(grids, "_BLOCK_BYTES", request.param)
    return request.param


def test_zarr_holds_the_embedding_of_each_centre(encoder, folder: Path, block_bytes: int) -> None:
    done = grid(encoder, "globe.zarr")
    assert done[1:] == (18, 36, 5)
    group = zarr.open_group("globe.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    array = group["embedding"]
    assert array.metadata.dimension_names == ("lat", "lon", "dimension")
    np.testing.assert_allclose(array[:], wanted(encoder), atol=1e-6)
    lat, lon = group["lat"][:], group["lon"][:]
    here = encoder.embed([(lon[20], lat[3])])[0]
    np.testing.assert_allclose(array[3, 20], here, atol=1e-6, err_msg="the axes name the cells")
    np.testing.assert_array_equal(np.stack(np.meshgrid(lon, lat), -1), geoenc.sampling.lattice(18))
    assert os.listdir() == ["globe.zarr"]


def test_zarr_follows_the_conventions_of_cf(encoder, folder: Path) -> None:
    import pyproj

    encoder.metadata["licence"] = "MIT"
    grid(encoder, "globe.zarr", degrees=30)
    group = zarr.open_group("globe.zarr", mode="r")
    for name, unit in (("lat", "degrees_north"), ("lon", "degrees_east")):
        assert group[name].attrs["units"] == unit
        assert group[name].metadata.dimension_names == (name,)
    attributes = group["embedding"].attrs
    place = group[attributes["grid_mapping"]]
    assert pyproj.CRS(place.attrs["crs_wkt"]) == pyproj.CRS(4326)
    assert place.attrs["GeoTransform"] == "-180.0 30.0 0.0 90.0 0.0 -30.0"
    facts = group.attrs["geoenc"]
    assert (facts["model_metadata"], facts["degrees"]) == ({"licence": "MIT"}, 30)
    assert np.isnan(group["embedding"].fill_value)


def test_types(encoder, folder: Path) -> None:
    exact = wanted(encoder)
    grid(encoder, "half.zarr", dtype="float16")
    half = zarr.open_group("half.zarr")["embedding"]
    assert half.dtype == np.float16
    np.testing.assert_allclose(half[:], exact, rtol=5e-4, atol=1e-6)
    grid(encoder, "eighth.zarr", dtype="int8")
    group = zarr.open_group("eighth.zarr")
    assert group["embedding"].dtype == np.int8
    scale = group["embedding_scale"][:]
    np.testing.assert_allclose(scale * 127, np.abs(exact).max(-1), rtol=1e-5)
    error = np.abs(group["embedding"][:] * scale[..., None] - exact)
    assert (error <= 0.5001 * scale[..., None]).all()
    for dtype in ("float16", "int8"):
        with pytest.raises(ValueError, match=f"float32 for GeoTIFF, .* got '{dtype}'; choose"):
            grid(encoder, "globe.tif", dtype=dtype)
    with pytest.raises(ValueError, match="got 'int4'"):
        grid(encoder, "globe.zarr", dtype="int4")


def test_geotiff_is_north_up_and_registered(encoder, folder: Path, block_bytes: int) -> None:
    """A pixel covers its cell: GDAL's own arithmetic finds the embedding of a place."""
    grid(encoder, "globe.tif")
    exact = wanted(encoder)
    with rasterio.open("globe.tif") as file:
        assert (file.count, file.height, file.width, file.dtypes[0]) == (5, 18, 36, "float32")
        assert file.crs.to_epsg() == 4326
        assert file.bounds == (-180, -90, 180, 90)
        assert file.tags()["AREA_OR_POINT"] == "Area"
        assert json.loads(file.tags()["geoenc"])["dimensions"] == 5
        assert file.profile["tiled"]
        np.testing.assert_allclose(file.read().transpose(1, 2, 0), exact, atol=1e-6)
        for lon, lat in [(-179.99, 89.9), (179.99, 89.9), (2.35, 48.86), (-180, -89.99), (0, 0)]:
            (value,) = file.sample([(lon, lat)])
            centre = [np.floor(lon / 10) * 10 + 5, np.ceil(lat / 10) * 10 - 5]
            np.testing.assert_allclose(value, encoder.embed([centre])[0], atol=1e-6)
        assert file.xy(0, 0) == (-175, 85)
    assert os.listdir() == ["globe.tif"]


def test_both_sides_of_the_antimeridian_are_neighbours(folder: Path) -> None:
    """A smooth encoder changes as little across the edge of the map as inside it."""
    model = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.Linear(3, 4)).eval()
    grid(model, "globe.zarr", degrees=1)
    values = zarr.open_group("globe.zarr")["embedding"][:]
    inside = np.abs(np.diff(values, axis=1)).max()
    assert 0 < np.abs(values[:, 0] - values[:, -1]).max() <= inside * 1.01
    assert np.abs(values[0] - values[0, 0]).max() < 0.05, "the first row is the pole's"


def test_only_land(encoder, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(grids, "_BLOCK_BYTES", 2000)
    centres = geoenc.sampling.lattice(18)
    land = on_land(centres.reshape(-1, 2).numpy()).reshape(18, 36)
    assert 0.2 < land.mean() < 0.45
    assert on_land(np.array([(0.0, -89.5)])).all(), "Antarctica"
    exact = wanted(encoder)
    grid(encoder, "land.zarr", land=True)
    got = zarr.open_group("land.zarr")["embedding"][:]
    np.testing.assert_array_equal(np.isnan(got).all(-1), ~land)
    np.testing.assert_allclose(got[land], exact[land], atol=1e-6)
    grid(encoder, "land8.zarr", land=True, dtype="int8")
    group = zarr.open_group("land8.zarr")
    np.testing.assert_array_equal(np.isnan(group["embedding_scale"][:]), ~land)
    grid(encoder, "land.tif", land=True)
    with rasterio.open("land.tif") as file:
        np.testing.assert_array_equal(file.read_masks(1) > 0, land)


def test_time(folder: Path) -> None:
    model = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 4), geoenc.CyclicTime()).eval()
    exact = model.embed(geoenc.sampling.lattice(2), torch.full((2, 4), 0.5)).numpy()
    for number, time in enumerate((0.5, "0.5", "2024-07-02")):
        grid(model, f"{number}.zarr", degrees=90, time=time)
        got = zarr.open_group(f"{number}.zarr")["embedding"][:]
        np.testing.assert_allclose(got, exact, atol=1e-6)
    embed_cells(model, "cells.parquet", resolution=0, time="2024-07-02", progress=False)
    table = pq.read_table("cells.parquet").to_pandas()
    places = torch.from_numpy(table[["lon", "lat"]].to_numpy(copy=True))
    exact = model.embed(places, torch.full((122,), 0.5))
    np.testing.assert_allclose(np.stack(table["embedding"]), exact, atol=1e-6)
    with pytest.raises(ValueError, match="expected a time, for the model was built with one"):
        grid(model, "none.zarr")
    with pytest.raises(ValueError, match=r"expected dates such as 2024-07-01 .*got .*julember"):
        grid(model, "none.zarr", time="julember")
    with pytest.raises(ValueError, match="expected no time, for the model was built without one"):
        grid(geoenc.published.encoder("SINR"), "none.zarr", time=0.5)
    assert not list(folder.glob("none*")), "nothing that the right command would then refuse"


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_zarr_goes_on_after_an_interruption(encoder, folder: Path, dtype: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "_BLOCK_BYTES", 2000)
        grid(encoder, "whole.zarr", dtype=dtype)
        with patch.context() as inner:
            stop_after(inner, 3)
            with pytest.raises(KeyboardInterrupt):
                grid(encoder, "globe.zarr", dtype=dtype)
        assert not Path("globe.zarr").exists()
        with pytest.raises(ValueError, match="got those of another table, model or setting"):
            grid(encoder, "globe.zarr", dtype=dtype, degrees=30)
        with patch.context() as inner:
            calls = stop_after(inner, 999)
            grid(encoder, "globe.zarr", dtype=dtype)
    whole, again = (zarr.open_group(name) for name in ("whole.zarr", "globe.zarr"))
    chunks = int(
        np.prod([-(-a // b) for a, b in zip((18, 36), whole["embedding"].chunks, strict=False)])
    )
    assert len(calls) == chunks - 3
    np.testing.assert_array_equal(again["embedding"][:], whole["embedding"][:])
    assert sorted(os.listdir()) == ["globe.zarr", "whole.zarr"]


def test_an_interrupted_geotiff_leaves_nothing(encoder, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(grids, "_BLOCK_BYTES", 2000)
    stop_after(monkeypatch, 2)
    Path("globe.tif").write_text("precious")
    with pytest.raises(KeyboardInterrupt):
        grid(encoder, "globe.tif", force=True)
    assert Path("globe.tif").read_text() == "precious"
    assert os.listdir() == ["globe.tif"]


def test_nothing_is_overwritten(encoder, folder: Path) -> None:
    Path("globe.tif").write_text("precious")
    Path("globe.zarr").mkdir()
    Path("globe.zarr/thesis.txt").write_text("precious")
    for name in ("globe.tif", "globe.zarr"):
        with pytest.raises(ValueError, match="which exists; choose another, or pass force=True"):
            grid(encoder, name)
    with pytest.raises(ValueError, match=r"a Zarr group to replace, .* something else"):
        grid(encoder, "globe.zarr", force=True)
    assert Path("globe.zarr/thesis.txt").read_text() == "precious"
    grid(encoder, "globe.tif", force=True)
    assert rasterio.open("globe.tif").count == 5
    grid(encoder, "other.zarr", degrees=30)
    grid(encoder, "other.zarr", force=True)
    assert zarr.open_group("other.zarr")["embedding"].shape == (18, 36, 5)


@pytest.mark.parametrize("degrees", [7, 0, -1, 200, float("nan")])
def test_cells_that_do_not_divide_the_globe(encoder, folder: Path, degrees: float) -> None:
    with pytest.raises(ValueError, match="whose side divides 180 degrees"):
        grid(encoder, "globe.zarr", degrees=degrees)
    assert os.listdir() == []


def test_thirds_of_a_degree_and_other_suffixes(encoder, folder: Path) -> None:
    assert grid(encoder, "globe.tiff", degrees=180 / 7)[1:3] == (7, 14)
    assert rasterio.open("globe.tiff").bounds == pytest.approx((-180, -90, 180, 90))
    with pytest.raises(ValueError, match=r"expected \.zarr or \.tif, got 'globe.nc'"):
        grid(encoder, "globe.nc")


def test_cells_of_h3(encoder, folder: Path) -> None:
    done = embed_cells(encoder, "cells.parquet", resolution=1, progress=False, block_rows=100)
    assert (done.rows, done.failed) == (842, 0)
    table = gpd.read_parquet("cells.parquet")
    assert table.crs.to_epsg() in (4326, None) or table.crs.to_authority() == ("OGC", "CRS84")
    assert table.h3.is_unique
    assert {h3.get_resolution(cell) for cell in table.h3} == {1}
    places = np.array([h3.cell_to_latlng(cell)[::-1] for cell in table.h3])
    np.testing.assert_array_equal(table[["lon", "lat"]], places)
    np.testing.assert_array_equal(table.geometry.x, places[:, 0])
    np.testing.assert_allclose(np.stack(table["embedding"]), encoder.embed(places), atol=1e-6)


def test_cells_travel_to_other_processes(encoder, monkeypatch) -> None:
    """Workers get the table pickled; it must give them the same cells."""
    given: list = []
    monkeypatch.setattr(grids, "embed_table", lambda model, table, *_, **__: given.append(table))
    embed_cells(encoder, "x.parquet", resolution=1, land=True)
    (table,) = given
    there = pickle.loads(pickle.dumps(table))
    here, again = (list(one.blocks(50)) for one in (table, there))
    assert [one.num_rows for one in here[:-1]] == [50] * (len(here) - 1)
    assert [one.to_pylist() for one in here] == [one.to_pylist() for one in again]


def test_cells_of_h3_on_land(encoder, folder: Path) -> None:
    embed_cells(encoder, "land.parquet", resolution=2, land=True, dtype="int8", progress=False)
    table = pq.read_table("land.parquet").to_pandas()
    base = [cell for zero in h3.get_res0_cells() for cell in h3.cell_to_children(zero, 2)]
    places = np.array([h3.cell_to_latlng(cell)[::-1] for cell in base])
    assert set(table["h3"]) == set(np.array(base)[on_land(places)])
    assert 0.2 < len(table) / len(base) < 0.4
    for resolution in (-1, 16):
        with pytest.raises(ValueError, match="from 0 to 15"):
            embed_cells(encoder, "x.parquet", resolution=resolution)


def test_command_line(encoder, folder: Path, capsys) -> None:
    encoder.save_pretrained("model")
    start = ["embed", "--model", "model"]
    assert main([*start, "--grid", "30", "--out", "globe.zarr"]) == 0
    assert capsys.readouterr().out == "6 x 12 cells of 30 degrees: globe.zarr\n"
    assert main([*start, "--grid", "30", "--land", "--out", "globe.tif", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "path": "globe.tif",
        "height": 6,
        "width": 12,
        "dimensions": 5,
        "dtype": "float32",
    }
    assert main([*start, "--grid", "h3:0", "--out", "cells.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 122
    wrong = {
        "both or neither": [],
        "in degrees, such as 0.5": ["--grid", "s2:4"],
        "expected no --lon": ["--grid", "30", "--lon", "x"],
        "expected no --workers": ["--grid", "30", "--workers", "2"],
        "expected no --land": ["points.csv", "--land"],
        "which exists": ["--grid", "30"],
    }
    for message, arguments in wrong.items():
        assert main([*start, *arguments, "--out", "globe.zarr"]) == 1
        assert message in capsys.readouterr().err
