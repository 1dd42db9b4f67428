"""Embeddings of tables of any length, in fixed memory, that go on after an interruption.

A table is read in blocks. Each block becomes a file in ``OUT.parts/``, whole or not at all; when
all are there they become one Parquet file, and the folder goes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoenc import frames
from geoenc._files import atomic_path
from geoenc._optional import require
from geoenc._stored import (
    as_encoder,
    check_dtype,
    check_new,
    check_time,
    facts_of,
    listed,
    narrowed,
    prepare_parts,
)
from geoenc.tables import PARQUET, REASONS, Table, open_table

_FAILED = "__failed"
_ELEMENT = "embedding.list.element"


class Embedded(NamedTuple):
    """What `embed_table` did.

    Attributes:
        path: the file it wrote.
        rows: rows in it, those without an embedding included.
        failed: rows without an embedding.
        report: the file with their numbers and the reasons, or None.
    """

    path: Path
    rows: int
    failed: int
    report: Path | None


def embed_table(
    model: Any,
    source: str | os.PathLike[str] | Table,
    out: str | os.PathLike[str],
    *,
    lon: str | None = None,
    lat: str | None = None,
    time: str | None = None,
    dtype: str = "float32",
    block_rows: int = 16384,
    workers: int = 1,
    device: str | None = None,
    force: bool = False,
    progress: bool = True,
) -> Embedded:
    """Write a table with one embedding per row, q: e = q, or e = scale q with int8.

    The output is GeoParquet: the columns of the input, ``embedding`` (a list of fixed length), a
    point ``geometry`` where the input had none, and with int8 ``embedding_scale``, max |e| / 127
    of the row. A row that cannot be encoded stays, with null, and is named in ``OUT.failed.csv``.
    Called again after an interruption, it computes only the blocks that are missing; the file is
    the same to the byte.

    Args:
        model: an encoder, or a name or folder for `geoenc.from_pretrained`.
        source: Parquet, GeoParquet, CSV, GeoPackage or FlatGeobuf; or an open table.
        out: the Parquet file to write.
        lon, lat: columns of degrees; without them the geometry, or columns ``lon`` and ``lat``.
        time: a column of dates or fractions of the year, for encoders with time.
        dtype: ``"float32"``, ``"float16"`` (relative error 5e-4) or ``"int8"`` (error of a number
            at most scale / 2).
        block_rows: rows in memory, and in a row group of the output.
        workers: processes, which share the blocks.
        device: where the model runs, if not where it is.
        force: replace ``out``, and parts that other settings left.
        progress: show a bar.

    Raises:
        ValueError: unknown columns, CRS or dtype; ``out`` exists or is no Parquet; parts of other
            settings.
        FileNotFoundError: no such table or model.

    Example:
        >>> import geoenc
        >>> from geoenc.streaming import embed_table
        >>> _ = open("cities.csv", "w").write("city,lon,lat\\nParis,2.35,48.86\\nnowhere,,\\n")
        >>> encoder = geoenc.published.encoder("SINR")
        >>> done = embed_table(encoder, "cities.csv", "cities.parquet", progress=False)
        >>> done.rows, done.failed, done.report.read_text().split()
        (2, 1, ['row,reason', '1,no', 'place'])
    """
    target = Path(out)
    check_dtype(dtype)
    if target.suffix.lower() not in PARQUET:
        raise ValueError(
            f"expected the name of a Parquet file to write, {', '.join(PARQUET)}, got "
            f"{target.name!r}; rename it, and convert it afterwards if need be"
        )
    if block_rows < 1 or workers < 1:
        raise ValueError(
            f"expected block_rows and workers of at least 1, got {block_rows} and {workers}"
        )
    check_new(target, force)
    parts = target.with_name(target.name + ".parts")
    check_new(_report(target), force or parts.exists())
    table = source if isinstance(source, Table) else open_table(source, lon, lat)
    taken = {"embedding", "embedding_scale", _FAILED} & set(table.schema.names)
    if taken or (time is not None and time not in table.schema.names):
        raise ValueError(
            f"expected {'no' if taken else 'a'} column {taken.pop() if taken else time!r} in "
            f"{table.path.name!r}, got {table.schema.names}; rename it, or name another"
        )
    encoder = as_encoder(model, device)
    check_time(encoder, time is not None)
    job = _Job(table, encoder, time, dtype, block_rows, parts)
    facts = job.facts(model)
    prepare_parts(job.folder, facts, force)
    if workers == 1:
        _bar(job, progress)
    else:
        _share(job, workers, progress)
    return _assemble(job, target, facts)


class _Job(NamedTuple):
    """What to do with each block."""

    table: Table
    encoder: Any
    time: str | None
    dtype: str
    block_rows: int
    folder: Path

    def facts(self, model: Any) -> dict[str, Any]:
        """What makes two runs the same; most of it goes into the file."""
        return {
            **facts_of(model, self.encoder, self.dtype),
            "time_column": self.time,
            "_block_rows": self.block_rows,
            "_source": self.table.fingerprint(),
        }

    def part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.arrow"

    def run(self, rank: int = 0, world: int = 1, done: Callable[[int], object] = int) -> None:
        """Every ``world``-th of the blocks that are missing, from ``rank`` on."""
        import pyarrow as pa

        for number, block in enumerate(self.table.blocks(self.block_rows)):
            if number % world == rank and not self.part(number).exists():
                encoded = self.encoded(block)
                with (
                    atomic_path(self.part(number)) as path,
                    pa.OSFile(str(path), "wb") as file,
                    pa.ipc.new_file(file, encoded.schema) as writer,
                ):
                    writer.write_table(encoded)
            done(block.num_rows)

    def encoded(self, block: Any) -> Any:
        """A block with its embeddings, and why rows have none."""
        import pyarrow as pa

        failed = np.zeros(block.num_rows, dtype=np.int8)
        moment = None if self.time is None else self._moment(block, failed)
        if self.table.geometry is None:
            places = self.table.places(block, failed)
            embedding = self.encoder.embed(places, moment)
            block = self.table.with_points(block, places)
        else:
            shapes = self.table.shapes(block, failed)
            embedding = frames.embed_shapes(self.encoder, shapes, moment)
        numbers = embedding.to("cpu", torch.float32)
        failed[(failed == 0) & ~numbers.isfinite().all(1).numpy()] = REASONS.index("not finite")
        null = torch.from_numpy(failed > 0)
        numbers[null] = 0
        stored, scale = narrowed(numbers, self.dtype)
        if scale is not None:
            scales = pa.array(scale.numpy(), mask=null.numpy())
            block = block.append_column("embedding_scale", scales)
        block = block.append_column("embedding", listed(stored.numpy(), null.numpy()))
        return block.append_column(_FAILED, pa.array(failed))

    def _moment(self, block: Any, failed: NDArray[Any]) -> Tensor:
        moment = frames.year_fractions(block.column(self.time).to_pandas(), unreadable="coerce")
        failed[moment.isnan().numpy()] = REASONS.index("no time")
        return moment


def _bar(job: _Job, progress: bool) -> None:
    if not progress:
        job.run()
        return
    tqdm = require("tqdm", extra="scale").tqdm
    with tqdm(total=job.table.rows, unit=" rows", unit_scale=True, smoothing=0.1) as bar:
        job.run(done=bar.update)


def _share(job: _Job, workers: int, progress: bool) -> None:
    """The blocks over processes; the first one that fails ends them all."""
    from torch import multiprocessing

    context = multiprocessing.start_processes(
        _work, (job, workers), nprocs=workers, join=False, start_method="spawn"
    )
    tqdm = require("tqdm", extra="scale").tqdm
    with tqdm(
        total=job.table.rows, unit=" rows", unit_scale=True, smoothing=0.1, disable=not progress
    ) as bar:
        try:
            while not context.join(timeout=0.5):
                there = len(list(job.folder.glob("[0-9]*.arrow"))) * job.block_rows
                bar.update(min(there, job.table.rows or there) - bar.n)
        except multiprocessing.ProcessRaisedException as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise ValueError(f"{reason.partition(': ')[2] or reason} (in a worker)") from error
        except multiprocessing.ProcessExitedException as error:
            raise ChildProcessError(
                f"expected workers that end well, got: {error}. If memory was short, take fewer "
                "workers or block_rows; what is done is kept. In a script, call this under "
                'if __name__ == "__main__":'
            ) from error
        finally:
            for process in context.processes:
                process.terminate()


def _work(rank: int, job: _Job, workers: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    job.run(rank, workers)


def _parts(job: _Job) -> Iterator[Any]:
    import pyarrow as pa

    number = 0
    while job.part(number).exists():
        with pa.memory_map(str(job.part(number))) as file:
            yield pa.ipc.open_file(file).read_all()
        number += 1


def _report(target: Path) -> Path:
    return target.with_name(target.name + ".failed.csv")


def _assemble(job: _Job, target: Path, facts: dict[str, Any]) -> Embedded:
    """One Parquet file, a row group per part, and the list of the rows that failed."""
    import pyarrow.parquet as pq

    empty = job.encoded(job.table.schema.empty_table())
    known = {key: value for key, value in facts.items() if not key.startswith("_")}
    schema = empty.drop_columns(_FAILED).schema.with_metadata(
        {**job.table.metadata(), b"geoenc": json.dumps(known).encode()}
    )
    others = [name for name in schema.names if name != "embedding"]
    report = _report(target)
    rows = failures = 0
    with (
        atomic_path(target) as path,  # whole only after the list of what is missing in it
        atomic_path(report) as list_path,
        list_path.open("w", encoding="utf-8") as listed,
        pq.ParquetWriter(
            path,
            schema,
            compression=dict.fromkeys(others, "zstd"),
            use_dictionary=[*others, _ELEMENT] if job.dtype == "int8" else others,
            write_statistics=others,
        ) as writer,
    ):
        listed.write("row,reason\n")
        for part in _parts(job):
            codes = part.column(_FAILED).to_numpy()
            for row in np.flatnonzero(codes):
                listed.write(f"{rows + row},{REASONS[codes[row]]}\n")
            failures += int((codes > 0).sum())
            rows += len(codes)
            block = part.drop_columns(_FAILED).cast(schema)
            writer.write_table(block, row_group_size=len(codes))
    if not failures:
        report.unlink()
    shutil.rmtree(job.folder)
    return Embedded(target, rows, failures, report if failures else None)
