"""Tables of places on disk, in blocks: Parquet, CSV, and what GDAL reads."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoenc import frames
from geoenc._optional import require

_PARQUET = (".parquet", ".geoparquet", ".pq")
_CSV = (".csv", ".tsv", ".txt")
_GDAL = (".gpkg", ".fgb")
_OURS = ("embedding", "embedding_scale", "__failed")


class Table(NamedTuple):
    """A table on disk.

    Attributes:
        path: where it is.
        schema: Arrow's names and types of the columns, as `blocks` gives them.
        rows: how many, or None if nobody knows before the end.
        geometry: column of WKB geometries, or None.
        crs: of the geometries, PROJJSON; None where columns give degrees.
        lon, lat: columns of degrees, where there is no geometry.
    """

    path: Path
    schema: Any
    rows: int | None
    geometry: str | None
    crs: dict[str, Any] | None
    lon: str
    lat: str

    def blocks(self, rows: int) -> Iterator[Any]:
        """The table in pieces of ``rows`` rows; the last may be shorter."""
        import pyarrow as pa

        held: list[Any] = []
        count = 0
        for batch in self._batches(rows):
            while batch.num_rows:
                piece = batch.slice(0, rows - count)
                batch = batch.slice(piece.num_rows)
                held.append(piece)
                count += piece.num_rows
                if count == rows:
                    yield self._plain(pa.Table.from_batches(held))
                    held, count = [], 0
        if held:
            yield self._plain(pa.Table.from_batches(held))

    def _batches(self, rows: int) -> Iterator[Any]:
        kind = self.path.suffix.lower()
        if kind in _PARQUET:
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(rows)
        elif kind in _CSV:
            with _open_csv(self.path, (self.lon, self.lat)) as file:
                yield from file
        else:
            from pyogrio.raw import open_arrow

            with open_arrow(self.path, batch_size=rows, use_pyarrow=True) as (_, reader):
                yield from reader

    def _plain(self, block: Any) -> Any:
        return block.cast(self.schema) if block.schema.equals(self.schema) else self._read(block)

    def _read(self, block: Any) -> Any:
        """Degrees of a CSV, read as text: what is no number becomes null here."""
        return block
