"""Tables of places on disk, block by block: Parquet, CSV, and what GDAL reads."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoenc import frames
from geoenc._optional import require

REASONS = ("", "no place", "not degrees", "unreadable", "no time", "not finite")
"""Why a row has no embedding; a row's code is the index."""

_KINDS = {
    **dict.fromkeys((".parquet", ".geoparquet", ".pq"), "parquet"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".gpkg", ".fgb"), "gdal"),
}
_WKB_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("place", "<f8", 2)])
_NOTHING = ("", "na", "n/a", "nan", "null", "none")


class Table(NamedTuple):
    """A table on disk; `open_table` makes it.

    Attributes:
        path: where it is.
        schema: Arrow's names and types of the columns.
        rows: how many, or None if nobody knows before the end.
        geometry: the column of WKB geometries, or None.
        crs: of the geometries, as PROJJSON.
        lon, lat: columns of degrees, where there is no geometry.
    """

    path: Path
    schema: Any
    rows: int | None
    geometry: str | None
    crs: Any
    lon: str
    lat: str

    def blocks(self, rows: int) -> Iterator[Any]:
        """Arrow tables of ``rows`` rows; the last may be shorter."""
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
                    yield pa.Table.from_batches(held)
                    held, count = [], 0
        if held:
            yield pa.Table.from_batches(held)

    def _batches(self, rows: int) -> Iterator[Any]:
        kind = _KINDS[self.path.suffix.lower()]
        if kind == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(rows)
        elif kind == "csv":
            with _open_csv(self.path, self.lon, self.lat) as reader:
                yield from reader
        else:
            from pyogrio.raw import open_arrow

            with open_arrow(self.path, batch_size=rows, use_pyarrow=True) as (_, reader):
                yield from map(self._without_empty, reader)

    def _without_empty(self, batch: Any) -> Any:
        """Null where GDAL gives no bytes for no geometry."""
        import pyarrow.compute as pc

        if self.geometry is None:
            return batch
        column = batch.schema.get_field_index(self.geometry)
        given = batch.column(column)
        kept = pc.if_else(pc.equal(pc.binary_length(given), 0), None, given)
        return batch.set_column(column, batch.schema.field(column), kept)

    def fingerprint(self) -> dict[str, Any]:
        """What changes when the table or the way to read it does."""
        state = self.path.stat()
        columns = [self.geometry] if self.geometry else [self.lon, self.lat]
        return {
            "path": str(self.path.resolve()),
            "bytes": state.st_size,
            "changed": state.st_mtime_ns,
            "columns": columns,
        }

    def places(self, block: Any, failed: NDArray[Any]) -> NDArray[Any]:
        """``(N, 2)`` degrees from two columns, NaN where ``failed`` gets a reason."""
        import pandas as pd

        numbers = []
        for name in (self.lon, self.lat):
            given = block.column(name).to_pandas()
            if not pd.api.types.is_numeric_dtype(given):
                given = given.astype("string").str.strip()
                given = given.mask(given.str.lower().isin(_NOTHING))
            read = pd.to_numeric(given, errors="coerce")
            number = read.to_numpy(dtype=np.float64, na_value=np.nan)
            failed[np.isnan(number)] = REASONS.index("no place")
            numbers.append((number, given.notna().to_numpy() & np.isnan(number)))
        places = np.stack([number for number, _ in numbers], -1)
        failed[numbers[0][1] | numbers[1][1]] = REASONS.index("unreadable")
        failed[frames.off_earth(places)] = REASONS.index("not degrees")
        places[failed > 0] = np.nan
        return places

    def shapes(self, block: Any, failed: NDArray[Any]) -> NDArray[Any]:
        """Geometries in degrees, None where ``failed`` gets a reason."""
        import geopandas as gpd
        import pyproj
        import shapely

        raw = block.column(self.geometry).to_pandas().to_numpy(dtype=object, copy=True)
        found = gpd.GeoSeries.from_wkb(
            raw, crs=pyproj.CRS.from_user_input(self.crs), on_invalid="ignore"
        )
        shapes = frames.in_degrees(found)
        empty = shapely.is_missing(shapes) | shapely.is_empty(shapes)
        failed[empty] = REASONS.index("no place")
        given = np.array([one is not None for one in raw], dtype=bool)
        failed[shapely.is_missing(shapes) & given] = REASONS.index("unreadable")
        places, index = shapely.get_coordinates(shapes, return_index=True)
        failed[index[np.isnan(places).any(1)]] = REASONS.index("no place")
        failed[index[frames.off_earth(places)]] = REASONS.index("not degrees")
        shapes[failed > 0] = None
        return shapes

    def with_points(self, block: Any, places: NDArray[Any]) -> Any:
        """A block whose degrees are numbers, with points, unless it has such a column."""
        import pyarrow as pa

        for name, numbers in zip((self.lon, self.lat), places.T, strict=True):
            column = block.schema.get_field_index(name)
            if pa.types.is_string(block.schema.field(column).type):
                filled = pa.array(numbers, mask=np.isnan(numbers))
                block = block.set_column(column, name, filled)
        if "geometry" in block.schema.names:
            return block
        wkb = np.zeros(len(places), dtype=_WKB_POINT)
        wkb["order"], wkb["kind"], wkb["place"] = 1, 1, places
        there = pa.array(~np.isnan(places).any(1)).buffers()[1]
        points = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(_WKB_POINT.itemsize), len(places), [there, pa.py_buffer(wkb.tobytes())]
        )
        return block.append_column("geometry", points.cast(pa.binary()))

    def metadata(self) -> dict[bytes, bytes]:
        """What makes the output GeoParquet."""
        kept = self.schema.metadata or {}
        if self.geometry and b"geo" in kept:
            return {b"geo": kept[b"geo"]}
        if self.geometry is None and "geometry" in self.schema.names:
            return {}
        column = {"encoding": "WKB", "geometry_types": [] if self.geometry else ["Point"]}
        if self.crs is not None:
            column["crs"] = self.crs
        name = self.geometry or "geometry"
        geo = {"version": "1.1.0", "primary_column": name, "columns": {name: column}}
        return {b"geo": json.dumps(geo).encode()}


def open_table(
    source: str | os.PathLike[str], lon: str | None = None, lat: str | None = None
) -> Table:
    """Look at a table: its columns, and where its places are.

    Args:
        source: ``.parquet``, ``.csv``, ``.tsv``, ``.gpkg`` or ``.fgb``.
        lon, lat: columns of degrees; without them its geometry, or columns ``lon`` and ``lat``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, no such column, no CRS.
        ImportError: the extra ``scale`` is not installed.

    Example:
        >>> from geoenc.tables import open_table
        >>> _ = open("cities.csv", "w").write("city,x,y\\nParis,2.35,48.86\\n")
        >>> open_table("cities.csv", "x", "y").schema.names
        ['city', 'x', 'y']
    """
    require("pyarrow", extra="scale")
    path = Path(source)
    if path.suffix.lower() not in _KINDS:
        raise ValueError(
            f"expected a table {', '.join(_KINDS)}, got {path.name!r}; convert it, for instance "
            "with geopandas.read_file and to_parquet"
        )
    if not path.is_file():
        raise FileNotFoundError(f"expected a table, got {str(source)!r}, which is no file")
    by_name = lon is not None or lat is not None
    lon, lat = lon or "lon", lat or "lat"
    schema, rows, geometry, crs = _look(path, lon, lat)
    if by_name or geometry is None:
        geometry = crs = None
        absent = [name for name in (lon, lat) if name not in schema.names]
        if absent:
            raise ValueError(
                f"expected columns {lon!r} and {lat!r} in {path.name!r}, got {schema.names}; name "
                "the columns of longitude and latitude with lon= and lat= (--lon, --lat)"
            )
    elif crs is None:
        raise ValueError(
            f"expected geometries with a known CRS in {path.name!r}, got none; write the file "
            'again after frame.set_crs("EPSG:4326") if they are degrees'
        )
    return Table(path, schema, rows, geometry, crs, lon, lat)


def _look(path: Path, lon: str, lat: str) -> tuple[Any, int | None, str | None, Any]:
    """Schema, rows, column of geometries and its CRS."""
    kind = _KINDS[path.suffix.lower()]
    if kind == "csv":
        with _open_csv(path, lon, lat) as reader:
            return reader.schema, None, None, None
    if kind == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        geo = json.loads((schema.metadata or {}).get(b"geo", b"null"))
        if geo is None:
            return schema, rows, None, None
        column = geo["columns"][geo["primary_column"]]
        if column["encoding"] != "WKB":
            raise ValueError(
                f"expected geometries as WKB in {path.name!r}, got {column['encoding']}; write the "
                'file again with to_parquet(geometry_encoding="WKB")'
            )
        return schema, rows, geo["primary_column"], column.get("crs", "OGC:CRS84")
    import pyproj
    from pyogrio import read_info
    from pyogrio.raw import open_arrow

    with open_arrow(path, use_pyarrow=True) as (meta, reader):
        name = meta["geometry_name"] or "wkb_geometry"
        crs = meta["crs"] and pyproj.CRS.from_user_input(meta["crs"]).to_json_dict()
        rows = read_info(path)["features"]
        return reader.schema, rows if rows >= 0 else None, name, crs


def _open_csv(path: Path, lon: str, lat: str) -> Any:
    """A reader of blocks. Degrees are read as text, so that one bad row costs one row."""
    import pyarrow as pa
    import pyarrow.csv as csv

    return csv.open_csv(
        path,
        parse_options=csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ","),
        convert_options=csv.ConvertOptions(column_types={lon: pa.string(), lat: pa.string()}),
    )
