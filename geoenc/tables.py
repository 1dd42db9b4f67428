"""Tables of places on disk, block by block: Parquet, CSV, and what GDAL reads."""

import collections
import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoenc import frames
from geoenc._optional import require

REASONS = ("", "no place", "not degrees", "unreadable", "no time", "not finite")
"""Why a row has no embedding; a row's code is the index."""

PARQUET = (".parquet", ".geoparquet", ".pq")

_KINDS = {
    **dict.fromkeys(PARQUET, "parquet"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".gpkg", ".fgb"), "gdal"),
}
_WKB_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("place", "<f8", 2)])
_CSV_BLOCK = 2**20
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

            # read as it goes: by default a row group, perhaps the whole file, would be held
            with pq.ParquetFile(self.path, buffer_size=2**20, pre_buffer=False) as file:
                yield from file.iter_batches(rows)
        elif kind == "csv":
            with _open_csv(self.path, {one.name: one.type for one in self.schema}) as reader:
                yield from reader
        else:
            with _open_gdal(self.path, rows) as (_, reader):
                yield from reader

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
        lon, lat = (block.column(name).to_pandas() for name in (self.lon, self.lat))
        return read_degrees(lon, lat, failed)

    def shapes(self, block: Any, failed: NDArray[Any]) -> NDArray[Any]:
        """Geometries in degrees, None where ``failed`` gets a reason."""
        import geopandas as gpd
        import pyproj
        import shapely

        raw = block.column(self.geometry).to_pandas().to_numpy(dtype=object, copy=True)
        found = gpd.GeoSeries.from_wkb(
            raw, crs=pyproj.CRS.from_user_input(self.crs), on_invalid="ignore"
        )
        given = np.array([one is not None for one in raw], dtype=bool)
        unreadable = shapely.is_missing(found.to_numpy()) & given
        shapes = on_earth(frames.in_degrees(found), failed)
        failed[unreadable] = REASONS.index("unreadable")
        return shapes

    def with_points(self, block: Any, places: NDArray[Any]) -> Any:
        """A block whose degrees are numbers, with points, unless it has such a column."""
        import pyarrow as pa

        if _KINDS.get(self.path.suffix.lower()) == "csv":
            for name, numbers in zip((self.lon, self.lat), places.T, strict=True):
                filled = pa.array(numbers, mask=np.isnan(numbers))
                block = block.set_column(block.schema.get_field_index(name), name, filled)
        if self._located():
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
        given = self.schema.metadata or {}
        kept = {key: given[key] for key in (b"geo", b"pandas") if key in given}
        if b"geo" in kept or (self.geometry is None and self._located()):
            return kept
        column = {"encoding": "WKB", "geometry_types": [] if self.geometry else ["Point"]}
        if self.crs is not None:
            column["crs"] = self.crs
        name = self.geometry or "geometry"
        geo = {"version": "1.1.0", "primary_column": name, "columns": {name: column}}
        return {**kept, b"geo": json.dumps(geo).encode()}

    def _located(self) -> bool:
        """Whether there are geometries, or a column of their name, which stay as they are."""
        return "geometry" in self.schema.names or b"geo" in (self.schema.metadata or {})


def read_degrees(lon: Any, lat: Any, failed: NDArray[Any]) -> NDArray[Any]:
    """``(N, 2)`` degrees from two pandas columns, NaN where ``failed`` gets a reason."""
    import pandas as pd

    numbers = []
    for given in (lon, lat):
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


def on_earth(shapes: NDArray[Any], failed: NDArray[Any]) -> NDArray[Any]:
    """The geometries, which are changed: None where ``failed`` gets a reason."""
    import shapely

    failed[shapely.is_missing(shapes) | shapely.is_empty(shapes)] = REASONS.index("no place")
    places, index = shapely.get_coordinates(shapes, return_index=True)
    failed[index[np.isnan(places).any(1)]] = REASONS.index("no place")
    failed[index[frames.off_earth(places)]] = REASONS.index("not degrees")
    shapes[failed > 0] = None
    return shapes


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
    arrow = require("pyarrow", extra="scale")
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
    try:
        schema, rows, geometry, crs = _look(path, lon, lat)
    except arrow.ArrowInvalid as error:
        raise ValueError(
            f"expected a table in {path.name!r}, got: {error}; is it whole, and of the kind that "
            "its name says?"
        ) from error
    _check_names(path, schema.names)
    if by_name or geometry is None:
        geometry = crs = None
        if lon == lat:
            raise ValueError(f"expected two columns, got {lon!r} as both lon and lat; name another")
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
        return *_look_csv(path, lon, lat), None, None
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

    with _open_gdal(path) as (meta, reader):
        name = meta["geometry_name"] or "wkb_geometry"
        crs = meta["crs"] and pyproj.CRS.from_user_input(meta["crs"]).to_json_dict()
        return reader.schema, meta["rows"] if meta["rows"] >= 0 else None, name, crs


@contextlib.contextmanager
def _open_gdal(path: Path, rows: int = 65536) -> Iterator[Any]:
    """Facts and a reader of blocks of a vector file.

    GDAL's special reader of FlatGeobuf gives wrong places, or none, after a row without geometry
    (seen with 3.12.4); its general one is right.
    """
    from pyogrio import get_gdal_config_option, list_layers, read_info, set_gdal_config_options
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import open_arrow

    option = "OGR_FLATGEOBUF_STREAM_BASE_IMPL"
    before = get_gdal_config_option(option)
    set_gdal_config_options({option: True})
    try:
        layers = [name for name, kind in list_layers(path) if kind is not None]
        if len(layers) > 1:
            raise ValueError(
                f"expected one layer in {path.name!r}, got {', '.join(layers)}; write one to a "
                "file of its own, for instance with ogr2ogr one.gpkg FILE LAYER"
            )
        layer = layers[0] if layers else 0
        with open_arrow(path, layer=layer, batch_size=rows, use_pyarrow=True) as (meta, reader):
            yield {**meta, "rows": read_info(path, layer=layer)["features"]}, reader
    except DataSourceError as error:
        raise ValueError(f"expected a table in {path.name!r}, got: {error}") from error
    finally:
        set_gdal_config_options({option: before})


def _look_csv(path: Path, lon: str, lat: str) -> tuple[Any, int]:
    """Types that hold for every row, and the number of rows.

    Arrow settles a type by the first megabyte. Here a column is numbers only if all of it is, and
    codes such as 007, or integers beyond 64 bits, stay text. Degrees are text, so that one bad
    row costs one row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not path.stat().st_size:
        raise ValueError(f"expected a line of names in {path.name!r}, got an empty file")
    with _open_csv(path, {}) as reader:
        names = reader.schema.names
    _check_names(path, names)
    types = dict.fromkeys((lon, lat), pa.string())
    rows = 0
    with _open_csv(path, dict.fromkeys(names, pa.string())) as reader:
        for batch in reader:
            rows += batch.num_rows
            for name in set(names) - set(types):
                code = pc.match_substring_regex(batch[name], r"^\s*[+-]?(0\d+|\d{19,})\s*$")
                if any(map(_is_code, batch[name].filter(code).to_pylist())):
                    types[name] = pa.string()
    while True:
        try:
            with _open_csv(path, types) as reader:
                schema = reader.schema
                collections.deque(reader, maxlen=0)
            return schema, rows
        except pa.ArrowInvalid as error:
            found = re.match(r"In CSV column #(\d+): .*conversion error", str(error))
            if found is None:
                raise
            name = names[int(found[1])]
            wider = {pa.null(): pa.int64(), pa.int64(): pa.float64()}
            types[name] = wider.get(schema.field(name).type, pa.string())


def _is_code(text: str) -> bool:
    """Digits that would be others as a 64-bit integer."""
    digits = text.strip().lstrip("+-")
    return digits.startswith("0") or int(digits) >= 2**63


def _open_csv(path: Path, types: dict[str, Any]) -> Any:
    """A reader of blocks."""
    import pyarrow as pa
    import pyarrow.csv as csv

    try:
        return csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=csv.ParseOptions(
                delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
            ),
            convert_options=csv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise ValueError(
                f"expected text in UTF-8 in {path.name!r}, got another encoding; convert it, for "
                "instance with iconv -f latin1 -t utf8"
            ) from error
        raise


def _check_names(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"expected columns of different names in {path.name!r}, got {', '.join(twice)} more "
            "than once; rename them"
        )
