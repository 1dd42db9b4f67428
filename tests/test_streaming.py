"""Tables in and out: the same numbers as `embed`, whatever the file, the blocks, or an end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from interruption import stop_after

import geoenc
from geoenc import streaming
from geoenc.cli import main
from geoenc.streaming import embed_table
from geoenc.tables import Table, open_table

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def encoder() -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(count: int) -> pd.DataFrame:
    lonlat = geoenc.sampling.uniform(count).numpy()
    return pd.DataFrame({"key": np.arange(count), "lon": lonlat[:, 0], "lat": lonlat[:, 1]})


def vectors(path: str) -> np.ndarray:
    """The embeddings of a file, NaN where null."""
    table = pq.read_table(path)
    column = table.column("embedding").combine_chunks()
    width = column.type.list_size
    rows = [np.full(width, np.nan) if one is None else one for one in column.to_pylist()]
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def run(encoder, source: str, out: str, **options):
    return embed_table(encoder, source, out, progress=False, **options)


@pytest.mark.parametrize("block_rows", [1, 7, 100])
def test_blocks_do_not_matter(encoder, folder: Path, block_rows: int) -> None:
    frame = places(20)
    frame.to_parquet("in.parquet", row_group_size=6)
    done = run(encoder, "in.parquet", "out.parquet", block_rows=block_rows)
    assert (done.rows, done.failed, done.report) == (20, 0, None)
    wanted = encoder.embed(frame[["lon", "lat"]]).double().numpy()
    np.testing.assert_allclose(vectors("out.parquet"), wanted, atol=1e-6)
    out = gpd.read_parquet("out.parquet")
    pd.testing.assert_frame_equal(pd.DataFrame(out[["key", "lon", "lat"]]), frame)
    np.testing.assert_array_equal(out.geometry.x, frame.lon)
    assert sorted(os.listdir()) == ["in.parquet", "out.parquet"]
    groups = pq.ParquetFile("out.parquet").metadata.num_row_groups
    assert groups == -(-20 // block_rows)


def test_types_and_their_errors(encoder, folder: Path) -> None:
    """float16 keeps 11 bits; with int8 no number is further off than half a step."""
    frame = places(200)
    frame.to_parquet("in.parquet")
    wanted = encoder.embed(frame[["lon", "lat"]]).double().numpy()
    for dtype in ("float32", "float16", "int8"):
        run(encoder, "in.parquet", f"{dtype}.parquet", dtype=dtype)
        stored = pq.read_schema(f"{dtype}.parquet").field("embedding").type.value_type
        assert str(stored) == {"float16": "halffloat", "float32": "float"}.get(dtype, dtype)
    assert (
        np.abs(vectors("float16.parquet") / np.where(wanted, wanted, 1) - (wanted != 0)).max()
        < 5e-4
    )
    scale = pq.read_table("int8.parquet").column("embedding_scale").to_numpy()[:, None]
    np.testing.assert_allclose(scale[:, 0] * 127, np.abs(wanted).max(1), rtol=1e-5)
    assert (np.abs(vectors("int8.parquet") * scale - wanted) <= 0.5001 * scale).all()
    with pytest.raises(ValueError, match="float32, float16, int8, got 'int4'"):
        run(encoder, "in.parquet", "x.parquet", dtype="int4")


def test_metadata(encoder, folder: Path) -> None:
    encoder.metadata["licence"] = "MIT"
    places(3).to_parquet("in.parquet")
    run(encoder, "in.parquet", "out.parquet", dtype="int8")
    facts = json.loads(pq.read_schema("out.parquet").metadata[b"geoenc"])
    assert facts["geoenc_version"] == geoenc.__version__
    assert facts["model_config"] == json.loads(json.dumps(encoder.config))
    assert facts["coordinates"].startswith("longitude, latitude; degrees")
    assert (facts["dtype"], facts["dimensions"]) == ("int8", 5)
    assert facts["model_metadata"] == {"licence": "MIT"}
    assert "embedding_scale" in facts["scale"]
    assert not any(key.startswith("_") for key in facts)


CSV = """name,x,y
Paris,2.35,48.86
nowhere,,
text,abc,3
swapped,48.86,151.2
spaces, 179.9 , -16.5
known as NA,NA,nan
"""


@pytest.mark.parametrize("block_rows", [2, 100])
def test_csv_and_rows_that_cannot_be_encoded(encoder, folder: Path, block_rows: int) -> None:
    (folder / "in.csv").write_text(CSV)
    done = run(encoder, "in.csv", "out.parquet", lon="x", lat="y", block_rows=block_rows)
    assert (done.rows, done.failed) == (6, 4)
    assert done.report is not None
    lines = ["row,reason", "1,no place", "2,unreadable", "3,not degrees", "5,no place"]
    assert done.report.read_text().splitlines() == lines
    got = vectors("out.parquet")
    assert np.isnan(got).all(1).tolist() == [False, True, True, True, False, True]
    np.testing.assert_allclose(
        got[[0, 4]], encoder.embed([(2.35, 48.86), (179.9, -16.5)]), atol=1e-6
    )
    out = gpd.read_parquet("out.parquet")
    assert out.name.tolist() == [line.split(",")[0] for line in CSV.splitlines()[1:]]
    assert out.x.notna().tolist() == [True, False, False, False, True, False]
    assert out.geometry.notna().tolist() == [True, False, False, False, True, False]
    (folder / "in.tsv").write_text(CSV.replace(",", "\t"))
    run(encoder, "in.tsv", "tsv.parquet", lon="x", lat="y")
    np.testing.assert_array_equal(vectors("tsv.parquet"), got)


@pytest.mark.parametrize("kind", ["parquet", "gpkg", "fgb"])
def test_geometries_in_any_crs(encoder, folder: Path, kind: str) -> None:
    points = gpd.points_from_xy([500_000, 600_000, 700_000], [5e6, 5.1e6, 5.2e6])
    shapes = [points[0], points[1].buffer(1e5), points[2], None]
    frame = gpd.GeoDataFrame({"n": [4, 5, 6, 7]}, geometry=shapes, crs=32632)
    if kind == "parquet":
        frame.to_parquet("in.parquet")
    else:
        frame.to_file(f"in.{kind}", **({"SPATIAL_INDEX": "NO"} if kind == "fgb" else {}))
    done = run(encoder, f"in.{kind}", "out.parquet", block_rows=3)
    assert (done.rows, done.failed) == (4, 1)
    wanted = frame.geoenc.embed(encoder).to_numpy()
    np.testing.assert_allclose(vectors("out.parquet"), wanted, atol=1e-6)
    out = gpd.read_parquet("out.parquet")
    assert out.crs == frame.crs
    assert out.n.tolist() == [4, 5, 6, 7]
    assert out.geometry.iloc[0].equals(points[0])


def test_time(folder: Path) -> None:
    model = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 4), geoenc.CyclicTime()).eval()
    frame = places(4).assign(
        date=["2024-01-01", "2024-07-02", "soon", None], share=[0, 0.5, 3, None]
    )
    frame.to_parquet("in.parquet")
    for column in ("date", "share"):
        done = run(model, "in.parquet", f"{column}.parquet", time=column)
        assert done.report.read_text().splitlines()[1:] == ["2,no time", "3,no time"]
    np.testing.assert_array_equal(vectors("date.parquet"), vectors("share.parquet"))
    wanted = model.embed(frame[["lon", "lat"]][:2], torch.tensor([0.0, 0.5]))
    np.testing.assert_allclose(vectors("date.parquet")[:2], wanted, atol=1e-6)


def test_nothing_is_overwritten(encoder, folder: Path) -> None:
    places(5).to_parquet("in.parquet")
    Path("out.parquet").write_text("precious")
    with pytest.raises(ValueError, match=r"which exists; choose another, or pass force=True"):
        run(encoder, "in.parquet", "out.parquet")
    assert Path("out.parquet").read_text() == "precious"
    run(encoder, "in.parquet", "out.parquet", force=True)
    assert len(vectors("out.parquet")) == 5


def test_parts_of_other_settings_are_refused(encoder, folder: Path, monkeypatch) -> None:
    places(10).to_parquet("in.parquet")
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, "in.parquet", "out.parquet", block_rows=3)
    monkeypatch.undo()
    os.chdir(folder)
    with pytest.raises(ValueError, match="those of another table, model or setting"):
        run(encoder, "in.parquet", "out.parquet", block_rows=3, dtype="float16")
    other = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16))
    with pytest.raises(ValueError, match="those of another table, model or setting"):
        run(other, "in.parquet", "out.parquet", block_rows=3)
    run(other, "in.parquet", "out.parquet", block_rows=3, force=True)
    wanted = other.eval().embed(pd.read_parquet("in.parquet")[["lon", "lat"]]).detach()
    np.testing.assert_allclose(vectors("out.parquet"), wanted, atol=1e-6)


def test_what_is_done_is_not_computed_again(encoder, folder: Path, monkeypatch) -> None:
    places(10).to_parquet("in.parquet")
    run(encoder, "in.parquet", "whole.parquet", block_rows=3)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, "in.parquet", "out.parquet", block_rows=3)
    assert not Path("out.parquet").exists()
    monkeypatch.undo()
    os.chdir(folder)
    calls = stop_after(monkeypatch, 99)
    run(encoder, "in.parquet", "out.parquet", block_rows=3)
    assert calls == [3, 1], "two of four blocks were there"
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()


def test_killed_in_the_middle_and_resumed(encoder, folder: Path, monkeypatch) -> None:
    """SIGKILL to the command; the second run gives the same bytes and recomputes nothing."""
    encoder.save_pretrained("model")
    places(40_000).to_parquet("in.parquet")
    command = ["embed", "in.parquet", "--model", "model", "--block-rows", "100"]
    code = "import sys; from geoenc.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--out", "out.parquet"], stderr=subprocess.DEVNULL
    )
    parts = folder / "out.parquet.parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.arrow"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, "the command ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = {path.name: path.stat().st_mtime_ns for path in parts.glob("[0-9]*.arrow")}
    assert 3 <= len(there) < 400
    made: list[int] = []
    original = streaming._Job.encoded

    def counted(self, block):
        if block.num_rows:
            made.append(block.num_rows)
        return original(self, block)

    monkeypatch.setattr(streaming._Job, "encoded", counted)
    assert main([*command, "--out", "out.parquet"]) == 0
    assert len(made) == 400 - len(there)
    assert main([*command, "--out", "whole.parquet"]) == 0
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert not parts.exists()


def test_workers_write_the_same_file(encoder, folder: Path) -> None:
    places(50).to_parquet("in.parquet")
    run(encoder, "in.parquet", "one.parquet", block_rows=7)
    run(encoder, "in.parquet", "two.parquet", block_rows=7, workers=2)
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()


def test_workers_share_the_blocks(encoder, folder: Path, monkeypatch) -> None:
    places(50).to_parquet("in.parquet")
    run(encoder, "in.parquet", "one.parquet", block_rows=7)
    there: list[list[str]] = []

    def one_after_the_other(job, workers, progress) -> None:
        for rank in range(workers):
            job.run(rank, workers)
            there.append(sorted(path.stem for path in job.folder.glob("*.arrow")))

    monkeypatch.setattr(streaming, "_share", one_after_the_other)
    run(encoder, "in.parquet", "two.parquet", block_rows=7, workers=3)
    numbers = [[int(name) for name in names] for names in there]
    assert numbers == [[0, 3, 6], [0, 1, 3, 4, 6, 7], list(range(8))]
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()


def test_an_error_in_a_worker_is_explained(folder: Path) -> None:
    places(5).to_parquet("in.parquet")
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.Linear(3, 4)).eval()
    for parameter in encoder.parameters():
        torch.nn.init.constant_(parameter, 1e6)
    with pytest.raises(ValueError, match=r"within 65504 for float16.*in a worker"):
        run(encoder, "in.parquet", "out.parquet", workers=2, dtype="float16")


def test_a_time_without_use_is_refused_before_anything_is_written(encoder, folder: Path) -> None:
    places(5).assign(when=0.5).to_parquet("in.parquet")
    timed = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 4), geoenc.CyclicTime()).eval()
    with pytest.raises(ValueError, match=r"expected a time, .*got none; give time="):
        run(timed, "in.parquet", "out.parquet")
    with pytest.raises(ValueError, match=r"expected no time, .*leave time= \(--time\) out"):
        run(encoder, "in.parquet", "out.parquet", time="when")
    assert os.listdir() == ["in.parquet"], "no parts that the right command would then refuse"


def test_a_device_that_is_not_there_is_named(encoder, folder: Path) -> None:
    places(5).to_parquet("in.parquet")
    with pytest.raises(ValueError, match=r"a device of this machine, got 'abacus'.*choose cpu"):
        run(encoder, "in.parquet", "out.parquet", device="abacus")


def die(rank: int, job: object, workers: int) -> None:
    """What the system does to a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_explained(encoder, folder: Path, monkeypatch) -> None:
    places(5).to_parquet("in.parquet")
    monkeypatch.setattr(streaming, "_work", die)
    with pytest.raises(ChildProcessError, match=r"SIGKILL.*fewer workers or block_rows; what is"):
        run(encoder, "in.parquet", "out.parquet", workers=2)
    assert not Path("out.parquet").exists()


def test_workers_go_on_after_an_interruption(encoder, folder: Path, monkeypatch) -> None:
    places(50).to_parquet("in.parquet")
    run(encoder, "in.parquet", "whole.parquet", block_rows=7)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(encoder, "in.parquet", "out.parquet", block_rows=7)
    parts = folder / "out.parquet.parts"
    there = {path: path.stat().st_mtime_ns for path in parts.glob("*.arrow")}
    assert len(there) == 3
    joined: list[bool] = []
    assemble = streaming._assemble

    def looked_at(job, target, facts):
        joined.append(all(path.stat().st_mtime_ns == then for path, then in there.items()))
        return assemble(job, target, facts)

    monkeypatch.setattr(streaming, "_assemble", looked_at)
    run(encoder, "in.parquet", "out.parquet", block_rows=7, workers=2)
    assert joined == [True], "what was done is not done again"
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()


def test_the_bar_shows_rows_and_their_rate(encoder, folder: Path, capsys) -> None:
    places(50).to_parquet("in.parquet")
    places(50).to_csv("in.csv")
    for source in ("in.parquet", "in.csv"):
        embed_table(encoder, source, "out.parquet", block_rows=7, force=True)
        shown = capsys.readouterr().err
        assert "100%" in shown
        assert "50.0/50.0" in shown
        assert "rows/s" in shown


def test_the_model_stays_as_it_was(folder: Path) -> None:
    places(5).to_parquet("in.parquet")
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).train()
    run(encoder, "in.parquet", "out.parquet", device="cpu")
    assert encoder.training
    wanted = encoder.embed(pd.read_parquet("in.parquet")[["lon", "lat"]])
    np.testing.assert_allclose(vectors("out.parquet"), wanted, atol=1e-6)


def test_a_report_that_is_there_is_not_overwritten(encoder, folder: Path) -> None:
    (folder / "in.csv").write_text(CSV)
    (folder / "out.parquet.failed.csv").write_text("precious")
    options = {"lon": "x", "lat": "y"}
    with pytest.raises(ValueError, match=r"got 'out.parquet.failed.csv', which exists"):
        run(encoder, "in.csv", "out.parquet", **options)
    assert (folder / "out.parquet.failed.csv").read_text() == "precious"
    assert run(encoder, "in.csv", "out.parquet", force=True, **options).failed == 4


def test_blocks_have_their_size_whatever_the_reader_gives(folder: Path, monkeypatch) -> None:
    places(11).to_parquet("in.parquet")
    whole = pq.read_table("in.parquet")
    monkeypatch.setattr(Table, "_batches", lambda self, rows: whole.to_batches(max_chunksize=3))
    found = list(open_table("in.parquet").blocks(5))
    assert [one.num_rows for one in found] == [5, 5, 1]
    assert [key for one in found for key in one["key"].to_pylist()] == list(range(11))


def test_command_line(encoder, folder: Path, capsys) -> None:
    encoder.save_pretrained("model")
    (folder / "in.csv").write_text(CSV)
    command = ["embed", "in.csv", "--model", "model", "--out", "out.parquet"]
    assert main(command) == 1
    assert "expected columns 'lon' and 'lat' in 'in.csv'" in capsys.readouterr().err
    assert main([*command, "--lon", "x", "--lat", "y", "--dtype", "float16"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "6 rows: out.parquet"
    assert out[1].startswith("4 rows without an embedding, numbered from 0: out.parquet.failed.csv")
    assert main([*command, "--lon", "x", "--lat", "y"]) == 1
    assert "--force" in capsys.readouterr().err


def test_errors_say_what_to_do(encoder, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="which is no file"):
        run(encoder, "none.parquet", "out.parquet")
    with pytest.raises(ValueError, match=r"expected a table .*, got 'a.xlsx'"):
        run(encoder, "a.xlsx", "out.parquet")
    with pytest.raises(ValueError, match=r"name of a Parquet file to write, .* got 'out.csv'"):
        run(encoder, "in.parquet", "out.csv")
    frame = gpd.GeoDataFrame(geometry=gpd.points_from_xy([1.0], [2.0]))
    frame.to_parquet("in.parquet")
    with pytest.raises(ValueError, match=r"known CRS .* frame.set_crs"):
        run(encoder, "in.parquet", "out.parquet")
    frame.set_crs(4326).to_parquet("in.parquet", geometry_encoding="geoarrow")
    with pytest.raises(ValueError, match=r"as WKB in .*, got point"):
        run(encoder, "in.parquet", "out.parquet")
    places(2).assign(embedding=1).to_parquet("in.parquet")
    with pytest.raises(ValueError, match="expected no column 'embedding'"):
        run(encoder, "in.parquet", "out.parquet")
    places(2).to_parquet("in.parquet")
    with pytest.raises(ValueError, match="expected a column 'date'"):
        run(encoder, "in.parquet", "out.parquet", time="date")
    with pytest.raises(TypeError, match="expected a model that embeds"):
        run(torch.nn.Linear(2, 2), "in.parquet", "out.parquet")
    assert os.listdir() == ["in.parquet"]


def test_classifiers_give_the_embeddings_of_their_encoder(encoder, folder: Path) -> None:
    places(3).to_parquet("in.parquet")
    run(encoder, "in.parquet", "one.parquet")
    run(geoenc.LocationClassifier(encoder, 4), "in.parquet", "two.parquet")
    np.testing.assert_array_equal(vectors("one.parquet"), vectors("two.parquet"))
