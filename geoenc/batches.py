"""One callable for the batches of every engine: pandas, Dask, Ray, Arrow."""

import functools
import os
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoenc import frames
from geoenc._stored import DTYPES, as_encoder, check_dtype, listed, narrowed
from geoenc.pretrained import WEIGHTS
from geoenc.tables import REASONS, on_earth, read_degrees

_LOADING = threading.Lock()


class Embedder:
    """f(batch) = batch with its embeddings: one callable for pandas, Dask, Ray and Arrow.

    A frame gets columns ``emb_0``, ``emb_1``, ...; a dictionary of arrays, or an Arrow table, one
    column ``embedding``. Rows that cannot be encoded get NaN, in Arrow null; a warning counts
    those that are no degrees. It can be pickled; each process loads a named model once.

    Args:
        model: an encoder; or a name or folder for `geoenc.from_pretrained`, which travels lighter.
        lon, lat: columns of degrees; without them the geometries, or columns ``lon`` and ``lat``.
        time: a column of dates or fractions of the year, for encoders with time.
        dtype: ``"float32"`` or ``"float16"``.
        device: where the model runs, if not where it is.

    Raises:
        ValueError: no such column, no CRS, columns that are there already.
        TypeError: a batch of another kind.

    Example:
        >>> import geoenc, pandas
        >>> from geoenc.batches import Embedder
        >>> embedder = Embedder(geoenc.published.encoder("SINR"), lon="x", lat="y")
        >>> frame = pandas.DataFrame({"city": ["Paris"], "x": [2.35], "y": [48.86]})
        >>> embedder(frame).shape
        (1, 259)
        >>> embedder({"x": [2.35], "y": [48.86]})["embedding"].shape
        (1, 256)
    """

    def __init__(
        self,
        model: Any,
        *,
        lon: str | None = None,
        lat: str | None = None,
        time: str | None = None,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        check_dtype(dtype, DTYPES[:2])
        self.model, self.lon, self.lat, self.time = model, lon, lat, time
        self.dtype, self.device = dtype, device
        named = isinstance(model, str | os.PathLike)
        self._source = os.path.abspath(model) if named and os.path.exists(model) else model

    def __call__(self, batch: Any) -> Any:
        """The batch with embeddings; the batch itself is not changed."""
        import pandas as pd

        if isinstance(batch, pd.DataFrame):
            numbers = self._numbers(batch)
            names = [f"emb_{column}" for column in range(numbers.shape[1])]
            _check_absent(names, batch.columns)
            return pd.concat([batch, pd.DataFrame(numbers, batch.index, names)], axis=1)
        names = [*self._places(), *([] if self.time is None else [self.time])]
        if isinstance(batch, dict):
            _check_absent(["embedding"], batch)
            frame = pd.DataFrame({name: batch[name] for name in names if name in batch})
            return {**batch, "embedding": self._numbers(frame)}
        if not hasattr(batch, "column_names"):
            raise TypeError(
                f"expected a frame, a dictionary of arrays or an Arrow table, got "
                f"{type(batch).__name__}; convert the batch first"
            )
        _check_absent(["embedding"], batch.column_names)
        numbers = self._numbers(
            batch.select([name for name in names if name in batch.column_names]).to_pandas()
        )
        lists = listed(numbers, np.isnan(numbers).any(1))
        return batch.append_column("embedding", lists)

    def _places(self) -> tuple[str, str]:
        return ("lon" if self.lon is None else self.lon, "lat" if self.lat is None else self.lat)

    def _numbers(self, frame: Any) -> NDArray[Any]:
        encoder, failed = self._encoder(), np.zeros(len(frame), dtype=np.int8)
        moment = None
        if self.time is not None:
            column = frames.column_of(frame, self.time, "time")
            moment = frames.year_fractions(column, unreadable="coerce")
        if self.lon is not None or self.lat is not None or not hasattr(frame, "to_crs"):
            pairs = zip(self._places(), ("lon", "lat"), strict=True)
            lon, lat = (frames.column_of(frame, name, role) for name, role in pairs)
            numbers = encoder.embed(read_degrees(lon, lat, failed), moment)
        else:
            shapes = on_earth(frames.in_degrees(frame), failed)
            numbers = frames.embed_shapes(encoder, shapes, moment)
        wrong = np.flatnonzero(failed > REASONS.index("no place"))
        if len(wrong):
            warnings.warn(
                f"expected places in degrees, got {len(wrong)} of {len(frame)} rows that are none, "
                f"the first at {frame.index[wrong[0]]!r} ({REASONS[failed[wrong[0]]]}); they "
                "become NaN",
                stacklevel=3,
            )
        numbers = numbers.to("cpu", torch.float32)
        numbers = numbers.masked_fill(~numbers.isfinite().all(1, keepdim=True), torch.nan)
        stored: NDArray[Any] = narrowed(numbers, self.dtype)[0].numpy()
        return stored

    def _encoder(self) -> Any:
        if not isinstance(self._source, str | os.PathLike):
            return as_encoder(self._source, self.device)
        weights = Path(self._source) / WEIGHTS
        stamp = weights.stat().st_mtime_ns if weights.is_file() else None
        with _LOADING:
            return _loaded(str(self._source), self.device, stamp)


@functools.lru_cache(maxsize=4)
def _loaded(name: str, device: str | None, stamp: int | None) -> Any:
    """A model of this process; another ``stamp`` is another file."""
    return as_encoder(name, device)


def _check_absent(names: Iterable[str], there: Iterable[str]) -> None:
    taken = sorted(set(names) & set(there))
    if taken:
        raise ValueError(f"expected no column {taken[0]!r}, got one; rename or drop it first")
