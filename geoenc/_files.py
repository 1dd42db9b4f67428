"""Files appear whole or not at all."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well.

    Whatever goes wrong inside the block (an exception, Ctrl-C, a full disk), the old file stays
    as it was and the temporary one is removed.

    Raises:
        OSError: the file could not be written; says where and what to do when the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _full_disk_explained(target, temporary):
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _full_disk_explained(target: Path, written: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        ours = error.filename in (None, str(written))
        if ours and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno,
                f"expected room for {target.name}, but the disk is full; nothing was changed. "
                "Free some space or choose another folder, and start again",
                str(target),
            ) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add one line to a text file, whole or not at all."""
    target = Path(path)
    size = target.stat().st_size if target.exists() else 0
    with _full_disk_explained(target, target):
        try:
            with target.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(target, size)
            raise


def sha256(path: str | os.PathLike[str]) -> str:
    """Checksum of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
