"""Files appear whole or not at all, and missing packages are named."""

import errno
import os
from pathlib import Path

import pytest

from geoenc import _files
from geoenc._files import atomic_path, write_text
from geoenc._optional import require


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.EIO, "x")])
def test_old_file_stays_when_anything_goes_wrong(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full; nothing was changed") as caught:
        write_text(target, "new")
    assert caught.value.errno == number
    assert str(target) in str(caught.value)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_block_that_writes_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Zürich → 東京\n")
    assert (tmp_path / "a.txt").read_bytes() == "Zürich → 東京\n".encode()


def test_require_imports_or_names_the_command() -> None:
    assert require("json", extra="any").loads("1") == 1
    with pytest.raises(ImportError, match=r"'nosuch', which.*pip install 'geoenc\[plot\]'"):
        require("nosuch.part", extra="plot")


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    path = tmp_path / "lines.txt"
    _files.append_line(path, "one")
    _files.append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match=r"expected room for lines\.txt, but the disk is full"):
        _files.append_line(path, "three")
    assert path.read_text() == "one\ntwo\n"
