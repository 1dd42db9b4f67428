"""A file of features that is written once: known by what it was made of, continued when killed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoenc._files import write_text
from geoenc.data.errors import DatasetNotFoundError

_log = logging.getLogger(__name__)


def images_hash(images: Tensor | Sequence[str | Path], image_size: int) -> str:
    """Of the pixels, or of the names, sizes and times of change of the files."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(images, Tensor):
        digest.update(f"{images.dtype} {tuple(images.shape[1:])}".encode())
        for chunk in images.split(1024):
            digest.update(_bytes(chunk))
        return digest.hexdigest()
    digest.update(f"{image_size}".encode())
    for file in images:
        try:
            stat = os.stat(file)
        except FileNotFoundError as error:
            raise DatasetNotFoundError(
                f"expected an image at '{file}', got no such file; correct the path or drop the row"
            ) from error
        digest.update(f"{os.path.abspath(file)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def module_hash(module: nn.Module) -> str:
    """Of the class, the printed structure, the configuration and all parameters and buffers."""
    kind = type(module)
    printed = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module))
    config = getattr(module, "config", None)
    digest = hashlib.blake2b(f"{kind.__module__}.{kind.__qualname__}\n".encode(), digest_size=16)
    digest.update(f"{printed}\n{config if isinstance(config, dict) else ''}\n".encode())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _beside(cache: Path) -> tuple[Path, Path, Path]:
    """The description of the cache, the unfinished cache and its description."""
    partial = cache.with_name(f"{cache.name}.partial")
    return cache.with_name(f"{cache.name}.json"), partial, partial.with_name(f"{partial.name}.json")


def _description(file: Path) -> dict[str, Any]:
    """The content of a description; nothing if it is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_made_of(cache: Path, made_of: dict[str, Any]) -> bool:
    """Whether the cache is whole and comes from these images and this module."""
    if not cache.is_file():
        return False
    found = _description(_beside(cache)[0])
    different = [key for key, value in made_of.items() if found.get(key) != value]
    columns = found.get("columns", 0)
    size = len(_header(made_of["rows"], columns)) + 4 * made_of["rows"] * columns
    if not different and cache.stat().st_size != size:
        different = ["size"]
    if different:
        _log.warning(
            "%s was made of something else (%s): computing it again", cache, ", ".join(different)
        )
    return not different


def _header(rows: int, columns: int) -> bytes:
    """What a ``.npy`` file of float32 (rows, columns) begins with."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
    )
    return buffer.getvalue()


def write_cache(
    cache: Path, made_of: dict[str, Any], computed: Callable[[int], Generator[Tensor]]
) -> None:
    """Appends batches to the unfinished cache, whose length says how far it is; then renames it.

    Rows are appended rather than stored in a memory map, where a full disk kills the process.

    Args:
        cache: the file.
        made_of: what it is made of, and the number of its rows.
        computed: batches of float32 features from a row on.
    """
    rows = made_of["rows"]
    description, partial, partial_description = _beside(cache)
    cache.parent.mkdir(parents=True, exist_ok=True)
    found = _description(partial_description)
    columns, done = int(found.get("columns", 0)), 0
    if partial.is_file() and columns and found == {**made_of, "columns": columns}:
        header = len(_header(rows, columns))
        done = max(0, partial.stat().st_size - header) // (4 * columns)
    try:
        if done:
            _log.info("%s: continuing after %d of %d images", cache, done, rows)
            os.truncate(partial, header + 4 * columns * done)
        with contextlib.closing(computed(done)) as batches:
            for features in batches:
                if not done:
                    columns = features.shape[1]
                    _start_partial(cache, made_of, columns)
                _append(partial, features.numpy().astype("<f4", copy=False).tobytes())
                done += len(features)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # In this order no crash leaves a description beside an array that it does not describe.
        description.unlink(missing_ok=True)
        os.replace(partial, cache)
        write_text(description, json.dumps({**made_of, "columns": columns}, indent=2) + "\n")
        partial_description.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        partial.unlink(missing_ok=True)
        partial_description.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"expected room for {rows} x {columns} features "
            f"({4 * rows * columns / 1e6:.0f} MB), got a full disk after {done} images; "
            "free some space or choose another folder, and start again",
            str(cache),
        ) from error


def _start_partial(cache: Path, made_of: dict[str, Any], columns: int) -> None:
    """An unfinished cache with no rows yet, if the disk has room for all of them."""
    _, partial, partial_description = _beside(cache)
    if shutil.disk_usage(cache.parent).free < 4 * made_of["rows"] * columns:
        raise OSError(errno.ENOSPC, "not enough room", str(cache))
    partial.unlink(missing_ok=True)
    write_text(partial_description, json.dumps({**made_of, "columns": columns}) + "\n")
    _append(partial, _header(made_of["rows"], columns))


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
