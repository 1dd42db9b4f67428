"""What the published files say of each image: place, class, user and date, in plausible forms."""

import io
import json
import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geoenc.data.errors import DatasetNotFoundError

logger = logging.getLogger("geoenc.data")

_LON, _LAT = ("lon", "longitude", "lng"), ("lat", "latitude")
_DATE, _USER = ("date_c", "date"), ("user_id", "user")


@dataclass(frozen=True)
class Samples:
    """What the description files of one split say, one row per image that can be used.

    Attributes:
        lonlat: float64 ``(N, 2)``, NaN where the place is missing.
        target: int64 ``(N,)``, -1 without a label.
        time: float64 ``(N,)``, fraction of the year, NaN where it is missing.
        has_user: bool ``(N,)``.
        entry: int64 ``(N,)``, number of each row among all entries.
        entries: how many entries there are, images that cannot be used among them.
    """

    lonlat: np.ndarray
    target: np.ndarray
    time: np.ndarray
    has_user: np.ndarray
    entry: np.ndarray
    entries: int

    @property
    def trained_on(self) -> np.ndarray:
        """Rows that the published training keeps: a place and a user are known."""
        return (~np.isnan(self.lonlat).any(1) & self.has_user).nonzero()[0]


def read_json(path: Path) -> Any:
    """A JSON file; NaN and Infinity, which Python writes, are accepted."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path}: expected JSON in {path.stat().st_size:,} bytes, got a mistake: {error}; "
            "the file is damaged or cut short: get it again"
        ) from error


def read_categories(path: Path) -> dict[int, str]:
    """Class names by id, from a list of objects or names, or an object in either direction."""
    if path.suffix == ".csv":
        import pandas

        table = pandas.read_csv(path)
        return dict(zip(table["id"].astype(int), table["name"].astype(str), strict=True))
    found = read_json(path)
    if isinstance(found, dict) and isinstance(found.get("categories"), list):
        found = found["categories"]
    if isinstance(found, list):
        if all(isinstance(one, dict) for one in found):
            return {int(one["id"]): str(one.get("name", one["id"])) for one in found}
        return {number: str(name) for number, name in enumerate(found)}
    if isinstance(found, dict) and all(isinstance(value, int) for value in found.values()):
        return {number: name for name, number in found.items()}
    if isinstance(found, dict) and all(key.lstrip("-").isdigit() for key in found):
        return {int(key): str(value) for key, value in found.items()}
    raise ValueError(
        f"{path}: expected classes as a list of objects with id and name, or an object of names "
        f"and ids, got {type(found).__name__}; see docs/how-to/get-the-datasets.md"
    )


def numbered(ids: Sequence[int], where: str) -> dict[int, int]:
    """Class of each id: the id itself where they run from 0, else its place in their order."""
    ordered = sorted(set(ids))
    if ordered and ordered != list(range(len(ordered))):
        logger.info(
            "%s: class ids run from %d to %d with %d in use; classes are numbered in their order",
            *(where, ordered[0], ordered[-1], len(ordered)),
        )
    return {one: number for number, one in enumerate(ordered)}


def read_coco(labels: Path, places: Path, categories: Mapping[int, str] | None) -> Samples:
    """iNaturalist and fMoW: images and annotations in one file, places by image id in another."""
    described = read_json(labels)
    try:
        ids = [str(image["id"]) for image in described["images"]]
        annotations = {
            str(one["image_id"]): int(one["category_id"])
            for one in described.get("annotations") or ()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{labels}: expected an object with images (id) and annotations (image_id, "
            f"category_id), got a mistake at {error!r}; get the file again"
        ) from error
    del described
    if categories is None:
        number = {one: one for one in set(annotations.values())}
    else:
        number = numbered(list(categories), str(labels))
    target = np.fromiter(
        (_class(annotations.get(one), number, labels) for one in ids), np.int64, len(ids)
    )
    values = _by_image(places, ids)
    return Samples(
        values[:, :2], target, values[:, 2], values[:, 3] >= 0, np.arange(len(ids)), len(ids)
    )


def _class(found: int | None, number: Mapping[int, int], labels: Path) -> int:
    if found is None or found == -1:
        return -1
    if found not in number:
        raise ValueError(
            f"{labels}: expected category_id of one of {len(number)} categories, got {found}; "
            "take the categories file of the same year"
        )
    return number[found]


def _by_image(path: Path, ids: Sequence[str]) -> np.ndarray:
    """float64 (N, 4): lon, lat, date, and 0 for a known user or -1, in the order of ``ids``."""
    found = read_json(path)
    form = "object by image id"
    if isinstance(found, list):
        if all(isinstance(one, dict) and "id" in one for one in found):
            form, found = "list of objects", {str(one["id"]): one for one in found}
        elif len(found) == len(ids):
            form, found = "list in the order of the images", dict(zip(ids, found, strict=True))
        else:
            raise ValueError(
                f"{path}: expected objects with an id, or one entry for each of {len(ids)} "
                f"images, got {len(found)} entries; take the file that belongs to these images"
            )
    if not isinstance(found, dict):
        raise ValueError(
            f"{path}: expected a list of places or an object of them by image id, got "
            f"{type(found).__name__}; get the file again"
        )
    values = np.array([_numbers(found.get(one), path) for one in ids]).reshape(-1, 4)
    pairs = any(isinstance(one, list) for one in found.values())
    with np.errstate(invalid="ignore"):
        wide = (np.abs(values[:, :2]) > 90).any(0)
    if pairs and wide[1] and not wide[0]:
        logger.warning("%s: the pairs are latitude, longitude: second numbers exceed 90", path)
        values[:, [0, 1]] = values[:, [1, 0]]
    missing = sum(one not in found for one in ids)
    logger.info(
        "%s: places as %s%s; %d of %d images have one%s",
        *(path, form, " of pairs" if pairs else "", int((~np.isnan(values[:, 0])).sum()), len(ids)),
        f", {missing} are not mentioned" if missing else "",
    )
    return values


def _numbers(entry: Any, path: Path) -> tuple[float, float, float, float]:
    """lon, lat, date and user of an object, a pair or null."""
    if entry is None:
        return (np.nan, np.nan, np.nan, -1.0)
    if isinstance(entry, list | tuple):
        lon, lat = entry[:2] if len(entry) >= 2 else (None, None)
        return (_number(lon, path), _number(lat, path), np.nan, 0.0)
    if not isinstance(entry, dict):
        raise ValueError(
            f"{path}: expected an object with lon and lat, a pair or null, got {entry!r:.60}"
        )
    user = _field(entry, _USER, default=0)
    lon, lat, date = (_number(_field(entry, names), path) for names in (_LON, _LAT, _DATE))
    unknown = user is None or user == -1 or user != user
    return (lon, lat, date, -1.0 if unknown else 0.0)


def _field(entry: Mapping[str, Any], names: Sequence[str], default: Any = None) -> Any:
    return next((entry[name] for name in names if name in entry), default)


def _number(value: Any, path: Path) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan", "null")):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: expected a number or null, got {value!r:.60}") from None


def read_birds(path: Path, split: str, metadata: str) -> Samples:
    """BirdSnap and NABirds: one file with all splits, and places by source of metadata."""
    described = read_json(path)
    entries = described.get(split) if isinstance(described, dict) else None
    if not isinstance(entries, list):
        keys = ", ".join(described) if isinstance(described, dict) else type(described).__name__
        raise DatasetNotFoundError(f"{path}: expected a list '{split}', got {keys}")
    used = [number for number, one in enumerate(entries) if one.get("valid_image", True)]
    chosen = [entries[number] for number in used]
    lacking = [one for one in chosen if metadata not in one]
    if lacking:
        offered = sorted(key for key in lacking[0] if key.endswith("_meta"))
        raise ValueError(
            f"{path}: expected '{metadata}' in every entry, got {len(lacking)} of {len(chosen)} "
            f"without; pass metadata= one of {offered}"
        )
    values = np.array([_numbers(one[metadata], path) for one in chosen]).reshape(-1, 4)
    target = np.array([-1 if one["class_id"] is None else one["class_id"] for one in chosen])
    logger.info(
        "%s %s: places of %s; %d of %d entries have an image, %d of these a place",
        *(path, split, metadata, len(chosen), len(entries), int((~np.isnan(values[:, 0])).sum())),
    )
    has_user = (values[:, 3] >= 0) & ~np.isnan(values[:, 2])
    numbers = np.array(used, dtype=np.int64)
    return Samples(
        values[:, :2], target.astype(np.int64), values[:, 2], has_user, numbers, len(entries)
    )


def read_table(path: Path, split: str) -> Samples:
    """YFCC: one CSV with columns split, lon, lat and class."""
    import pandas

    try:
        table = pandas.read_csv(path)
        table = table[table["split"] == split]
        lonlat = table[["lon", "lat"]].to_numpy(dtype=np.float64, na_value=np.nan)
        target = table["class"].fillna(-1).to_numpy(dtype=np.int64, copy=True)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected columns split, lon, lat and class with numbers, got a mistake: "
            f"{error}; get the file again"
        ) from error
    if not len(table):
        raise DatasetNotFoundError(f"{path}: expected rows with split '{split}', got none")
    known = np.ones(len(table), dtype=bool)
    numbers = np.arange(len(table))
    return Samples(lonlat, target, np.full(len(table), np.nan), known, numbers, len(table))


def read_index(path: Path) -> np.ndarray:
    """Row numbers from ``.json``, ``.npy``, or an array that NumPy pickled; nothing else runs."""
    try:
        if path.suffix == ".json":
            found = np.asarray(read_json(path))
        elif path.read_bytes()[:6] == b"\x93NUMPY":
            found = np.load(path, allow_pickle=False)
        else:
            found = np.asarray(_ArrayUnpickler(io.BytesIO(path.read_bytes())).load())
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise ValueError(f"{found.dtype} of shape {found.shape}")
    except (ValueError, EOFError, pickle.UnpicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a list of row numbers, got {error}; get the file again"
        ) from error
    return found.astype(np.int64)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads what ``ndarray.dump`` writes, and refuses every other name."""

    _ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric")

    def find_class(self, module: str, name: str) -> Any:
        if module in self._ARRAYS or module == "numpy._core.numeric":
            allowed = {
                "_reconstruct": np.empty(0).__reduce__()[0],
                "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
                "scalar": np.int64(0).__reduce__()[0],
            }
            if name in allowed:
                return allowed[name]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a pickle that calls {module}.{name}")
