"""Embeddings of the whole globe: a grid of longitudes and latitudes, or the cells of H3.

A grid is written block by block, so that memory does not grow with it.
"""

import functools
import json
import math
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
from geoenc._files import append_line, atomic_path
from geoenc._optional import require
from geoenc._stored import (
    as_encoder,
    check_dtype,
    check_new,
    check_time,
    facts_of,
    narrowed,
    prepare_parts,
)
from geoenc.data.globe import countries
from geoenc.sampling import lattice
from geoenc.streaming import Embedded, embed_table
from geoenc.tables import Table

_BLOCK_BYTES = 2**22
_WIDEST_BLOCK = 512
_NAME = "grid.zarr"


class Grid(NamedTuple):
    """What `embed_grid` did.

    Attributes:
        path: what it wrote.
        height, width: cells from north to south, and from west to east.
        dimensions: numbers per cell.
    """

    path: Path
    height: int
    width: int
    dimensions: int


def embed_grid(
    model: Any,
    out: str | os.PathLike[str],
    *,
    degrees: float,
    time: float | str | None = None,
    dtype: str = "float32",
    land: bool = False,
    device: str | None = None,
    force: bool = False,
    progress: bool = True,
) -> Grid:
    """Write a map of the globe, e(i, j) = e(lon_j, lat_i) at the centres of its cells.

    lon_j = -180 + (j + 1/2) degrees, lat_i = 90 - (i + 1/2) degrees: north first, west first.
    Zarr (version 3) holds ``embedding`` (lat, lon, dimension) with its coordinates, as xarray
    reads it, and with int8 ``embedding_scale`` (lat, lon): e = embedding * embedding_scale.
    After an interruption only the missing blocks are computed. GeoTIFF holds a band for each
    dimension, and appears whole or not at all.

    Args:
        model: an encoder, or a name or folder for `geoenc.from_pretrained`.
        out: ``.zarr``, ``.tif`` or ``.tiff``.
        degrees: side of a cell; it must divide 180.
        time: for encoders with time: a date, or a fraction of the year.
        dtype: ``"float32"``; in Zarr also ``"float16"`` and ``"int8"``.
        land: only cells whose centre lies on land (Natural Earth, 1:110 million); NaN elsewhere.
        device: where the model runs, if not where it is.
        force: replace ``out``, and parts that other settings left.
        progress: show a bar.

    Raises:
        ValueError: cells that do not divide the globe, another kind of file, ``out`` exists.
        ImportError: the extra ``grids`` is not installed.

    Example:
        >>> import geoenc, zarr
        >>> from geoenc.grids import embed_grid
        >>> encoder = geoenc.published.encoder("SINR")
        >>> embed_grid(encoder, "globe.zarr", degrees=30, progress=False)[1:]
        (6, 12, 256)
        >>> zarr.open_group("globe.zarr")["embedding"].metadata.dimension_names
        ('lat', 'lon', 'dimension')
    """
    target = Path(out)
    kinds = {".zarr": _write_zarr, ".tif": _write_tiff, ".tiff": _write_tiff}
    write = kinds.get(target.suffix.lower())
    if write is None:
        raise ValueError(f"expected .zarr or .tif, got {target.name!r}; rename the output")
    if write is _write_zarr:
        require("zarr", extra="grids")
        check_dtype(dtype)
    else:
        require("rasterio", extra="grids")
        if dtype != "float32":
            raise ValueError(
                f"expected dtype float32 for GeoTIFF, whose readers know no other, got {dtype!r}; "
                "choose float32, or write Zarr"
            )
    check_new(target, force)
    _check_replaceable(target, write is _write_zarr)
    height = _rows(degrees)
    encoder = as_encoder(model, device)
    check_time(encoder, time is not None)
    facts = {**facts_of(model, encoder, dtype), "degrees": degrees, "time": time, "land": land}
    layout = _Layout(height, 2 * height, encoder.out_features, dtype)
    moment = None if time is None else _moment(time)
    job = _Job(layout, functools.partial(_embedding, encoder, layout, moment, land), facts)
    write(job, target, force, progress)
    return Grid(target, layout.height, layout.width, layout.dimensions)


def embed_cells(
    model: Any,
    out: str | os.PathLike[str],
    *,
    resolution: int,
    time: float | str | None = None,
    land: bool = False,
    **options: Any,
) -> Embedded:
    """Write a table with e at the centre of every cell of H3, a hexagonal grid of the globe.

    GeoParquet with ``h3`` (the cell, as text), ``lon``, ``lat``, ``embedding`` and ``geometry``.
    There are 2 + 120 * 7^resolution cells; resolution 4, with 288,122, is about 45 km across.

    Args:
        model: an encoder, or a name or folder for `geoenc.from_pretrained`.
        out: the Parquet file to write.
        resolution: 0 to 15.
        time: for encoders with time: a date, or a fraction of the year.
        land: only cells whose centre lies on land.
        options: those of `geoenc.streaming.embed_table`: dtype, workers, force and so on.

    Raises:
        ValueError: no such resolution, ``out`` exists.
        ImportError: the extra ``grids`` or ``scale`` is not installed.

    Example:
        >>> import geoenc
        >>> from geoenc.grids import embed_cells
        >>> encoder = geoenc.published.encoder("SINR")
        >>> embed_cells(encoder, "cells.parquet", resolution=0, progress=False).rows
        122
    """
    require("h3", extra="grids")
    arrow = require("pyarrow", extra="scale")
    if resolution not in range(16):
        raise ValueError(f"expected an H3 resolution from 0 to 15, got {resolution}; 4 is usual")
    names = {"h3": arrow.string(), "lon": arrow.float64(), "lat": arrow.float64()}
    moment = None
    if time is not None:
        names["time"], moment = arrow.float64(), float(_moment(time))
    rows = None if land else 2 + 120 * 7**resolution
    path = Path(f"h3:{resolution}")
    table = _Cells(path, arrow.schema(names), rows, None, None, "lon", "lat")
    table.resolution, table.moment, table.land = resolution, moment, land
    return embed_table(model, table, out, time=None if time is None else "time", **options)


class _Cells(Table):
    """The cells of a resolution as a table."""

    resolution: int
    moment: float | None
    land: bool

    def _batches(self, rows: int) -> Iterator[Any]:
        import h3
        import pyarrow as pa

        coarse = max(0, self.resolution - 5)  # so that 16,807 cells at most are held
        for base in sorted(h3.get_res0_cells()):
            for parent in h3.cell_to_children(base, coarse):
                cells = h3.cell_to_children(parent, self.resolution)
                places = np.array([h3.cell_to_latlng(cell) for cell in cells])[:, ::-1]
                kept = on_land(places) if self.land else np.ones(len(places), dtype=bool)
                columns = [pa.array(np.array(cells)[kept]), *map(pa.array, places[kept].T)]
                if self.moment is not None:
                    columns.append(pa.array(np.full(kept.sum(), self.moment)))
                yield pa.record_batch(columns, schema=self.schema)

    def fingerprint(self) -> dict[str, Any]:
        return {"h3": self.resolution, "moment": self.moment, "land": self.land}


def on_land(places: NDArray[Any]) -> NDArray[Any]:
    """Whether ``(N, 2)`` places lie in a country of the embedded map, Antarctica included.

    Example:
        >>> import numpy as np
        >>> from geoenc.grids import on_land
        >>> on_land(np.array([(2.35, 48.86), (-30.0, 40.0)]))
        array([ True, False])
    """
    import shapely

    inside: NDArray[Any] = shapely.contains_xy(_land(), places[:, 0], places[:, 1])
    return inside


@functools.cache
def _land() -> Any:
    import shapely

    land = shapely.union_all(countries().geometry.to_numpy())
    shapely.prepare(land)
    return land


class _Layout(NamedTuple):
    height: int
    width: int
    dimensions: int
    dtype: str

    def side(self, multiple: int = 1) -> int:
        """Cells along a block: a power of two, so that a block has about 4 MiB."""
        bytes_each = self.dimensions * np.dtype(self.dtype).itemsize
        side = 2 ** int(math.log2(math.sqrt(max(1, _BLOCK_BYTES / bytes_each))))
        return max(multiple, min(side, _WIDEST_BLOCK))

    def blocks(self, side: int) -> Iterator[tuple[slice, slice]]:
        for top in range(0, self.height, side):
            for left in range(0, self.width, side):
                bottom, right = min(top + side, self.height), min(left + side, self.width)
                yield slice(top, bottom), slice(left, right)

    def axes(self) -> tuple[Tensor, Tensor]:
        """Latitudes of the rows and longitudes of the columns."""
        return lattice(self.height, 1)[:, 0, 1], lattice(1, self.width)[0, :, 0]


class _Job(NamedTuple):
    layout: _Layout
    embedding: Callable[[slice, slice], Tensor]
    facts: dict[str, Any]


def _embedding(
    encoder: Any, layout: _Layout, moment: Tensor | None, land: bool, rows: slice, columns: slice
) -> Tensor:
    """A block, ``(rows, columns, D)`` float32; NaN in the sea if only land is asked for."""
    lat, lon = layout.axes()
    lat, lon = lat[rows], lon[columns]
    places = torch.stack([lon.expand(len(lat), -1), lat[:, None].expand(-1, len(lon))], -1)
    flat = places.reshape(-1, 2)
    kept = torch.from_numpy(on_land(flat.numpy())) if land else torch.ones(len(flat)).bool()
    times = None if moment is None else moment.expand(int(kept.sum()))
    numbers = torch.full((len(flat), layout.dimensions), torch.nan)
    numbers[kept] = encoder.embed(flat[kept], times).to("cpu", torch.float32)
    return numbers.view(*places.shape[:2], -1)


def _write_zarr(job: _Job, target: Path, force: bool, progress: bool) -> None:
    import zarr

    folder = target.with_name(target.name + ".parts")
    layout, side = job.layout, job.layout.side()
    prepare_parts(folder, job.facts, force)
    done = folder / "done.txt"
    if not done.exists():
        shutil.rmtree(folder / _NAME, ignore_errors=True)
        _empty_zarr(folder / _NAME, layout, side, job.facts)
        append_line(done, "blocks")
    there = set(done.read_text(encoding="utf-8").split())
    group: Any = zarr.open_group(folder / _NAME, mode="r+")
    with _bar(layout, progress) as bar:
        for number, (rows, columns) in enumerate(layout.blocks(side)):
            if str(number) not in there:
                numbers = job.embedding(rows, columns)
                shape = numbers.shape
                numbers = numbers.view(-1, layout.dimensions)
                empty = ~numbers.isfinite().all(1)
                if layout.dtype == "int8":
                    numbers[empty] = 0
                stored, scale = narrowed(numbers, layout.dtype)
                group["embedding"][rows, columns] = stored.view(shape).numpy()
                if scale is not None:
                    scale[empty] = torch.nan
                    group["embedding_scale"][rows, columns] = scale.view(shape[:2]).numpy()
                append_line(done, str(number))
            bar.update((rows.stop - rows.start) * (columns.stop - columns.start))
    if target.exists():
        shutil.rmtree(target)
    os.replace(folder / _NAME, target)
    shutil.rmtree(folder)


def _check_replaceable(target: Path, folder: bool) -> None:
    """``force`` replaces a file by a file, and a Zarr group by a Zarr group; nothing else."""
    alike = (target / "zarr.json").is_file() if folder else target.is_file()
    if target.exists() and not alike:
        raise ValueError(
            f"expected {'a Zarr group' if folder else 'a file'} to replace, got {str(target)!r}, "
            "which is something else; move it away, or choose another name"
        )


def _empty_zarr(path: Path, layout: _Layout, side: int, facts: dict[str, Any]) -> None:
    """The group without its numbers: names and attributes are those of the CF conventions."""
    import pyproj
    import zarr

    group = zarr.create_group(path, zarr_format=3, attributes={"geoenc": facts})
    lat, lon = (axis.numpy() for axis in layout.axes())
    axes = {
        "lat": (lat, {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}),
        "lon": (lon, {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}),
        "dimension": (np.arange(layout.dimensions), {"long_name": "dimension of the embedding"}),
    }
    for name, (values, attributes) in axes.items():
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=[name]
        )
        array[:] = values
        array.attrs.update(attributes)
    crs = pyproj.CRS.from_epsg(4326)
    place = group.create_array("spatial_ref", shape=(), dtype="int64", dimension_names=[])
    transform = " ".join(map(str, _transform(layout)))
    place.attrs.update({**crs.to_cf(), "spatial_ref": crs.to_wkt(), "GeoTransform": transform})
    shape = layout[:3]
    chunks = tuple(min(one, side) for one in shape[:2])
    array = group.create_array(
        "embedding",
        shape=shape,
        dtype=layout.dtype,
        chunks=(*chunks, layout.dimensions),
        dimension_names=["lat", "lon", "dimension"],
        fill_value=0 if layout.dtype == "int8" else np.nan,
    )
    array.attrs.update({"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"})
    if layout.dtype == "int8":
        array.attrs["long_name"] = "embedding / embedding_scale"
        scale = group.create_array(
            "embedding_scale",
            shape=shape[:2],
            dtype="float32",
            chunks=chunks,
            dimension_names=["lat", "lon"],
            fill_value=np.nan,
        )
        scale.attrs.update({"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"})


def _write_tiff(job: _Job, target: Path, force: bool, progress: bool) -> None:
    import rasterio
    from rasterio.windows import Window

    layout, side = job.layout, job.layout.side(16)  # sides of tiles are multiples of 16
    with (
        atomic_path(target) as path,
        rasterio.Env(GDAL_CACHEMAX=64),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=layout.width,
            height=layout.height,
            count=layout.dimensions,
            dtype=layout.dtype,
            crs="EPSG:4326",
            transform=rasterio.Affine.from_gdal(*_transform(layout)),
            nodata=math.nan,
            tiled=True,
            blockxsize=side,
            blockysize=side,
            interleave="band",
            compress="deflate",
            predictor=3,
            BIGTIFF="IF_SAFER",
        ) as file,
        _bar(layout, progress) as bar,
    ):
        file.update_tags(geoenc=json.dumps(job.facts), AREA_OR_POINT="Area")
        for rows, columns in layout.blocks(side):
            numbers = job.embedding(rows, columns)
            numbers[~numbers.isfinite().all(-1)] = torch.nan
            bands = numbers.permute(2, 0, 1).contiguous().numpy()
            file.write(bands, window=Window.from_slices(rows, columns))
            bar.update(bands[0].size)


def _transform(layout: _Layout) -> tuple[float, ...]:
    """Of cells to degrees, in GDAL's order, for the corners of cells."""
    step = 180 / layout.height
    return (-180.0, step, 0.0, 90.0, 0.0, -step)


def _bar(layout: _Layout, progress: bool) -> Any:
    tqdm = require("tqdm", extra="scale").tqdm
    total = layout.height * layout.width
    return tqdm(total=total, unit=" cells", unit_scale=True, smoothing=0.1, disable=not progress)


def _rows(degrees: float) -> int:
    rows = round(180 / degrees) if degrees > 0 else 0
    if not rows or abs(rows * degrees - 180) > 1e-6 * 180:
        raise ValueError(
            f"expected cells whose side divides 180 degrees, got {degrees:g}; choose 1, 0.5, 0.25"
        )
    return rows


def _moment(time: float | str) -> Tensor:
    """A date, or a fraction of the year, as one number."""
    import pandas as pd

    try:
        given = pd.Series([float(time)], name="time")
    except ValueError:
        given = pd.Series([time], name="time")
    return frames.year_fractions(given)
