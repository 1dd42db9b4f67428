"""The trained location models of the field: what exists, where it is, and a copy kept on disk."""

import contextlib
import errno
import functools
import hashlib
import http.client
import json
import os
import shutil
import sys
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

from geoenc._files import atomic_path, sha256, write_text
from geoenc._optional import require

_BLOCK = 2**20
_TRIES = 3
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Pretrained:
    """What is known of a trained model; None where nothing is known.

    Attributes:
        name: what `geoenc.from_pretrained` takes.
        format: the function of ``geoenc.convert`` that reads it; None if there is none.
        paper: where it was introduced.
        training_data: what it has seen.
        licence: of the weights; None if none is stated, which means all rights reserved.
        page: where people find it.
        url: direct address of the file; None if there is none.
        file: its name.
        member: the file inside it, if it is a zip archive.
        size: bytes, exactly.
        megabytes: about how many, as its page shows.
        checksum: ``"sha256:..."``, or ``"git:..."``, the name of the blob in its git repository.
        notes: what else to know.
    """

    name: str
    paper: str
    training_data: str
    page: str
    file: str
    format: str | None = None
    licence: str | None = None
    url: str | None = None
    member: str | None = None
    size: int | None = None
    megabytes: float | None = None
    checksum: str | None = None
    notes: str = ""


def list_pretrained() -> list[Pretrained]:
    """All trained location models that are known, also those that geoenc cannot convert.

    Example:
        >>> import geoenc
        >>> for model in geoenc.list_pretrained():
        ...     if model.name.startswith("satclip-vit16"):
        ...         print(model.name, model.licence)
        satclip-vit16-l10 MIT
        satclip-vit16-l40 MIT
    """
    return list(entries().values())


@functools.cache
def entries() -> dict[str, Pretrained]:
    """The catalogue by name, from ``catalogue.toml``."""
    text = resources.files("geoenc").joinpath("catalogue.toml").read_text(encoding="utf-8")
    found = {}
    for family in tomllib.loads(text).values():
        models = family.pop("models")
        for name, own in models.items():
            facts = {**family, **own}
            url = facts.get("url")
            if "file" not in facts:
                facts["file"] = urllib.parse.urlsplit(url or "").path.rpartition("/")[2]
            folder = facts.pop("folder", "")
            if url is not None:
                quoted = urllib.parse.quote(facts["file"])
                facts["url"] = url.replace("{folder}", folder).replace("{file}", quoted)
            found[name] = Pretrained(name=name, **facts)
    return found


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Where fetched files are kept: ``folder``, GEOENC_CACHE, or the platform's cache folder."""
    given = folder or os.environ.get("GEOENC_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "geoenc/Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/geoenc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoenc"


def fetch(
    entry: Pretrained,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    progress: bool = True,
) -> Path:
    """The file of a model, from the cache or, the first time, from its address.

    An interrupted download goes on where it was. What arrives must have the size and checksum of
    the entry; its sha256 is written beside it and compared at every later use, without a network.

    Args:
        entry: a model of the catalogue.
        cache_dir: instead of `cache_folder`.
        local_files_only: never use the network.
        progress: show a bar, if tqdm is there.

    Raises:
        FileNotFoundError: the address is gone, there is none, or only local files were asked for.
        ConnectionError: no network, or a connection that keeps breaking.
        ValueError: not the file that was expected, or one that has changed on disk.
        OSError: no room or no permission.
    """
    target = _place(entry, cache_folder(cache_dir))
    if not _record(target).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent / ".lock"):
            if not target.is_file():
                _arrive(entry, target, local_files_only, progress)
            if not _record(target).is_file():  # put there by hand
                _remember(entry, target, target)
    _unchanged(target)
    return target if entry.member is None else _unpacked(entry, target)


def _place(entry: Pretrained, cache: Path) -> Path:
    """Models of one archive share it."""
    folder = entry.name if entry.member is None else Path(entry.file).stem
    return cache / folder / entry.file


def _by_hand(entry: Pretrained, target: Path) -> str:
    """How to come by a model without a connection from here."""
    place = (
        f"fetch {entry.url or f'the file linked on {entry.page}'} by hand and put it at {target}"
    )
    if entry.format is None:
        return place
    file = entry.member or entry.file
    return f"{place}, or convert it where it is: geoenc convert {entry.format} {file} OUT"


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _arrive(entry: Pretrained, target: Path, local_files_only: bool, progress: bool) -> None:
    if local_files_only or entry.url is None:
        reason = "only local files were asked for" if local_files_only else "no address is known"
        raise FileNotFoundError(
            f"expected {entry.name} at {str(target)!r}, got nothing there, and {reason}; "
            f"{_by_hand(entry, target)}"
        )
    part = _part(target)
    try:
        _download(entry, entry.url, target, progress)
        _remember(entry, part, target)
    except ValueError:
        _forget(part)
        raise
    os.replace(part, target)
    _forget(part)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _forget(part: Path) -> None:
    for path in (part, _record(part)):
        path.unlink(missing_ok=True)


# --- is it the right file? ----------------------------------------------------------------------


def _remember(entry: Pretrained, path: Path, target: Path) -> None:
    """Check a file that came, and write down its sha256."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise ValueError(
            f"expected {entry.size:,} bytes for {entry.name}, got {size:,}: it is cut off or "
            f"another file; {_by_hand(entry, target)}"
        )
    kind, _, wanted = (entry.checksum or "").partition(":")
    got = _git_name(path) if kind == "git" else sha256(path)
    if wanted and got != wanted:
        raise ValueError(
            f"expected {entry.name} with the checksum {entry.checksum}, got {got}: it is damaged "
            f"or another file; {_by_hand(entry, target)}"
        )
    facts = {"name": entry.name, "url": entry.url, "size": size, "sha256": sha256(path)}
    write_text(_record(target), json.dumps(facts, indent=1) + "\n")


def _unchanged(target: Path) -> None:
    facts = json.loads(_record(target).read_text(encoding="utf-8"))
    if not target.is_file() or sha256(target) != facts["sha256"]:
        raise ValueError(
            f"expected {str(target)!r} as it was fetched, with the sha256 {facts['sha256']}, got "
            f"another file or none; delete the folder {str(target.parent)!r} and ask again"
        )


def _git_name(path: Path) -> str:
    """The SHA-1 by which git names a file: of its size and its content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _unpacked(entry: Pretrained, archive: Path) -> Path:
    """The member of a zip archive whose path ends in that name, beside the archive."""
    target = archive.with_name(str(entry.member))
    if target.is_file():
        return target
    try:
        with zipfile.ZipFile(archive) as file:
            names = [name for name in file.namelist() if Path(name).name == entry.member]
            if len(names) != 1:
                raise ValueError(
                    f"expected {entry.member!r} once in {str(archive)!r}, got it {len(names)} "
                    f"times; {_by_hand(entry, archive)}"
                )
            with file.open(names[0]) as source, atomic_path(target) as new, new.open("wb") as out:
                shutil.copyfileobj(source, out, _BLOCK)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"expected a zip archive in {str(archive)!r}, got another file ({error}); delete it "
            f"and {_by_hand(entry, archive)}"
        ) from error
    return target


# --- the network --------------------------------------------------------------------------------


def _download(entry: Pretrained, url: str, target: Path, progress: bool) -> None:
    """Bytes into the part of ``target``, going on where an earlier call was interrupted."""
    part = _part(target)
    for attempt in range(_TRIES):
        try:
            with _opened(url, part) as (response, start, total):
                _room(entry, part, (total or entry.size or 0) - start)
                with _bar(entry, start, total, progress) as bar, part.open("r+b") as out:
                    out.truncate(start)
                    out.seek(start)
                    while block := response.read(_BLOCK):
                        out.write(block)
                        bar.update(len(block))
            if total is None or part.stat().st_size >= total:
                return
            reason = f"{part.stat().st_size:,} of {total:,} bytes"
        except urllib.error.HTTPError as error:
            if error.code == 416 and attempt + 1 < _TRIES:  # nothing left to ask for: start again
                _forget(part)
                continue
            kind = FileNotFoundError if error.code in (404, 410) else OSError
            raise kind(
                f"expected {entry.name} at {url}, got the answer {error.code} {error.reason}; "
                f"{_by_hand(entry, target)}"
            ) from error
        except urllib.error.URLError as error:
            raise ConnectionError(
                f"expected to reach {url} for {entry.name}, got no connection ({error.reason}); "
                f"{_by_hand(entry, target)}"
            ) from error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        except OSError as error:
            _forget(part)
            raise OSError(
                error.errno,
                f"expected to write {entry.name} to {str(part.parent)!r}, got: {error.strerror}; "
                "make room there, or set GEOENC_CACHE to another folder, and ask again",
            ) from error
    raise ConnectionError(
        f"expected the whole of {url}, got {reason}, {_TRIES} times; what came is kept: ask again "
        f"to go on, or {_by_hand(entry, target)}"
    )


@contextlib.contextmanager
def _opened(url: str, part: Path) -> Iterator[tuple[IO[bytes], int, int | None]]:
    """The response, the byte where it starts and the size of the whole file.

    A part is only gone on with if the server names the same version of the file as before.
    """
    known = _record(part)
    facts: dict[str, Any] = json.loads(known.read_text()) if known.is_file() else {}
    start = part.stat().st_size if part.is_file() and facts.get("url") == url else 0
    request = urllib.request.Request(url, headers={"User-Agent": "geoenc"})
    if start and facts["version"]:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", facts["version"])
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        if response.status != 206:
            start = 0
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            part.touch()
            write_text(known, json.dumps({"url": url, "version": version}))
        yield response, start, None if length is None else start + int(length)


def _room(entry: Pretrained, part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"{needed:,} bytes are needed for {entry.file} and {free:,} are free"
        )


@contextlib.contextmanager
def _bar(entry: Pretrained, start: int, total: int | None, progress: bool) -> Iterator[Any]:
    """A progress bar; where there is no tqdm, nothing."""

    class Silent:
        def update(self, count: int) -> None:
            pass

    try:
        tqdm = require("tqdm", extra="train").tqdm if progress else None
    except ImportError:
        tqdm = None
    if tqdm is None:
        yield Silent()
        return
    with tqdm(
        total=total, initial=start, desc=entry.name, unit="B", unit_scale=True, unit_divisor=1000
    ) as bar:
        yield bar


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the others wait. The system ends the lock with its process."""
    with path.open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                with contextlib.suppress(OSError):
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
