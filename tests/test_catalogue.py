"""The catalogue: facts in order, and files that arrive whole or with an explanation."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import json
import multiprocessing
import os
import re
import shutil
import threading
import urllib.parse
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import geoenc
from geoenc import catalogue, cli
from geoenc.catalogue import Pretrained, fetch

CONTENT = bytes(range(256)) * 4096
"""One mebibyte."""


class Server(http.server.ThreadingHTTPServer):
    """Files over HTTP, with ranges, and with the faults that a test asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"first"'
        self.cuts: list[int] = []  # of each answer to come: break off after so many bytes
        self.ranges = True
        self.says_length = True
        self.status = 200
        self.asked: list[str | None] = []  # the range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.pt"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = 0
        if server.status != 200:
            self.send_error(server.status)
            return
        same = self.headers.get("If-Range") in (None, server.etag)
        if asked and server.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Connection", "close")
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        with contextlib.suppress(OSError):
            self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOENC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def entry(server: Server) -> Pretrained:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Pretrained(
        "model-1",
        "A paper",
        "data",
        "https://example.org/page",
        "model.pt",
        format="sinr",
        url=server.url,
        size=len(CONTENT),
        checksum=f"sha256:{digest}",
    )


def unknown(entry: Pretrained, **changes: Any) -> Pretrained:
    """The same without size and checksum."""
    return dataclasses.replace(entry, **{"size": None, "checksum": None, **changes})


# --- the facts ----------------------------------------------------------------------------------


def test_every_entry_says_what_it_must() -> None:
    models = geoenc.list_pretrained()
    assert len({model.name for model in models}) == len(models)
    for model in models:
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", model.name), model.name
        assert model.paper, model.name
        assert model.training_data, model.name
        assert model.page.startswith("https://"), model.name
        if model.url is not None:
            assert urllib.parse.urlsplit(model.url).scheme == "https", model.name
            assert model.file, model.name
            assert not {"{", "}", "+", " "} & set(model.url), f"not filled in: {model.url}"
        assert Path(model.file).name == model.file, "a name, not a path"
        if model.checksum is not None:
            kinds = r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}"
            assert re.fullmatch(kinds, model.checksum), model.name
        assert model.size is None or model.size > 0
        if model.format is None:
            assert model.licence is None or model.page


def test_the_field_is_there() -> None:
    names = [model.name for model in geoenc.list_pretrained()]
    for wanted in ("satclip-vit16-l40", "geoclip", "climplicit", "tte", "sinr-1000", "csp-fmow"):
        assert wanted in names
    assert sum(name.startswith("torchspatial-") for name in names) == 97


def test_formats_are_those_that_can_be_converted() -> None:
    from geoenc.convert import FORMATS

    formats = {model.format for model in geoenc.list_pretrained()} - {None}
    assert formats <= set(FORMATS), formats - set(FORMATS)


def test_an_entry_cannot_be_changed(entry: Pretrained) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.url = "elsewhere"


@pytest.mark.real_data
def test_checksums_are_those_of_the_released_files(shared: Path) -> None:
    folder = shared / "checkpoints" / "torchspatial"
    known = {model.file: model for model in geoenc.list_pretrained() if model.checksum}
    files = sorted(folder.glob("*.pth.tar"))
    assert files, f"expected released models in {folder}"
    for path in files:
        entry = known[path.name]
        assert entry.size == path.stat().st_size
        target = catalogue.cache_folder() / entry.name / entry.file
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
        assert fetch(entry, local_files_only=True) == target
        blob = hashlib.sha1(b"blob %d\0" % entry.size + path.read_bytes()).hexdigest()
        assert catalogue._git_name(path) == blob


# --- a file that comes --------------------------------------------------------------------------


def test_a_file_comes_once_and_is_kept(entry: Pretrained, server: Server, cache: Path) -> None:
    path = fetch(entry, progress=False)
    assert path == cache / "model-1" / "model.pt"
    assert path.read_bytes() == CONTENT
    record = json.loads((cache / "model-1" / "model.pt.json").read_text())
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert record["url"] == server.url
    assert sorted(os.listdir(path.parent)) == [".lock", "model.pt", "model.pt.json"]
    server.shutdown()
    assert fetch(entry) == fetch(entry, local_files_only=True) == path
    assert server.asked == [None], "asked once"


def test_progress_is_shown(entry: Pretrained, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(entry)
    shown = capsys.readouterr().err
    assert "model-1: 100%" in shown
    assert "1.05M/1.05M" in shown


def test_no_bar_is_no_error(entry: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(catalogue, "require", missing)
    assert fetch(entry).read_bytes() == CONTENT


def test_the_cache_is_where_it_was_asked_for(
    entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(entry, cache_dir=tmp_path / "other").is_relative_to(tmp_path / "other")
    monkeypatch.delenv("GEOENC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for platform, variable, folder in (
        ("linux", "XDG_CACHE_HOME", "xdg/geoenc"),
        ("win32", "LOCALAPPDATA", "local/geoenc/Cache"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / folder.partition("/")[0]))
        monkeypatch.setattr(catalogue.sys, "platform", platform)
        assert catalogue.cache_folder() == tmp_path / folder
    monkeypatch.setattr(catalogue.sys, "platform", "darwin")
    assert catalogue.cache_folder() == Path.home() / "Library/Caches/geoenc"


def test_a_git_name_is_a_checksum_too(entry: Pretrained, server: Server) -> None:
    name = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    good = dataclasses.replace(entry, checksum=f"git:{name}")
    assert fetch(good).read_bytes() == CONTENT
    bad = dataclasses.replace(entry, name="model-2", checksum=f"git:{'0' * 40}")
    with pytest.raises(ValueError, match=f"checksum git:0+, got {name}"):
        fetch(bad)


# --- connections that break ---------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["checksum", "no checksum"])
def test_a_break_is_mended_at_once(entry: Pretrained, server: Server, known: bool) -> None:
    server.cuts = [300_000, 200_000]
    path = fetch(entry if known else unknown(entry), progress=False)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_an_interrupted_download_goes_on_at_the_next_call(
    entry: Pretrained, server: Server, cache: Path
) -> None:
    server.cuts = [400_000, 0, 0]
    with pytest.raises(ConnectionError, match=r"got 400,000 of 1,048,576 bytes, 3 times; what "):
        fetch(entry, progress=False)
    assert (cache / "model-1" / "model.pt.part").stat().st_size == 400_000
    assert not (cache / "model-1" / "model.pt").exists()
    server.asked.clear()
    assert fetch(entry, progress=False).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]
    assert not (cache / "model-1" / "model.pt.part").exists()


def test_ctrl_c_keeps_what_came(
    entry: Pretrained, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_BLOCK", 100_000)

    class Bar:
        count = 0

        def update(self, count: int) -> None:
            Bar.count += count
            if Bar.count == 300_000:
                raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "_bar", lambda *_: contextlib.nullcontext(Bar()))
    with pytest.raises(KeyboardInterrupt):
        fetch(entry)
    assert fetch(entry).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("etag", ['"second"', None])
def test_another_version_is_not_put_behind_the_first_half(
    entry: Pretrained, server: Server, etag: str | None
) -> None:
    """What came of the first version is thrown away, also where nothing but luck would tell."""
    server.etag = etag and server.etag
    server.cuts = [400_000, 0, 0]
    with pytest.raises(ConnectionError):
        fetch(unknown(entry), progress=False)
    server.content, server.etag = CONTENT[::-1], etag
    assert fetch(unknown(entry), progress=False).read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_all_again(entry: Pretrained, server: Server) -> None:
    server.ranges = False
    server.cuts = [400_000]
    assert fetch(entry, progress=False).read_bytes() == CONTENT


def test_a_part_that_is_too_long_starts_again(
    entry: Pretrained, server: Server, cache: Path
) -> None:
    server.cuts = [400_000, 0, 0]
    with pytest.raises(ConnectionError):
        fetch(entry, progress=False)
    with (cache / "model-1" / "model.pt.part").open("ab") as file:
        file.write(CONTENT)
    assert fetch(entry, progress=False).read_bytes() == CONTENT


def test_two_processes_fetch_once(entry: Pretrained, server: Server, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=fetch, args=(entry,)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert server.asked == [None]
    assert (cache / "model-1" / "model.pt").read_bytes() == CONTENT


# --- files that are not what they should be -----------------------------------------------------


def by_hand(error: BaseException, cache: Path, url: str) -> bool:
    """The message names the address, the place and the command."""
    words = (f"fetch {url} by hand", str(cache / "model-1" / "model.pt"))
    return all(word in str(error) for word in (*words, "geoenc convert sinr model.pt OUT"))


def test_wrong_checksum(entry: Pretrained, server: Server, cache: Path) -> None:
    server.content = b"?" + CONTENT[1:]
    with pytest.raises(ValueError, match="damaged or another file") as caught:
        fetch(entry, progress=False)
    assert hashlib.sha256(server.content).hexdigest() in str(caught.value)
    assert by_hand(caught.value, cache, server.url)
    assert os.listdir(cache / "model-1") == [".lock"], "nothing is kept"
    server.content = CONTENT
    assert fetch(entry, progress=False).read_bytes() == CONTENT


def test_truncated_file(entry: Pretrained, server: Server, cache: Path) -> None:
    """A server that sends half of it, as if that were all; or does not say how much it is."""
    server.content = CONTENT[: len(CONTENT) // 2]
    for says_length in (True, False):
        server.says_length = says_length
        with pytest.raises(ValueError, match=r"expected 1,048,576 bytes .* got 524,288: it is cut"):
            fetch(entry, progress=False)
        assert os.listdir(cache / "model-1") == [".lock"]


@pytest.mark.parametrize(
    ("status", "kind"), [(404, FileNotFoundError), (403, OSError), (503, OSError)]
)
def test_a_server_that_says_no(
    entry: Pretrained, server: Server, cache: Path, status: int, kind: type[Exception]
) -> None:
    server.status = status
    with pytest.raises(kind, match=f"got the answer {status}") as caught:
        fetch(entry)
    assert type(caught.value) is kind
    assert by_hand(caught.value, cache, server.url)


def test_no_network(entry: Pretrained, server: Server, cache: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="got no connection") as caught:
        fetch(entry)
    assert by_hand(caught.value, cache, server.url)


def test_only_local_files(entry: Pretrained, server: Server, cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match="only local files were asked for") as caught:
        fetch(entry, local_files_only=True)
    assert by_hand(caught.value, cache, server.url)
    assert server.asked == []


def test_no_address(entry: Pretrained, cache: Path) -> None:
    lost = dataclasses.replace(entry, url=None)
    with pytest.raises(FileNotFoundError, match="no address is known") as caught:
        fetch(lost)
    assert by_hand(caught.value, cache, f"the file linked on {entry.page}")


def test_a_file_put_there_by_hand_is_checked(
    entry: Pretrained, server: Server, cache: Path
) -> None:
    place = cache / "model-1" / "model.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(ValueError, match="checksum"):
        fetch(entry)
    assert place.exists(), "the user's file is not deleted"
    place.write_bytes(CONTENT)
    assert fetch(entry) == place
    assert server.asked == []


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_file_that_changed_on_disk(entry: Pretrained, cache: Path, change: str) -> None:
    path = fetch(unknown(entry), progress=False)
    if change == "changed":
        path.write_bytes(b"?" + CONTENT[1:])
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"as it was fetched.* delete the folder"):
        fetch(unknown(entry))


# --- no room ------------------------------------------------------------------------------------


def test_no_room_is_said_before_anything_is_written(
    entry: Pretrained, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(catalogue.shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(OSError, match=r"1,048,576 bytes are needed .* 1,000 are free; make room"):
        fetch(entry, progress=False)
    assert os.listdir(cache / "model-1") == [".lock"]


def test_a_disk_that_fills_up(
    entry: Pretrained, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar:
        def update(self, count: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(catalogue, "_bar", lambda *_: contextlib.nullcontext(Bar()))
    with pytest.raises(OSError, match="No space left on device; make room there, or set") as caught:
        fetch(entry)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(cache / "model-1") == [".lock"], "the part does not fill the disk"


# --- archives -----------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path.read_bytes()


def test_models_of_one_archive_share_it(
    entry: Pretrained, server: Server, tmp_path: Path, cache: Path
) -> None:
    members = {"models/a/one.pt": b"1" * 99, "models/b/two.pt": b"2" * 99, "models/one.txt": b""}
    server.content = zipped(tmp_path / "z.zip", members)
    one = unknown(entry, file="all.zip", member="one.pt")
    two = dataclasses.replace(one, name="model-2", member="two.pt")
    assert fetch(one).read_bytes() == b"1" * 99
    assert fetch(two).read_bytes() == b"2" * 99
    assert fetch(one, local_files_only=True) == cache / "all" / "one.pt"
    assert len(server.asked) == 1
    with pytest.raises(ValueError, match=r"expected 'three.pt' once in .* got it 0 times"):
        fetch(dataclasses.replace(one, member="three.pt"))


def test_an_archive_that_is_none(entry: Pretrained) -> None:
    with pytest.raises(ValueError, match="expected a zip archive"):
        fetch(unknown(entry, file="all.zip", member="one.pt"))


# --- in a shell ---------------------------------------------------------------------------------


def test_the_list_in_a_shell_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "pretrained"]) == 0
    shown = capsys.readouterr().out
    for model in geoenc.list_pretrained():
        assert f"{model.name} " in shown
    lines = shown.splitlines()
    mit = next(line for line in lines if line.startswith("satclip-vit16-l10"))
    assert mit.split(maxsplit=1)[1] == "103.0 MB  licence: MIT"
    gps2vec = lines.index(next(line for line in lines if line.startswith("gps2vec")))
    assert "licence: none stated" in lines[gps2vec]
    assert "does not convert" in lines[gps2vec + 2]
