"""Embeddings of tables of any length, in fixed memory, that go on after an interruption.

A table is read in blocks. Each block becomes a file in ``OUT.parts/``, whole or not at all; when
all are there they become one Parquet file, and the folder goes.
"""

import hashlib
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

from geoenc import frames, hub
from geoenc._files import atomic_path, write_text
from geoenc._optional import require
from geoenc.pretrained import COORDINATES
from geoenc.tables import REASONS, Table, open_table

DTYPES = ("float32", "float16", "int8")
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
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    lon: str | None = None,
    lat: str | None = None,
    time: str | None = None,
    dtype: str = "float32",
    block_rows: int = 16384,
    workers: int = 1,
    device: str = "cpu",
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
        source: Parquet, GeoParquet, CSV, GeoPackage or FlatGeobuf.
        out: the Parquet file to write.
        lon, lat: columns of degrees; without them the geometry, or columns ``lon`` and ``lat``.
        time: a column of dates or fractions of the year, for encoders with time.
        dtype: ``"float32"``, ``"float16"`` (relative error 5e-4) or ``"int8"`` (error of a number
            at most scale / 2).
        block_rows: rows in memory, and in a row group of the output.
        workers: processes, which share the blocks.
        device: where the model runs.
        force: replace ``out``, and parts that other settings left.
        progress: show a bar.

    Raises:
        ValueError: unknown columns, CRS or dtype; ``out`` exists; parts of other settings.
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
    if dtype not in DTYPES:
        raise ValueError(f"expected dtype {', '.join(DTYPES)}, got {dtype!r}")
    if block_rows < 1 or workers < 1:
        raise ValueError(
            f"expected block_rows and workers of at least 1, got {block_rows} and {workers}"
        )
    if target.exists() and not force:
        raise ValueError(
            f"expected a new file, got {str(out)!r}, which exists; choose another, or pass "
            "force=True (--force) to replace it"
        )
    table = open_table(source, lon, lat)
    taken = {"embedding", "embedding_scale", _FAILED} & set(table.schema.names)
    if taken or (time is not None and time not in table.schema.names):
        raise ValueError(
            f"expected {'no' if taken else 'a'} column {taken.pop() if taken else time!r} in "
            f"{table.path.name!r}, got {table.schema.names}; rename it, or name another"
        )
    name = str(model) if isinstance(model, str | os.PathLike) else type(model).__name__
    encoder = _encoder(model).to(device)
    job = _Job(table, encoder, time, dtype, block_rows, target.with_name(target.name + ".parts"))
    facts = job.facts(name)
    _prepare(job.folder, facts, force)
    if workers == 1:
        _bar(job, progress)
    else:
        _share(job, workers, progress)
    return _assemble(job, target, facts)


def _encoder(model: Any) -> Any:
    if isinstance(model, str | os.PathLike):
        model = hub.from_pretrained(model)
    for part in ("encoder", "location"):  # of a classifier, of a dual encoder
        if not hasattr(model, "embed") and hasattr(model, part):
            model = getattr(model, part)
    if not hasattr(model, "embed"):
        raise TypeError(
            f"expected a model that embeds places, got {type(model).__name__}; give a "
            "LocationEncoder, or a model with one"
        )
    return model.eval()


class _Job(NamedTuple):
    """What to do with each block."""

    table: Table
    encoder: Any
    time: str | None
    dtype: str
    block_rows: int
    folder: Path

    def facts(self, name: str) -> dict[str, Any]:
        """What makes two runs the same; most of it goes into the file."""
        from geoenc import __version__

        digest = hashlib.sha256(json.dumps(self.encoder.config, sort_keys=True).encode())
        for key, value in sorted(self.encoder.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        scaled = {"scale": "e = embedding * embedding_scale"} if self.dtype == "int8" else {}
        return {
            "geoenc_version": __version__,
            "model": name,
            "model_config": self.encoder.config,
            "model_sha256": digest.hexdigest(),
            "model_metadata": self.encoder.metadata,
            "coordinates": COORDINATES,
            "dtype": self.dtype,
            "dimensions": self.encoder.out_features,
            **scaled,
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
        if self.dtype == "int8":
            scale = numbers.abs().amax(1) / 127
            numbers /= torch.where(scale > 0, scale, 1)[:, None]
            scales = pa.array(scale.numpy(), mask=null.numpy())
            block = block.append_column("embedding_scale", scales)
            numbers.round_()
        stored = numbers.to(getattr(torch, self.dtype))
        if self.dtype == "float16" and stored.isinf().any():
            raise ValueError(
                f"expected embeddings within 65504 for float16, got {numbers.abs().max():g}; "
                "choose float32 or int8"
            )
        lists = pa.FixedSizeListArray.from_arrays(
            pa.array(stored.numpy().reshape(-1)), stored.shape[1], mask=pa.array(null.numpy())
        )
        block = block.append_column("embedding", lists)
        return block.append_column(_FAILED, pa.array(failed))

    def _moment(self, block: Any, failed: NDArray[Any]) -> Tensor:
        moment = frames.year_fractions(block.column(self.time).to_pandas(), unreadable="coerce")
        failed[moment.isnan().numpy()] = REASONS.index("no time")
        return moment


def _prepare(folder: Path, facts: dict[str, Any], force: bool) -> None:
    """The folder of parts, with nothing in it that other settings made."""
    settings = folder / "settings.json"
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    if folder.exists():
        same = settings.is_file() and settings.read_text(encoding="utf-8") == text
        if not same and not force:
            raise ValueError(
                f"expected parts of this run in {str(folder)!r}, got those of another table, model "
                "or setting; go on with that run, delete the folder, or pass force=True (--force)"
            )
        if not same:
            shutil.rmtree(folder)
    write_text(settings, text)


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


def _assemble(job: _Job, target: Path, facts: dict[str, Any]) -> Embedded:
    """One Parquet file, a row group per part, and the list of the rows that failed."""
    import pyarrow.parquet as pq

    empty = job.encoded(job.table.schema.empty_table())
    known = {key: value for key, value in facts.items() if not key.startswith("_")}
    schema = empty.drop_columns(_FAILED).schema.with_metadata(
        {**job.table.metadata(), b"geoenc": json.dumps(known).encode()}
    )
    others = [name for name in schema.names if name != "embedding"]
    report = target.with_name(target.name + ".failed.csv")
    rows = failures = 0
    with (
        atomic_path(report) as list_path,
        atomic_path(target) as path,
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
