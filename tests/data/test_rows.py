"""Rows: any index, nothing kept in memory, and clear words for a damaged file."""

import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

from geoenc.data import (
    DatasetNotFoundError,
    LocationDataset,
    NpyRows,
    Rows,
    SparseRows,
    open_rows,
    read_ahead,
)
from geoenc.data.rows import FORMS, as_probabilities, form_of, sample_of

KINDS = ["npy", "fortran", "no advice", "half", "big-endian", "uint8", "sparse", "csc", "dense npz"]


@pytest.fixture(params=KINDS)
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Rows, Tensor]:
    """Each kind of file with the same 50 x 7 small numbers, about half of them 0."""
    values = np.random.default_rng(0).integers(0, 5, (50, 7)).astype(np.float32)
    values[values < 2] = 0
    kind = request.param
    if kind in ("sparse", "csc"):
        matrix = scipy.sparse.csr_array(values)
        scipy.sparse.save_npz(tmp_path / "m.npz", matrix.tocsc() if kind == "csc" else matrix)
    elif kind == "dense npz":
        np.savez(tmp_path / "m.npz", names=np.array(["a"]), values=values)
    else:
        dtypes = {"half": "<f2", "big-endian": ">f8", "uint8": "u1"}
        array = values.astype(dtypes.get(kind, "<f4"))
        np.save(tmp_path / "m.npy", np.asfortranarray(array) if kind == "fortran" else array)
        if kind == "no advice":  # a system without these calls
            monkeypatch.delattr("os.posix_fadvise")
            monkeypatch.delattr("mmap.MADV_DONTNEED")
    return open_rows(next(tmp_path.glob("m.*"))), torch.from_numpy(values)


def test_every_index_gives_what_a_tensor_gives(stored: tuple[Rows, Tensor]) -> None:
    rows, dense = stored
    assert rows.shape == tuple(dense.shape)
    assert len(rows) == 50
    mask = dense[:, 0] > 0
    indices: list[Any] = [
        0,
        -1,
        np.int64(3),
        torch.tensor(4),
        slice(None),
        slice(10, 2, -3),
        slice(5, 5),
        [7, 7, 3, -2],
        torch.tensor([49, 0, 1, 2, 30, 2]),
        torch.empty(0, dtype=torch.long),
        np.arange(20, 30),
        mask,
    ]
    for index in indices:
        found = rows[index]
        assert found.dtype == torch.float32
        if isinstance(index, slice):
            index = list(range(50))[index]
        kind = torch.bool if index is mask else torch.long
        assert found.equal(dense[torch.as_tensor(index, dtype=kind)])


def test_selected_rows_are_rows_of_the_whole(stored: tuple[Rows, Tensor]) -> None:
    rows, dense = stored
    part = rows.select(torch.tensor([40, 3, 3, 11]))
    assert part.shape == (4, 7)
    assert part[:].equal(dense[[40, 3, 3, 11]])
    assert part.select([False, True, False, True])[1].equal(dense[11])
    assert rows[:].equal(dense)


@pytest.mark.parametrize("index", [50, -51, [0, 50], 1.5, [True], "a", [[0]]])
def test_refuses_indices(stored: tuple[Rows, Tensor], index: Any) -> None:
    with pytest.raises(IndexError, match=r"expected .*row number.*got"):
        stored[0][index]


def test_rows_survive_pickling_and_threads(stored: tuple[Rows, Tensor]) -> None:
    rows, dense = stored
    copied = pickle.loads(pickle.dumps(rows))
    found: list[bool] = []

    def read(start: int) -> None:
        found.extend(copied[start::5].equal(dense[start::5]) for _ in range(50))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 250


def test_a_vector_is_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.arange(5.0))
    assert NpyRows(tmp_path / "v.npy")[[4, 1]].tolist() == [[4], [1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_file_and_row(tmp_path: Path, bad: float) -> None:
    values = np.ones((30, 4), np.float32)
    values[17, 2] = bad
    np.save(tmp_path / "features.npy", values)
    rows = NpyRows(tmp_path / "features.npy")
    assert rows[:17].shape == (17, 4)
    for index in (17, [3, 17], slice(None)):
        with pytest.raises(ValueError, match=r"features\.npy: expected finite .* in row 17 "):
            rows[index]
    with pytest.raises(ValueError, match="in row 17 "):
        rows.select(slice(10, 30))[[2, 7]]


def test_large_numbers_are_not_mistaken_for_infinity(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.full((4, 3), 3e38, np.float32))
    assert open_rows(tmp_path / "features.npy")[:].sum() == torch.inf


def test_a_file_cut_short_before_and_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    np.save(path, np.ones((30, 4), np.float32))
    rows = NpyRows(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 18 * 16 + 5)
    with pytest.raises(ValueError, match=r"features\.npy: expected .* end in row 12; .*cut short"):
        rows[0]
    with pytest.raises(ValueError, match=r"features\.npy: .*damaged or cut short"):
        NpyRows(path)


@pytest.mark.parametrize("name", ["m.npy", "m.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY\x01\x00v\x00{'de"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: expected a readable .*get it again"):
        open_rows(tmp_path / name)


def test_what_a_file_is_follows_from_its_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", np.eye(2))
    (tmp_path / "m.npz").rename(tmp_path / "m.npy")
    assert open_rows(tmp_path / "m.npy")[1].tolist() == [0, 1]


def test_sparse_files_with_columns_out_of_range(tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_array(np.eye(3, dtype=np.float32))
    parts = {"data": matrix.data, "indptr": matrix.indptr, "indices": matrix.indices + 1}
    np.savez(tmp_path / "p.npz", format=b"csr", shape=np.array([3, 3]), **parts)
    with pytest.raises(ValueError, match=r"p\.npz: expected a readable"):
        SparseRows(tmp_path / "p.npz")


def test_refuses_what_is_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"none\.npy"):
        open_rows(tmp_path / "none.npy")
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    with pytest.raises(ValueError, match="expected a matrix of real numbers, got <U1"):
        open_rows(tmp_path / "text.npy")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"got float64 of shape \(2, 2, 2\)"):
        open_rows(tmp_path / "cube.npy")
    np.savez(tmp_path / "two.npz", a=np.eye(2), b=np.eye(2))
    with pytest.raises(ValueError, match=r"expected one matrix, .* got a, b"):
        open_rows(tmp_path / "two.npz")
    np.save(tmp_path / "object.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"object\.npy"):
        open_rows(tmp_path / "object.npy")


def test_forms_of_class_predictions_are_told_apart(tmp_path: Path) -> None:
    logits = torch.randn(40, 6) * 3
    probs = logits.softmax(-1)
    cases = {
        "probabilities": probs,
        "log-probabilities": logits.log_softmax(-1),
        "logits": logits,
        "scores": probs * 100,
    }
    assert set(FORMS) == {"as stored", *cases}
    for form, values in cases.items():
        assert form_of(values) == form
        np.save(tmp_path / "p.npy", values.numpy())
        rows = as_probabilities(open_rows(tmp_path / "p.npy"))
        assert rows.form == form
        torch.testing.assert_close(rows[torch.arange(39, -1, -1)], probs.flip(0))
    assert form_of(logits.sigmoid()) == "scores"
    thresholded = torch.where(probs < 0.02, 0.0, probs)
    assert form_of(thresholded) == "probabilities"
    assert form_of(logits[logits.min(1).values > -1].abs() + 1) == "scores"


def test_rows_of_zeros_stay_zeros(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.0], [3.0, 1.0]])
    np.save(tmp_path / "p.npy", values)
    assert as_probabilities(open_rows(tmp_path / "p.npy"))[:].tolist() == [[0, 0], [0.75, 0.25]]


def test_sample_spreads_over_all_rows() -> None:
    assert sample_of(3).tolist() == [0, 1, 2]
    many = sample_of(100_000)
    assert (many[0], many[-1], len(many)) == (0, 99_999, 512)
    assert np.diff(many).max() < 200


def test_dataset_of_rows_reads_only_what_is_asked(tmp_path: Path) -> None:
    values = np.arange(40, dtype=np.float32).reshape(10, 4)
    values[9] = np.nan  # nobody asks for this row
    np.save(tmp_path / "f.npy", values)
    lonlat = torch.zeros(10, 2)
    lonlat[4] = torch.nan
    data = LocationDataset(
        lonlat, torch.arange(10), open_rows(tmp_path / "f.npy"), time=torch.zeros(10)
    )
    assert repr(data) == "LocationDataset(lonlat[10, 2], target[10], features[10, 4], time[10])"
    batch = data[torch.tensor([8, 2])]
    assert isinstance(batch.features, Tensor)
    assert batch.features[:, 0].tolist() == [32, 8]
    assert data[3].features.tolist() == [12, 13, 14, 15]
    known = data.with_location()
    assert isinstance(known.features, Rows)
    assert known.features.shape == (9, 4)
    assert known[4].features[0] == 20
    assert known.replace(time=None).subset([0, 7])[1].features[0] == 32
    with pytest.raises(ValueError, match=r"f\.npy: .* row 9 "):
        known[-1]
    with pytest.raises(ValueError, match="expected features with 2 dimensions and 3 rows"):
        LocationDataset(lonlat[:3], features=open_rows(tmp_path / "f.npy"))


def test_read_ahead_gives_the_same_batches() -> None:
    data = LocationDataset(torch.zeros(100, 2), torch.arange(100))
    batches = torch.randperm(100).split(9)
    for depth in (1, 2, 50):
        found = [batch.target for batch in read_ahead(data, batches, depth=depth)]
        assert [one.tolist() for one in found] == [one.tolist() for one in batches]
    assert list(read_ahead(data, [])) == []
    with pytest.raises(ValueError, match="depth of at least 1"):
        next(read_ahead(data, batches, depth=0))


class _Slow(LocationDataset):
    """Says which batches were begun, and stops at each until it may go on."""

    begun: list[int]
    gate: threading.Semaphore

    def __getitem__(self, index: Any) -> Any:
        self.begun.append(int(index[0]))
        assert self.gate.acquire(timeout=10)
        if 3 in index:
            raise ValueError("row 3 is damaged")
        return super().__getitem__(index)


def test_read_ahead_reads_while_the_caller_works_and_stops_when_closed() -> None:
    data = _Slow(torch.zeros(10, 2))
    data.begun, data.gate = [], threading.Semaphore(1)
    reader = read_ahead(data, torch.arange(10).split(1), depth=1)
    assert next(reader).lonlat.shape == (1, 2)
    until = time.monotonic() + 10
    while data.begun != [0, 1] and time.monotonic() < until:
        time.sleep(0.001)
    assert data.begun == [0, 1]  # the second is being read while we hold the first
    threads = threading.active_count()
    data.gate.release(10)
    reader.close()
    assert threading.active_count() == threads - 1
    assert data.begun == [0, 1]


def test_an_error_while_reading_ahead_is_raised_at_its_batch() -> None:
    data = _Slow(torch.zeros(10, 2))
    data.begun, data.gate = [], threading.Semaphore(100)
    reader = read_ahead(data, torch.arange(10).split(1), depth=4)
    assert sum(1 for _ in zip(range(3), reader, strict=False)) == 3
    with pytest.raises(ValueError, match="row 3 is damaged"):
        next(reader)


_FULL_SIZE = """
import resource, sys, numpy, torch
from geoenc.data import LocationDataset, open_rows, read_ahead

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

features = open_rows(sys.argv[1])
lonlat = torch.rand(len(features), 2)
lonlat[::100] = torch.nan
data = LocationDataset(lonlat, torch.zeros(len(lonlat), dtype=torch.long), features)
data = data.with_location()
generator = torch.Generator().manual_seed(0)
batches = torch.randperm(len(data), generator=generator).split(1024)[:80]
for batch in read_ahead(data, batches[:2]):
    pass
before = peak()
for batch in read_ahead(data, batches):
    assert batch.features.shape == (1024, 2048)
print(peak() - before, peak())
"""


def test_features_of_inat2018_size_stay_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    shape = (437_513, 2048)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * shape[0] * shape[1])  # a hole: no room on the disk
    command = [sys.executable, "-c", _FULL_SIZE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    growth, total = map(float, done.stdout.split())
    assert growth < 100, f"reading 640 MB in batches of 8 MB added {growth:.0f} MB"
    assert total < 2048
