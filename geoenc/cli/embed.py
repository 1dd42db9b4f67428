"""``geoenc embed``: a table of places."""

from argparse import ArgumentParser
from typing import Any

HELP = "one embedding per row of a table of places"
DESCRIPTION = (
    "Reads Parquet, CSV, GeoPackage or FlatGeobuf; writes GeoParquet. The same "
    "command goes on after an interruption."
)
EXAMPLES = """\
  geoenc embed points.parquet --model models/satclip --out emb.parquet     millions of places
  geoenc embed sites.csv --model models/satclip --out emb.parquet --lon x --lat y
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("table", metavar="TABLE", help="the places")
    command.add_argument("--model", required=True, help="a folder or name (geoenc list pretrained)")
    command.add_argument("--out", required=True, metavar="FILE", help="Parquet file to write")
    command.add_argument("--lon", metavar="COLUMN", help="longitude in degrees (the geometry, lon)")
    command.add_argument("--lat", metavar="COLUMN", help="latitude in degrees (the geometry, lat)")
    command.add_argument("--time", metavar="COLUMN", help="dates, or fractions of the year")
    dtypes = ("float32", "float16", "int8")
    command.add_argument("--dtype", choices=dtypes, default="float32", help="of the embedding")
    command.add_argument("--block-rows", type=int, default=16384, help="rows in memory (16384)")
    command.add_argument("--workers", type=int, default=1, help="processes (1)")
    command.add_argument("--device", default="cpu", help="where the model runs (cpu)")
    command.add_argument("--force", action="store_true", help="replace FILE")


def run(options: Any) -> int:
    """``geoenc embed``: one embedding per row of a table, in fixed memory."""
    from geoenc.streaming import embed_table

    columns = {"lon": options.lon, "lat": options.lat, "time": options.time}
    sizes = {"dtype": options.dtype, "block_rows": options.block_rows, "workers": options.workers}
    done = embed_table(
        options.model,
        options.table,
        options.out,
        **columns,
        **sizes,
        device=options.device,
        force=options.force,
    )
    print(f"{done.rows:,} rows: {done.path}")
    if done.report:
        print(f"{done.failed:,} rows without an embedding, numbered from 0: {done.report}")
    return 0
