"""Rows: a matrix that stays on disk, or sparse, and is read a batch at a time."""

import copy
import mmap
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from geoenc.data.errors import DatasetNotFoundError

if TYPE_CHECKING:
    from geoenc.data.dataset import LocationBatch, LocationDataset

_ROWS_FOR_FORM = 512
_DAMAGED = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error)


class Rows(ABC):
    """A matrix ``(N, D)`` whose rows are read when they are asked for, as float32.

    An index (number, slice, mask, list or tensor) gives a dense Tensor; `select` gives fewer rows
    without reading any. Nothing is kept in memory between two reads, so a matrix larger than the
    memory works. Reading is safe in threads and in forked or spawned worker processes.

    Args:
        name: what messages call it; usually the file.
        shape: rows and columns.

    Attributes:
        form: "as stored", or one of `FORMS`; see `as_probabilities`.

    Raises:
        ValueError: a row with NaN or infinity, or a file cut short; names the file and the row.
    """

    name: str
    shape: tuple[int, int]
    ndim = 2
    dtype = torch.float32

    def __init__(self, name: str, shape: tuple[int, int]) -> None:
        self.name, self.shape = name, shape
        self.form = "as stored"
        self.numbers: np.ndarray | None = None

    @abstractmethod
    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The stored rows with these numbers, ``(n, D)``; a new array."""

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.name}', shape={self.shape}, form='{self.form}')"

    def __getitem__(self, index: Any) -> Tensor:
        numbers = self._stored_numbers(index)
        values = self._read(np.atleast_1d(numbers))
        return values if numbers.ndim else values[0]

    def _read(self, numbers: np.ndarray) -> Tensor:
        values = torch.from_numpy(self.read(numbers).astype(np.float32, copy=False))
        self._refuse_not_finite(values, numbers)
        return FORMS[self.form](values)

    def select(self, index: Any) -> Self:
        """The rows of a slice, mask or index as a matrix of its own, without reading them."""
        chosen = copy.copy(self)
        chosen.numbers = np.atleast_1d(self._stored_numbers(index))
        chosen.shape = (len(chosen.numbers), self.shape[1])
        return chosen

    def _stored_numbers(self, index: Any) -> np.ndarray:
        """Row numbers in the file; a scalar for a number."""
        if isinstance(index, slice):
            numbers = np.arange(*index.indices(len(self)))
        else:
            numbers = np.asarray(index)
            if numbers.dtype == bool and numbers.shape == (len(self),):
                numbers = numbers.nonzero()[0]
            if numbers.ndim > 1 or (numbers.size and numbers.dtype.kind not in "iu"):
                raise IndexError(
                    f"{self.name}: expected a row number, slice, mask of {len(self)} or list of "
                    f"row numbers, got {numbers.dtype} of shape {numbers.shape}"
                )
            numbers = numbers.astype(np.int64)
            numbers = np.where(numbers < 0, numbers + len(self), numbers)
            outside = (numbers < 0) | (numbers >= len(self))
            if outside.any():
                raise IndexError(
                    f"{self.name}: expected row numbers below {len(self)}, got "
                    f"{np.asarray(index)[outside].flat[0]}"
                )
        return numbers if self.numbers is None else self.numbers[numbers]

    def _refuse_not_finite(self, values: Tensor, numbers: np.ndarray) -> None:
        if bool(values.sum().isfinite()):
            return
        bad = ~values.isfinite().all(1)
        if bool(bad.any()):
            raise ValueError(
                f"{self.name}: expected finite numbers, got NaN or infinity in row "
                f"{numbers[int(bad.long().argmax())]} ({int(bad.sum())} of {len(bad)} rows just "
                "read); write the file again, or leave those samples out with select"
            )


class NpyRows(Rows):
    """Rows of a ``.npy`` matrix of real numbers, memory-mapped.

    The system is told of all rows of a batch, in the order of the file, before the first is
    copied, and the pages of the map are given back after each batch: the process needs memory
    for the batch only. A file that is cut short is an error.

    Example:
        >>> import tempfile, numpy, torch
        >>> from geoenc.data import NpyRows
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.save(f"{folder}/features.npy", numpy.arange(8, dtype="float16").reshape(4, 2))
        ...     rows = NpyRows(f"{folder}/features.npy")
        ...     rows[torch.tensor([3, 0])]
        tensor([[6., 7.],
                [0., 1.]])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _existing(path)
        try:
            self.mapped = np.lib.format.open_memmap(self.path, mode="r")
        except _DAMAGED as error:
            raise ValueError(_damaged(self.path, error)) from error
        mapped = self.mapped
        if mapped.dtype.kind not in "fiu" or mapped.ndim not in (1, 2):
            raise ValueError(
                f"{self.path}: expected a matrix of real numbers, got {mapped.dtype} of shape "
                f"{mapped.shape}; write it again with numpy.save"
            )
        super().__init__(str(self.path), (len(mapped), mapped.shape[1] if mapped.ndim == 2 else 1))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "mapped": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.mapped = np.lib.format.open_memmap(self.path, mode="r")

    def read(self, numbers: np.ndarray) -> np.ndarray:
        mapped = self.mapped
        with self.path.open("rb") as file:
            size, wanted = os.fstat(file.fileno()).st_size, mapped.offset + mapped.nbytes
            if size < wanted:
                raise ValueError(
                    f"{self.name}: expected {wanted:,} bytes, got {size:,}, which end in row "
                    f"{max(0, size - mapped.offset) * len(self.mapped) // mapped.nbytes}; the file "
                    "was cut short: get it again"
                )
            if not mapped.flags.c_contiguous:
                return np.array(mapped[numbers])
            if hasattr(os, "posix_fadvise"):
                width, descriptor = mapped.nbytes // len(mapped), file.fileno()
                for at in (mapped.offset + np.sort(numbers) * width).tolist():
                    os.posix_fadvise(descriptor, at, width, os.POSIX_FADV_WILLNEED)
        values = np.take(np.asarray(mapped), numbers, axis=0).reshape(len(numbers), self.shape[1])
        if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.base.madvise(mmap.MADV_DONTNEED)
        return values


class SparseRows(Rows):
    """Rows of a SciPy sparse matrix in an ``.npz``; only what is not zero is held in memory.

    Example:
        >>> import tempfile, scipy.sparse
        >>> from geoenc.data import SparseRows
        >>> matrix = scipy.sparse.csr_array([[0, 1.0], [0.5, 0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scipy.sparse.save_npz(f"{folder}/p.npz", matrix)
        ...     rows = SparseRows(f"{folder}/p.npz")
        >>> rows[1]
        tensor([0.5000, 0.0000])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import scipy.sparse

        file = _existing(path)
        try:
            self.matrix = scipy.sparse.load_npz(file).tocsr().astype(np.float32)
            self.matrix.check_format(full_check=True)
        except _DAMAGED as error:
            raise ValueError(_damaged(file, error)) from error
        super().__init__(str(file), self.matrix.shape)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(self.matrix[numbers].toarray())


class ArrayRows(Rows):
    """Rows of an array in memory, where `Rows` are wanted."""

    def __init__(self, array: np.ndarray, name: str = "array") -> None:
        self.array = array.reshape(len(array), -1)
        super().__init__(name, self.array.shape)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        return self.array[numbers]


def open_rows(path: str | os.PathLike[str]) -> Rows:
    """The matrix of a ``.npy`` (read row by row), or of a sparse or dense ``.npz``.

    What a file is follows from its first bytes, not from its name.

    Raises:
        DatasetNotFoundError: no such file.
        ValueError: damaged, or not a matrix of numbers. Objects are never unpickled.
    """
    file = _existing(path)
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            return NpyRows(file)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if "indptr" in arrays.files or "format" in arrays.files:
                return SparseRows(file)
            matrices = [name for name in arrays.files if arrays[name].ndim == 2]
            if len(matrices) == 1:
                return ArrayRows(arrays[matrices[0]], str(file))
            found = ", ".join(arrays.files) or "nothing"
    except _DAMAGED as error:
        if isinstance(error, ValueError) and str(file) in str(error):
            raise
        raise ValueError(_damaged(file, error)) from error
    raise ValueError(
        f"{file}: expected one matrix, sparse as scipy.sparse.save_npz writes it or dense, got "
        f"{found}; save that matrix alone"
    )


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if not file.is_file():
        raise DatasetNotFoundError(f"expected the file '{file}', got none there; check the path")
    return file


def _damaged(file: Path, error: Exception) -> str:
    first = "".join(str(error).strip().splitlines()[:1])
    return (
        f"{file}: expected a readable matrix in {file.stat().st_size:,} bytes, got "
        f"{type(error).__name__}: {first}; it is damaged or cut short: get it again"
    )


FORMS = {
    "as stored": lambda values: values,
    "probabilities": lambda values: values,
    "log-probabilities": lambda values: values.exp(),
    "logits": lambda values: values.softmax(-1),
    "scores": lambda values: values / values.sum(-1, keepdim=True).clamp_min(1e-30),
}
"""What rows of class predictions can hold, and how each becomes P(y | image)."""


def form_of(values: Tensor) -> str:
    """Which of `FORMS` a sample of rows of class predictions has.

    Probabilities are at least 0 and sum to 1, or less where small ones were set to 0;
    scores are at least 0 and sum to something else; log-probabilities are at most 0 and their
    exponentials sum to 1; everything else is logits.

    Example:
        >>> import torch
        >>> from geoenc.data.rows import form_of
        >>> form_of(torch.tensor([[2.0, -1.0, 0.5]])), form_of(torch.tensor([[0.2, 0.8, 0.0]]))
        ('logits', 'probabilities')
    """
    if bool((values >= 0).all()):
        total = values.double().sum(-1)
        summed = bool(((total <= 1.001) & (total >= 0.9)).double().mean() > 0.95)
        return "probabilities" if summed and bool((total <= 1.01).all()) else "scores"
    if bool((values <= 0).all()) and bool((values.logsumexp(-1).abs() < 0.01).all()):
        return "log-probabilities"
    return "logits"


def as_probabilities(rows: Rows) -> Rows:
    """The same predictions as P(y | image), whatever they are stored as.

    The form is told from up to 512 rows spread over the matrix, and is in ``form``.
    """
    made = copy.copy(rows)
    made.form = "as stored"
    made.form = form_of(made[sample_of(len(rows))])
    return made


def sample_of(num: int) -> np.ndarray:
    """Up to 512 row numbers spread evenly over ``num`` rows, the last one among them."""
    return np.unique(np.linspace(0, num - 1, min(num, _ROWS_FOR_FORM)).round().astype(np.int64))


def read_ahead(
    dataset: "LocationDataset", batches: Iterable[Any], *, depth: int = 2
) -> Iterator["LocationBatch"]:
    """dataset[rows] for each of ``batches``, while a thread reads the next ``depth`` of them.

    Args:
        dataset: anything with rows by index.
        batches: index tensors, one per batch; asked for ``depth`` batches early.
        depth: batches in memory beside the one in use.

    Example:
        >>> import torch
        >>> from geoenc.data import LocationDataset, read_ahead
        >>> data = LocationDataset([(0.0, 51.5), (2.35, 48.86), (139.69, 35.68)])
        >>> [len(batch.lonlat) for batch in read_ahead(data, torch.arange(3).split(2))]
        [2, 1]
    """
    if depth < 1:
        raise ValueError(f"expected a depth of at least 1, got {depth}")
    waiting: deque[Future[LocationBatch]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="geoenc-read-ahead")
    try:
        for rows in batches:
            waiting.append(reader.submit(dataset.__getitem__, rows))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)
