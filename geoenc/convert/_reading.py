"""Foreign files as plain data: tensors, numbers, text and containers. Nothing in them is run."""

import argparse
import contextlib
import math
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,4}")
_NOT_WEIGHTS = {
    b"<": "a web page; the download went wrong, fetch it again",
    b"{": "text (JSON); give the file with the weights beside it",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"PK\x05\x06": "an empty zip archive; fetch it again",
}


def read(path: str | os.PathLike[str]) -> Any:
    """The content of a PyTorch or safetensors file as dictionaries, lists, text and tensors.

    Pickles go through ``torch.load(weights_only=True)``. Beyond its own list, NumPy numbers and
    arrays and ``argparse.Namespace`` are read, as they are plain data: stand-ins of this module
    decode the bytes, NumPy's own constructors are never called.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a damaged one, or one that would run code when it is
            opened as a pickle; names what it would run.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"expected a file with weights, got {str(file)!r}, which is no file; check the path"
        )
    with file.open("rb") as stream:
        head = stream.read(64)
    for start, what in _NOT_WEIGHTS.items():
        if head.lstrip().startswith(start):
            raise ValueError(f"expected weights in {str(file)!r}, got {what}")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return _safetensors(file)
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise ValueError(
            f"expected a PyTorch or safetensors file in {str(file)!r}, got one that begins with "
            f"{head[:8]!r}; give the file with the weights, unpacked"
        )
    if head.startswith(b"PK"):
        _check_zip(file)
    return _pickled(file)


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"expected safetensors in {str(file)!r}, got a damaged file ({error}); fetch it again"
        ) from error


def _check_zip(file: Path) -> None:
    """Compare the checksums in a zip archive, which PyTorch does not.

    PyTorch can be told to write none: then all are wrong, and none is believed.
    """
    wrong, right = [], 0
    with contextlib.suppress(Exception), zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:  # PyTorch never compresses
                continue
            try:
                archive.read(record)
                right += record.file_size > 0
            except zipfile.BadZipFile:
                wrong.append(record.filename)
    if wrong and right:
        raise ValueError(
            f"expected a whole PyTorch file in {str(file)!r}, got a damaged one: the checksum of "
            f"{', '.join(wrong[:3])} in it is another; fetch it again"
        )


def _pickled(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the protocol of the pickle
            return _plain(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        named = _named(file)
        if named:
            raise ValueError(
                f"expected only tensors, numbers and text in {str(file)!r}, got {named}, which "
                "would be run to open it; nothing was run. If you trust its source, open it "
                "where that code is installed and save the state dict alone"
            ) from error
        raise _damaged(file, error) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can end in any of them
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        reason = "its pickle is not one that PyTorch wrote"
    return ValueError(
        f"expected a whole PyTorch file in {str(file)!r}, got a damaged or another one "
        f"({reason}); fetch it again"
    )


def _named(file: Path) -> str:
    """Functions and classes that a pickle names beyond plain data; empty if there are none."""
    names: set[str] = set()
    with contextlib.suppress(Exception), torch.serialization.safe_globals(_stand_ins()):
        return ", ".join(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file)))
    with contextlib.suppress(Exception), file.open("rb") as stream:  # no zip: pickles in a row
        while True:
            texts: list[str] = []
            for code, value, _ in pickletools.genops(stream):
                if code.name == "GLOBAL":
                    names.add(str(value).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    names.add(".".join(texts[-2:]))
                elif isinstance(value, str):
                    texts.append(value)
    harmless = re.compile(
        r"torch\.|numpy\.|argparse\.Namespace$|collections\.OrderedDict$|_codecs\."
    )
    return ", ".join(sorted(name for name in names if not harmless.match(name)))


# --- stand-ins for the few classes that real files name, all of them plain data -----------------


class _DType:
    """The type of a NumPy number, by its code and byte order."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code, self.order = str(code).lstrip("<>=|"), "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def decode(self, data: Any) -> Any:
        if not isinstance(data, bytes) or not _NUMBERS.fullmatch(self.code):
            raise ValueError(f"a NumPy value of type {self.code!r}, which is not plain numbers")
        return np.frombuffer(data, self.order + self.code)


class _Array:
    """A NumPy array, decoded when its bytes arrive."""

    values: Any = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        flat = dtype.decode(data)
        if flat.size != math.prod(shape):
            raise ValueError(f"a NumPy array of {flat.size} numbers with shape {shape}")
        self.values = flat.reshape(shape, order="F" if fortran else "C").tolist()


def _array(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: Any = b"") -> Any:
    return dtype.decode(data)[0].item()


def _stand_ins() -> list[Any]:
    names = {"dtype": _DType, "ndarray": _Array}
    functions = {"scalar": _scalar, "_reconstruct": _array}
    return [
        argparse.Namespace,
        *((value, f"numpy.{name}") for name, value in names.items()),
        *(
            (value, f"numpy.{core}.multiarray.{name}")
            for core in ("core", "_core")
            for name, value in functions.items()
        ),
    ]


def _plain(value: Any) -> Any:
    """Dictionaries and lists all the way down; devices and dtypes as text."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, _Array):
        return value.values
    if value is None or isinstance(value, bool | int | float | str | bytes | Tensor):
        return value
    return str(value)
