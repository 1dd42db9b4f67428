"""Geo-tagged images from a user's own table: places, labels, and images or features."""

from __future__ import annotations

import difflib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc._optional import require
from geoenc.coordinates import as_lonlat
from geoenc.data.errors import DatasetNotFoundError

# Usual names of columns, compared in lower case.
_LON = ("lon", "longitude", "lng", "long", "decimallongitude")
_LAT = ("lat", "latitude", "decimallatitude")
_LABEL = ("label", "labels", "target", "class", "class_name", "category", "category_id", "species")
_IMAGE = ("image", "images", "img", "image_path", "path", "filepath", "file_name", "filename")
_FEATURES = ("features", "feature", "feat", "feats", "embedding", "embeddings")
_NUMBERED = re.compile(rf"(?i)({'|'.join(_FEATURES)}|emb)_?\d+$")
_SPLIT = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_SPLIT |= {"0": 0, "1": 1, "2": 2, "0.0": 0, "1.0": 1, "2.0": 2}
# Cells that hold nothing. The words can be the name of a class (NA is Namibia), not a number.
_EMPTY = ["", "#N/A", "<NA>", "NaN", "nan", "-nan", "null", "NULL"]
_WORDS = ["NA", "N/A", "n/a", "None", "none"]


@dataclass(frozen=True, eq=False)
class GeotaggedImages:
    """N samples of (place, image or features, label, split), row i of each belonging together.

    Args:
        lonlat: Places in degrees, longitude first; a NaN row is a missing place, the sample stays.
        target: Class of each sample; -1 is unlabelled.
        classes: Names of the classes, which ``target`` indexes; empty when they have none.
        images: The pictures themselves.
        image_paths: Files of the pictures.
        features: Image features computed beforehand.
        split: 0 train, 1 validation, 2 test.

    Shape:
        ``lonlat`` float64 (N, 2); ``target`` and ``split`` int64 (N,); ``images`` uint8
        (N, 3, H, W); ``image_paths`` N strings; ``features`` float32 (N, D).
    """

    lonlat: Tensor
    target: Tensor | None = None
    classes: tuple[str, ...] = ()
    images: Tensor | None = None
    image_paths: tuple[str, ...] | None = None
    features: Tensor | None = None
    split: Tensor | None = None

    def __post_init__(self) -> None:
        _check("lonlat", self.lonlat, torch.float64, "(N, 2)", (None, 2))
        rows = len(self.lonlat)
        _check("target", self.target, torch.int64, "(N,)", (rows,))
        _check("images", self.images, torch.uint8, "(N, 3, H, W)", (rows, 3, None, None))
        _check("features", self.features, torch.float32, "(N, D)", (rows, None))
        _check("split", self.split, torch.int64, "(N,)", (rows,))
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.image_paths is not None:
            object.__setattr__(self, "image_paths", tuple(self.image_paths))
            if len(self.image_paths) != rows:
                raise ValueError(
                    f"expected one image path per row of lonlat ({rows}), got "
                    f"{len(self.image_paths)}; row i of every field must be the same sample"
                )
        if self.target is not None and rows:
            low, high = int(self.target.min()), int(self.target.max())
            top = len(self.classes) if self.classes else high + 1
            if low < -1 or high >= top:
                raise ValueError(
                    f"expected targets from -1 (unlabelled) to {top - 1}, got {low} to {high}; "
                    "number the classes from 0, or give all their names in classes"
                )
        if self.split is not None and not bool(((self.split >= 0) & (self.split <= 2)).all()):
            raise ValueError(
                "expected split to hold 0 (train), 1 (validation) and 2 (test), got "
                f"{sorted(set(self.split.tolist()))[:8]}; map your coding to these three first"
            )

    def __len__(self) -> int:
        return len(self.lonlat)


def _check(
    name: str,
    value: Tensor | None,
    dtype: torch.dtype,
    wanted: str,
    shape: tuple[int | None, ...],
) -> None:
    """Raises unless ``value`` is None or a tensor of this dtype and shape (None: any size)."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected {name} as a {dtype} tensor {wanted}, got {type(value).__name__}; "
            "convert it with torch.as_tensor"
        )
    fits = value.ndim == len(shape) and all(
        size in (None, got) for size, got in zip(shape, value.shape, strict=True)
    )
    if not fits:
        rows = "" if shape[0] is None else f" with N = {shape[0]}, the rows of lonlat"
        raise ValueError(
            f"expected {name} of shape {wanted}{rows}, got {tuple(value.shape)}; "
            "row i of every field must be the same sample"
        )
    if value.dtype != dtype:
        raise TypeError(
            f"expected {name} as {dtype}, got {value.dtype}; convert it with .to({dtype})"
        )


def load_geotagged(
    path: str | Path,
    *,
    lon: str | None = None,
    lat: str | None = None,
    label: str | None = None,
    image: str | None = None,
    features: str | Path | Sequence[str] | None = None,
    split: str | None = None,
) -> GeotaggedImages:
    r"""(place, image or features, label, split) of every row of a table; no row is dropped.

    The arguments name columns (arrays of an ``.npz``) and override what is found by usual names:
    lon/longitude/lng/x and lat/latitude/y, or a point geometry in any known CRS; label/target/
    class/species; image/path/file_name; features/feat or ``feat_0, feat_1, ...``; split.

    Args:
        path: ``.parquet`` (also GeoParquet), ``.csv``, ``.tsv``, ``.npz``, or a file that
            geopandas reads (``.gpkg``, ``.fgb``, ``.geojson``, ``.shp``).
        lon: Longitude in degrees; an empty cell is a missing place.
        lat: Latitude in degrees.
        label: Text or whole numbers, numbered in sorted order; empty and -1 are unlabelled. An
            ``.npz`` array ``<label>_names`` names the numbers, which are then kept.
        image: Files relative to the folder of the table, or, in an ``.npz``, uint8 pictures
            (N, H, W, 3) or (N, 3, H, W).
        features: A column of lists, the prefix of numbered columns, several columns, an array of
            the ``.npz`` (flattened to (N, D)), or the path of a ``.npy`` file.
        split: 0, 1, 2 or train, val, test.

    Example:
        >>> import pathlib, tempfile
        >>> from geoenc.data import load_geotagged
        >>> table = pathlib.Path(tempfile.mkdtemp()) / "birds.csv"
        >>> _ = table.write_text("lon,lat,species\n2.35,48.86,Passer\n,,Corvus\n")
        >>> load_geotagged(table).classes
        ('Corvus', 'Passer')
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetNotFoundError(
            f"expected a table at '{path}', got no such file; check the path (relative ones start "
            f"at '{Path.cwd()}'), see docs/how-to/use-your-own-images.md"
        )
    table, geometry = _read(path, label)
    where, names = path.name, list(table)
    lonlat = _places(where, table, geometry, lon, lat)
    label = _column(where, names, "label", label, _LABEL)
    image = _column(where, names, "image", image, _IMAGE)
    split = _column(where, names, "split", split, ("split",))
    target, classes = (None, ()) if label is None else _target(where, table, label)
    images, image_paths = None, None
    if image is not None:
        pictures = table[image]
        if pictures.dtype.kind in "OUT":
            image_paths = _image_paths(path, image, pictures)
        else:
            images = _images(f"{where}, image '{image}'", pictures)
    return GeotaggedImages(
        lonlat=lonlat,
        target=target,
        classes=classes,
        images=images,
        image_paths=image_paths,
        features=_features(path, table, features),
        split=None if split is None else _splits(f"{where}, split '{split}'", table[split]),
    )


def _read(path: Path, label: str | None) -> tuple[Mapping[str, np.ndarray], Any]:
    """Columns by name, and the geometry if the table has one."""
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            return _Arrays(path), None
        if kind in (".csv", ".tsv"):
            frame = _read_csv(path, label)
        elif kind in (".parquet", ".pq"):
            frame = _read_parquet(path)
        else:
            frame = _read_vector(path)
    except (ImportError, _TableError):
        raise
    except Exception as error:
        first = "".join(str(error).strip().splitlines()[:1])
        raise ValueError(
            f"{path.name}: expected a readable '{kind}' table, got {type(error).__name__}: "
            f"{first}; if the file is damaged write it again, if it is of another kind "
            "convert it to .parquet, .csv, .gpkg or .npz"
        ) from error
    geometry = frame.geometry if hasattr(frame, "to_crs") else None
    skip = None if geometry is None else geometry.name
    return {str(name): frame[name].to_numpy() for name in frame if name != skip}, geometry


class _TableError(ValueError):
    """A complaint about a table that already says what to do."""


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of an ``.npz``, each read when asked for; nothing is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = np.load(path, allow_pickle=False)

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self.file[name]
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{self.path.name}: expected array '{name}' as plain numbers or text, got "
                f"{type(error).__name__}: {error}; save it again with a numeric or text dtype "
                "(objects are never unpickled)"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self.file.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.file.files)

    def __len__(self) -> int:
        return len(self.file.files)


def _read_csv(path: Path, label: str | None) -> Any:
    """A frame; the separator is the one the header uses most."""
    import pandas

    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    if not header.strip():
        raise _TableError(
            f"{path.name}: expected a header and rows, got an empty first line; write it again"
        )
    how: dict[str, Any] = {"sep": max(",\t;", key=header.count), "encoding": "utf-8-sig"}
    names = list(pandas.read_csv(path, nrows=0, **how).columns)
    text = {label, *(name for name in names if name.lower() in _LABEL)}
    empty = {name: _EMPTY if name in text else _EMPTY + _WORDS for name in names}
    return pandas.read_csv(path, keep_default_na=False, na_values=empty, low_memory=False, **how)


def _read_parquet(path: Path) -> Any:
    import geopandas
    import pandas

    parquet = require("pyarrow.parquet", extra="scale")
    geographic = b"geo" in (parquet.read_schema(path).metadata or {})
    return (geopandas if geographic else pandas).read_parquet(path)


def _read_vector(path: Path) -> Any:
    import geopandas

    layers = list(geopandas.list_layers(path).name)
    if len(layers) > 1:
        raise _TableError(
            f"{path.name}: expected one layer, got {_listed(layers)}; "
            "write the one to use to a file of its own"
        )
    return geopandas.read_file(path)


def _listed(names: Sequence[str]) -> str:
    return (", ".join(names[:20]) or "none") + (", ..." if len(names) > 20 else "")


def _column(
    where: str,
    names: Sequence[str],
    role: str,
    given: str | None,
    usual: Sequence[str],
    weak: Sequence[str] = (),
) -> str | None:
    """The name given, or the only usual one there is, or None."""
    if given is not None:
        if given in names:
            return given
        close = difflib.get_close_matches(given, names, n=1)
        raise ValueError(
            f"{where}: expected a column '{given}' for {role}, got {_listed(names)}; "
            + (f"did you mean {role}='{close[0]}'?" if close else f"pass one of them as {role}=")
        )
    for group in (usual, weak):
        found = [name for name in names if name.lower() in group]
        if len(found) > 1:
            raise ValueError(
                f"{where}: expected one column for {role}, got {_listed(found)}; "
                f"say which one with {role}="
            )
        if found:
            return found[0]
    return None


def _places(
    where: str, table: Mapping[str, np.ndarray], geometry: Any, lon: str | None, lat: str | None
) -> Tensor:
    """Checked places from two columns, from ``lonlat``, or from the geometry."""
    names = list(table)
    if lon is None and lat is None and geometry is not None:
        source, places = "the geometry", geometry
    elif lon is None and lat is None and "lonlat" in names:
        source, places = "'lonlat'", table["lonlat"]
    else:
        lon = _column(where, names, "lon", lon, _LON, ("x",))
        lat = _column(where, names, "lat", lat, _LAT, ("y",))
        if lon is None or lat is None:
            raise ValueError(
                f"{where}: expected columns of longitude and latitude in degrees, got "
                f"{_listed(names)}; name both with lon= and lat="
            )
        source = f"lon='{lon}', lat='{lat}'"
        pair = [_numbers(where, name, table[name]) for name in (lon, lat)]
        if len(pair[0]) != len(pair[1]):
            raise ValueError(
                f"{where}: expected {source} of one length, got {len(pair[0])} and "
                f"{len(pair[1])}; row i of both must be the same sample"
            )
        places = np.stack(pair, axis=-1)
    try:
        lonlat = as_lonlat(places, order="lonlat", missing=True)
    except (ValueError, TypeError) as error:
        raise type(error)(
            f"{where}, places from {source}: {error}. The columns of a table are named with "
            "lon= and lat="
        ) from error
    if lonlat.ndim != 2 or len(lonlat) == 0:
        raise ValueError(
            f"{where}: expected places of shape (N, 2) with at least one row, got "
            f"{tuple(lonlat.shape)}; check how the table was written"
        )
    return lonlat


def _numbers(where: str, name: str, values: np.ndarray) -> np.ndarray:
    """float64 of one column; what is missing becomes NaN."""
    import pandas

    try:
        numbers = pandas.to_numeric(pandas.Series(values))
        return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{where}: expected numbers in column '{name}', got '{error}'; "
            "use a decimal point and no units, and leave unknown cells empty"
        ) from error


def _target(
    where: str, table: Mapping[str, np.ndarray], label: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Classes numbered in sorted order; -1 where there is no label."""
    import pandas

    values = table[label]
    if values.ndim != 1:
        raise ValueError(
            f"{where}: expected one label per row in '{label}', got shape {values.shape}; "
            "take the most likely class, or name another column with label="
        )
    target = torch.full((len(values),), -1)
    labelled = ~np.asarray(pandas.isna(values))
    known = values[labelled]
    if known.dtype == object and all(isinstance(value, int | float) for value in known):
        known = known.astype(np.float64)
    if known.dtype.kind in "iuf":
        odd = known[(known != np.floor(known)) | (known < -1)]
        if len(odd):
            raise ValueError(
                f"{where}: expected text or whole numbers from 0 in '{label}' (-1 or an empty "
                f"cell: unlabelled), got {odd[0]:g}; bin a measured quantity into classes first"
            )
        labelled[labelled] = known != -1
        known = known[known != -1].astype(np.int64)
    else:
        known = known.astype(str)
        labelled[labelled] = known != ""
        known = known[known != ""]
    names = f"{label}_names"
    if known.dtype.kind == "i" and names in table:
        codes, classes = known, table[names].astype(str)
    else:
        classes, codes = np.unique(known, return_inverse=True)
    target[torch.from_numpy(labelled)] = torch.from_numpy(codes)
    return target, tuple(classes.astype(str).tolist())


def _images(where: str, values: np.ndarray) -> Tensor:
    """uint8 (N, 3, H, W) from either layout."""
    first = values.ndim == 4 and values.shape[1] == 3
    last = values.ndim == 4 and values.shape[3] == 3
    if values.dtype != np.uint8 or first == last:
        raise ValueError(
            f"{where}: expected uint8 pictures (N, H, W, 3) or (N, 3, H, W), got {values.dtype} "
            f"{values.shape}; choose three channels and scale them to 0..255, or pass "
            "arrays of another kind with features="
        )
    images = torch.from_numpy(values)
    return images if first else images.permute(0, 3, 1, 2).contiguous()


def _image_paths(path: Path, image: str, values: np.ndarray) -> tuple[str, ...]:
    """Files that all exist; relative ones start at the folder of the table."""
    where = f"{path.name}, image '{image}'"
    odd = [row for row, value in enumerate(values) if not isinstance(value, str) or not value]
    if odd:
        raise ValueError(
            f"{where}: expected the path of an image file in every row, got "
            f"{values[odd[0]]!r:.40} in row {odd[0]} ({len(odd)} such rows); "
            "fill them in or drop these rows"
        )
    files = [path.parent / str(value) for value in values]
    lost = [file for file in files if not file.is_file()]
    if lost:
        raise DatasetNotFoundError(
            f"{where}: expected image files, got no '{lost[0]}' ({len(lost)} of {len(files)} are "
            f"missing); paths start at the folder of the table: correct them or drop these rows"
        )
    return tuple(str(file) for file in files)


def _features(
    path: Path, table: Mapping[str, np.ndarray], given: str | Path | Sequence[str] | None
) -> Tensor | None:
    """float32 (N, D) from an array, a column of lists, numbered columns or a ``.npy`` file."""
    where, names = path.name, list(table)
    if given is None:
        found = {name for name in names if name.lower() in _FEATURES}
        found |= {name.rstrip("0123456789") for name in names if _NUMBERED.match(name)}
        if len(found) > 1:
            raise ValueError(
                f"{where}: expected one source of features, got {_listed(sorted(found))}; "
                "say which one with features="
            )
        if not found:
            return None
        given = found.pop()
    if str(given).endswith(".npy"):
        values = _npy(path, Path(str(given)))
    elif given in names:
        values = _rows(f"{where}, features '{given}'", table[str(given)])
    else:
        chosen = [given] if isinstance(given, str | Path) else list(given)
        if len(chosen) == 1:
            numbered = re.compile(rf"{re.escape(str(chosen[0]))}_?(\d+)")
            matches = {name: numbered.fullmatch(name) for name in names}
            columns = {name: int(match[1]) for name, match in matches.items() if match}
            chosen = sorted(columns, key=columns.__getitem__) or chosen
        for name in chosen:
            _column(where, names, "features", str(name), ())
        values = np.stack([_numbers(where, str(n), table[str(n)]) for n in chosen], axis=1)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{where}, features: expected finite numbers, got NaN or infinity in "
            f"{int(bad.sum())} of {len(bad)} rows (the first is row {int(bad.argmax())}); "
            "fill them in, for example with the mean of the column, or drop these rows"
        )
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _npy(path: Path, given: Path) -> np.ndarray:
    """The array of a ``.npy`` file, looked for as given and beside the table."""
    files = [file for file in (given, path.parent / given) if file.is_file()]
    if not files:
        raise DatasetNotFoundError(
            f"{path.name}: expected features in '{given}', got no such file here or in "
            f"'{path.parent}'; check the path"
        )
    try:
        return _rows(f"features of '{given}'", np.load(files[0], allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"expected an array of numbers (N, D) in '{given}', got: {error}; "
            "write it with numpy.save"
        ) from error


def _rows(where: str, values: np.ndarray) -> np.ndarray:
    """float32 (N, D) of an array (N, ...) or of N lists of one length."""
    try:
        if values.dtype == object:
            values = np.stack([np.asarray(row, dtype=np.float32) for row in values])
        return values.astype(np.float32).reshape(len(values), -1)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{where}: expected numbers, as many in every row, got: {error}; "
            "write one list of D numbers per row, or D columns feat_0, feat_1, ..."
        ) from error


def _splits(where: str, values: np.ndarray) -> Tensor:
    """0 train, 1 validation, 2 test from numbers or words."""
    words = [str(value).strip().lower() for value in values.tolist()]
    unknown = sorted({word for word in words if word not in _SPLIT})
    if unknown:
        raise ValueError(
            f"{where}: expected 0, 1, 2 or train, val, test in every row, got "
            f"{_listed(unknown)}; map your coding to these three, or name another column with "
            "split="
        )
    return torch.tensor([_SPLIT[word] for word in words])
