"""One callable, many engines: each gives the numbers of `embed`, and loads the model once."""

import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from shapely import Point, box

import geoenc
from geoenc.batches import Embedder
from geoenc.frames import embed_frame


@pytest.fixture
def encoder() -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()


@pytest.fixture
def model(encoder, tmp_path: Path) -> str:
    """The folder of the encoder."""
    encoder.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def places(count: int) -> pd.DataFrame:
    lonlat = geoenc.sampling.uniform(count).numpy()
    return pd.DataFrame({"key": np.arange(count), "lon": lonlat[:, 0], "lat": lonlat[:, 1]})


def wanted(encoder, frame: pd.DataFrame) -> np.ndarray:
    return encoder.embed(frame[["lon", "lat"]]).numpy()


def test_every_kind_of_batch(encoder) -> None:
    pa = pytest.importorskip("pyarrow")
    frame = places(7).set_index(pd.Index([3, 3, 1, 1, 0, 9, 9], name="i"))
    expected = wanted(encoder, frame)
    embedder = Embedder(encoder)
    out = embedder(frame)
    pd.testing.assert_frame_equal(out[frame.columns], frame)
    np.testing.assert_array_equal(out[[f"emb_{i}" for i in range(5)]], expected)
    arrays = {name: column.to_numpy() for name, column in frame.items()}
    out = embedder(arrays)
    assert list(out) == ["key", "lon", "lat", "embedding"]
    assert list(arrays) == ["key", "lon", "lat"], "the batch is not changed"
    np.testing.assert_array_equal(out["embedding"], expected)
    table = pa.table(arrays)
    column = embedder(table).column("embedding")
    assert str(column.type) == "fixed_size_list<item: float>[5]" or column.type.list_size == 5
    np.testing.assert_array_equal(column.to_pylist(), expected)
    half = Embedder(encoder, dtype="float16")(arrays)["embedding"]
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, rtol=5e-4, atol=1e-6)


def test_geometries_and_time() -> None:
    shapes = [Point(1, 2), box(0, 0, 3, 3), None]
    frame = gpd.GeoDataFrame({"day": ["2024-01-01", "soon", "2024-07-02"]}, geometry=shapes)
    frame = frame.set_crs(4326).to_crs(3857)
    still = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()
    out = Embedder(still)(frame)
    assert isinstance(out, gpd.GeoDataFrame)
    assert out.crs == frame.crs
    np.testing.assert_allclose(
        out.filter(like="emb_"), embed_frame(still, frame).to_numpy(), atol=1e-6
    )
    timed = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 4), geoenc.CyclicTime()).eval()
    out = Embedder(timed, time="day")(frame)
    assert out.filter(like="emb_").isna().all(axis=1).tolist() == [False, True, True]


def test_rows_that_cannot_be_encoded_become_nan(encoder) -> None:
    pa = pytest.importorskip("pyarrow")
    batch = {"lon": ["2.35", "x", "", "1"], "lat": ["48.86", "1", "1", "151.2"]}
    embedder = Embedder(encoder)
    with pytest.warns(UserWarning, match=r"got 2 of 4 rows .* first at 1 \(unreadable\)"):
        out = embedder(batch)["embedding"]
    assert np.isnan(out).all(1).tolist() == [False, True, True, True]
    with pytest.warns(UserWarning, match="2 of 4"):
        column = embedder(pa.table(batch)).column("embedding")
    assert [one is None for one in column.to_pylist()] == [False, True, True, True]
    shapes = gpd.GeoDataFrame(geometry=[Point(1, 95), Point(1, 2)], crs=4326)
    with pytest.warns(UserWarning, match=r"1 of 2 rows .* \(not degrees\)"):
        assert embedder(shapes).emb_0.isna().tolist() == [True, False]


def test_errors_say_what_to_do(encoder) -> None:
    frame = places(2)
    with pytest.raises(ValueError, match=r"column 'x', got \['key', 'lon', 'lat'\]; name it with"):
        Embedder(encoder, lon="x")(frame)
    with pytest.raises(ValueError, match="no column 'emb_0'"):
        Embedder(encoder)(frame.assign(emb_0=1))
    with pytest.raises(ValueError, match="no column 'embedding'"):
        Embedder(encoder)({"lon": [1.0], "lat": [1.0], "embedding": [0]})
    with pytest.raises(TypeError, match="got list; convert"):
        Embedder(encoder)([(1.0, 2.0)])
    with pytest.raises(ValueError, match="float32, float16, got 'int8'"):
        Embedder(encoder, dtype="int8")
    with pytest.raises(TypeError, match="expected a model that embeds"):
        Embedder(torch.nn.Linear(2, 2))(frame)


def test_a_folder_is_read_once_and_again_when_it_changes(encoder, model, monkeypatch) -> None:
    read: list[Any] = []
    original = geoenc.hub.from_pretrained
    monkeypatch.setattr(
        "geoenc.hub.from_pretrained", lambda name: (read.append(name), original(name))[1]
    )
    frame = places(3)
    embedder = Embedder(model)
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(embedder))
    for one in (embedder, embedder, again, Embedder(Path(model))):
        np.testing.assert_allclose(one(frame).iloc[:, 3:], wanted(encoder, frame), atol=1e-6)
    assert len(read) == 1
    other = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()
    other.save_pretrained(model)
    np.testing.assert_allclose(embedder(frame).iloc[:, 3:], wanted(other, frame), atol=1e-6)
    assert len(read) == 2


def test_a_folder_is_found_from_another_folder(encoder, model, monkeypatch) -> None:
    monkeypatch.chdir(Path(model).parent)
    embedder = Embedder("model")
    assert embedder.model == "model"
    monkeypatch.chdir("/")
    assert embedder(places(2)).shape == (2, 8)


# --- clusters on this machine: two processes, neither of them this one


def _loads() -> tuple[int, int]:
    """Which process, and how often it has read a model."""
    from geoenc import batches

    return os.getpid(), batches._loaded.cache_info().misses


@pytest.fixture(scope="module")
def dask_client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="dask's cluster is not installed")
    pytest.importorskip("dask.dataframe", reason="dask[dataframe] is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.ERROR,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_dask_maps_it_over_partitions(dask_client, encoder, model) -> None:
    import dask.dataframe as dd

    frame = places(60)
    table = dd.from_pandas(frame, npartitions=6)
    out = table.map_partitions(Embedder(model)).compute()
    pd.testing.assert_frame_equal(out[frame.columns], frame)
    np.testing.assert_allclose(out.iloc[:, 3:], wanted(encoder, frame), atol=1e-6)
    found = list(dask_client.run(_loads).values())
    assert os.getpid() not in {process for process, _ in found}
    assert len({process for process, _ in found}) == 2
    counts = [count for _, count in found]
    assert max(counts) == 1, "each worker reads the model once, whatever the number of partitions"
    given = table.map_partitions(Embedder(encoder)).compute()
    pd.testing.assert_frame_equal(given, out, atol=1e-6)


def test_dask_geopandas_maps_it_over_geometries(dask_client, encoder, model) -> None:
    dask_geopandas = pytest.importorskip("dask_geopandas", reason="it is not installed")
    shapes = [box(lon, 10, lon + 2, 12) if lon % 20 else Point(lon, 5) for lon in range(-90, 90, 5)]
    frame = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326).to_crs(3857)
    table = dask_geopandas.from_geopandas(frame, npartitions=4)
    out = table.map_partitions(Embedder(model)).compute()
    assert isinstance(out, gpd.GeoDataFrame)
    assert out.crs == frame.crs
    expected = embed_frame(encoder, frame).to_numpy()
    np.testing.assert_allclose(out.filter(like="emb_"), expected, atol=1e-6)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    try:
        import ray
        import ray.data
    except Exception as error:
        pytest.skip(f"ray[data] could not be imported: {error}")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 * 2**20,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_maps_it_over_batches(ray_cluster, encoder, model) -> None:
    frame = places(60)
    dataset = ray_cluster.data.from_pandas(frame).repartition(6)
    for form in ("numpy", "pyarrow"):
        out = dataset.map_batches(Embedder(model), batch_format=form).to_pandas()
        out = out.sort_values("key", ignore_index=True)
        np.testing.assert_array_equal(out["key"], frame["key"])
        numbers = np.array(out["embedding"].tolist(), dtype=float)
        np.testing.assert_allclose(numbers, wanted(encoder, frame), atol=1e-6)
    out = dataset.map_batches(Embedder(model), batch_format="pandas").to_pandas()
    numbers = out.sort_values("key").filter(like="emb_").to_numpy(dtype=float)
    np.testing.assert_allclose(numbers, wanted(encoder, frame), atol=1e-6)
    actors = dataset.map_batches(
        Embedder, fn_constructor_args=(model,), compute=ray_cluster.data.ActorPoolStrategy(size=1)
    )
    out = actors.to_pandas().sort_values("key")
    numbers = np.array(out["embedding"].tolist(), dtype=float)
    np.testing.assert_allclose(numbers, wanted(encoder, frame), atol=1e-6)
