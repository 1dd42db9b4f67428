"""``geoenc embed``: a table of places, or a grid of the globe."""

from argparse import ArgumentParser
from typing import Any

from geoenc.cli.output import print_json

HELP = "one embedding per row of a table, or per cell of a grid of the globe"
DESCRIPTION = (
    "Reads Parquet, CSV, GeoPackage or FlatGeobuf and writes GeoParquet; or, with --grid, writes "
    "the globe as Zarr or GeoTIFF, or as H3 cells in GeoParquet. The same command goes on after "
    "an interruption, except for GeoTIFF."
)
EXAMPLES = """\
  geoenc embed points.parquet --model models/satclip --out emb.parquet     millions of places
  geoenc embed sites.csv --model models/satclip --out emb.parquet --lon x --lat y
  geoenc embed --grid 0.5 --model models/satclip --out globe.zarr     cells of half a degree
  geoenc embed --grid h3:4 --land --model models/satclip --out cells.parquet
"""
RESUMES = True


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("table", metavar="TABLE", nargs="?", help="the places")
    command.add_argument("--grid", help="no table: degrees of a cell (0.5), or h3:RESOLUTION")
    command.add_argument(
        "--land", action="store_true", default=None, help="of a grid, only cells on land"
    )
    command.add_argument(
        "--model", required=True, metavar="MODEL", help="a folder or name (geoenc list pretrained)"
    )
    command.add_argument("--out", required=True, metavar="FILE", help="what to write")
    command.add_argument("--lon", metavar="COLUMN", help="longitude in degrees (the geometry, lon)")
    command.add_argument("--lat", metavar="COLUMN", help="latitude in degrees (the geometry, lat)")
    command.add_argument(
        "--time",
        metavar="COLUMN",
        help="dates, or fractions of the year; of a grid, one such date or number",
    )
    dtypes = ("float32", "float16", "int8")
    command.add_argument("--dtype", choices=dtypes, default="float32", help="of the embedding")
    command.add_argument("--block-rows", type=int, metavar="N", help="rows in memory (16384)")
    command.add_argument("--workers", type=int, metavar="N", help="processes (1)")
    command.add_argument("--device", help="where the model runs (cpu)")
    command.add_argument("--force", action="store_true", help="replace FILE")
    command.add_argument("--json", action="store_true", help="what was done, as JSON")


def run(options: Any) -> int:
    """``geoenc embed``: one embedding per row or cell, in fixed memory."""
    if (options.table is None) == (options.grid is None):
        raise ValueError("expected a TABLE or --grid, got both or neither; give one of them")
    if options.table is not None:
        from geoenc.streaming import embed_table

        given = _given(options, "a table", "lon", "lat", "block_rows", "workers")
        return _say(options, embed_table(options.model, options.table, options.out, **given))
    from geoenc import grids

    kind, _, size = options.grid.rpartition(":")
    if kind == "h3" and size.isdecimal():
        given = _given(options, "cells of H3", "land", "block_rows", "workers")
        return _say(
            options, grids.embed_cells(options.model, options.out, resolution=int(size), **given)
        )
    given = _given(options, "a grid in degrees", "land")
    try:
        degrees = float(options.grid)
    except ValueError:
        raise ValueError(
            f"expected --grid in degrees, such as 0.5, or h3:4, got {options.grid!r}"
        ) from None
    grid = grids.embed_grid(options.model, options.out, degrees=degrees, **given)
    if options.json:
        print_json({**grid._asdict(), "dtype": options.dtype})
    else:
        print(f"{grid.height:,} x {grid.width:,} cells of {degrees:g} degrees: {grid.path}")
    return 0


def _given(options: Any, what: str, *names: str) -> dict[str, Any]:
    """The options that were given; an error names those that mean nothing here."""
    every = ("lon", "lat", "block_rows", "workers", "land")
    given = {name: getattr(options, name) for name in every if getattr(options, name) is not None}
    idle = [f"--{name.replace('_', '-')}" for name in given if name not in names]
    if idle:
        raise ValueError(f"expected no {' and no '.join(idle)} with {what}; leave it out")
    common = {name: getattr(options, name) for name in ("time", "dtype", "device", "force")}
    return {**given, **common}


def _say(options: Any, done: Any) -> int:
    if options.json:
        print_json({**done._asdict(), "dtype": options.dtype})
        return 0
    print(f"{done.rows:,} rows: {done.path}")
    if done.report:
        print(f"{done.failed:,} rows without an embedding, numbered from 0: {done.report}")
    return 0
