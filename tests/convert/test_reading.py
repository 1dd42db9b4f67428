"""Foreign files are data: nothing in them is run, whatever they hold."""

import argparse
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch

from geoenc import convert
from geoenc.convert._reading import read

EVERY = sorted(convert.FORMATS)


class Trap:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class Assigned:
    """The same by way of ``__setstate__`` of a class that is not known."""

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("where", ["key", "state", "array"])
@pytest.mark.parametrize("zipped", [True, False])
def test_no_format_runs_what_a_file_holds(
    kind: str, where: str, zipped: bool, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    inside = {
        "key": {"state_dict": {"a": torch.zeros(2)}, "params": Trap(made)},
        "state": {"a": torch.zeros(2), "b": Trap(made)},
        "array": {"a": torch.zeros(2), "b": np.array([Trap(made)], dtype=object)},
    }[where]
    path = tmp_path / "trap.pth"
    torch.save(inside, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"got \w+\.system, which would be run"):
        convert.FORMATS[kind](path)
    assert not made.exists()
    pickle.loads(pickle.dumps(Trap(made)))
    assert made.exists(), "the trap works where pickles are opened"


@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_pickles_are_refused_by_name(protocol: int, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Trap(made)}, protocol=protocol))
    with pytest.raises(ValueError, match="system"):
        read(tmp_path / "a.pkl")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with pytest.raises(ValueError, match="damaged or another"):
        read(tmp_path / "b.pkl")
    assert not made.exists()


def test_unknown_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Assigned.*nothing was run"):
        read(foreign.saved(tmp_path, {"a": Assigned()}))


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_data_of_numpy_and_argparse_is_read(zipped: bool, tmp_path: Path) -> None:
    content = {
        "numbers": [np.int64(3), np.float32(2.5), np.bool_(True), np.float64(1e-300)],
        "text": np.str_("ß"),
        "array": np.arange(6.0).reshape(2, 3).T,
        "options": argparse.Namespace(x=1, deep=argparse.Namespace(y=(1, 2))),
        "device": torch.device("cpu"),
        "tensor": torch.ones(2),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    got = read(tmp_path / "a.pth")
    assert got["numbers"] == [3, 2.5, True, 1e-300]
    assert [type(value) for value in got["numbers"]] == [int, float, bool, float]
    assert got["text"] == "ß"
    assert got["array"] == [[0, 3], [1, 4], [2, 5]]
    assert got["options"] == {"x": 1, "deep": {"y": [1, 2]}}
    assert got["device"] == "cpu"
    assert torch.equal(got["tensor"], torch.ones(2))


@pytest.mark.parametrize("name", ["numpy.core", "numpy._core"])
def test_numbers_of_older_and_newer_numpy(name: str, tmp_path: Path) -> None:
    path = foreign.saved(tmp_path, {"a": np.int64(-7)})
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in parts.items():
            archive.writestr(entry, re.sub(rb"numpy\._?core", name.encode(), data))
    assert read(path) == {"a": -7}


def test_bytes_of_arrays_must_fit(tmp_path: Path) -> None:
    class Short:
        def __reduce__(self) -> Any:
            function, arguments, state = np.zeros(4).__reduce__()
            return function, arguments, (*state[:4], state[4][:8])

    with pytest.raises(ValueError, match="array of 1 numbers with shape"):
        read(foreign.saved(tmp_path, {"a": Short()}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n  <html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b'{"a": 1}', "JSON"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"", "begins with b''"),
        (b"\x93NUMPY\x01\x00", "begins with"),
        (b"PK\x03\x04" + b"\0" * 60, "damaged"),
        (b"\x80\x02}q\x00", "damaged"),
        ((5).to_bytes(8, "little") + b"{oops" + b" " * 60, "safetensors"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_files_of_another_kind(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    for kind in ("torchspatial", "geoclip"):
        with pytest.raises(ValueError, match=words):
            convert.FORMATS[kind](tmp_path / "file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_cut_files(share: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.randn(300)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="damaged"):
        read(path)


def test_a_changed_number_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"a": torch.full((50,), 0.1), "b": torch.ones(3)}, path)
    data = path.read_bytes()
    number = torch.tensor(0.1).numpy().tobytes()
    path.write_bytes(data.replace(number, bytes(4), 1))
    with pytest.raises(ValueError, match=r"checksum of file/data/0 in it is another; fetch"):
        read(path)
    whole = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.full((50,), 0.1)}, path)
    finally:
        torch.serialization.set_crc32_options(whole)
    assert read(path)["a"].tolist() == [torch.tensor(0.1).item()] * 50


@pytest.mark.parametrize(
    "value",
    [torch.zeros(3, 7, device="meta"), torch.zeros(()).expand(2**20, 2**20)],
    ids=["meta", "repeated"],
)
def test_shapes_without_numbers(value: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"neural_network.weight": value, "neural_network.bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"weight: expected a tensor, got shape \(\d+, \d+\) w"):
        convert.locationencoder(path, positional_encoding_name="direct")


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    assert torch.equal(read(tmp_path / "a.safetensors")["a"], torch.ones(3))


@pytest.mark.parametrize("kind", EVERY)
def test_every_format_says_what_is_missing(kind: str, tmp_path: Path) -> None:
    for name in ("absent", "."):
        with pytest.raises(FileNotFoundError, match="no file"):
            convert.FORMATS[kind](tmp_path / name)
    for content in ([1, 2], {"a": 1}, {"state_dict": 3}, torch.zeros(3)):
        with pytest.raises(ValueError, match=r"tensors by name|differences"):
            convert.FORMATS[kind](foreign.saved(tmp_path, content))
    words = r"other\.weight: expected nothing, got shape \(2, 3\)|spa_enc_type: expected one of"
    with pytest.raises(ValueError, match=words):
        convert.FORMATS[kind](foreign.saved(tmp_path, {"other.weight": torch.zeros(2, 3)}))


def test_every_format_has_a_page() -> None:
    pages = Path(convert.__file__).parents[2] / "docs"
    if not pages.is_dir():
        pytest.skip("not a checkout: documentation is not there")
    text = (pages / "reference" / "convert.md").read_text()
    for kind in EVERY:
        assert f"geoenc.convert.{kind}" in text
