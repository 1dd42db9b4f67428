"""What published files are there, what is missing, and what looks wrong."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geoenc.data import metadata as forms
from geoenc.data.published import load_classes, read_samples, subset_rows
from geoenc.data.rows import NpyRows, Rows, as_probabilities, open_rows
from geoenc.data.sources import PUBLISHED, find, published_in

_ROWS_AT_ONCE = 4096
_PLACES = 2000
_FRACTIONS = (0.05, 0.1, 0.2)

_DAMAGE = (ValueError, OSError, KeyError, TypeError, AttributeError)


@dataclass
class CheckedFile:
    """One file: what it is for, and what was found in it.

    Attributes:
        path: below the folder of the data set.
        purpose: what it is needed for.
        present: whether it is there.
        needed: whether the rest is of no use without it.
        says: what it contains.
        problems: what looks wrong.
    """

    path: str
    purpose: str
    present: bool = True
    needed: bool = False
    says: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def status(self) -> Literal["ok", "missing", "wrong"]:
        """Wrong with a problem, else missing or ok."""
        if self.problems:
            return "wrong"
        return "ok" if self.present else "missing"


@dataclass
class CheckReport:
    """What `check` found: for each data set its folder and files.

    Attributes:
        path: the folder that was looked at.
        folders: folder of each data set.
        files: files of each data set.
    """

    path: str
    folders: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[CheckedFile]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Something is there, nothing looks wrong, and nothing needed is missing."""
        every = [one for files in self.files.values() for one in files]
        return bool(every) and not any(
            one.problems or (one.needed and not one.present) for one in every
        )

    def as_dict(self) -> dict[str, Any]:
        """The report for ``json.dumps``."""
        return {
            "path": self.path,
            "ok": self.ok,
            "datasets": [
                {
                    "name": name,
                    "folder": self.folders[name],
                    "files": [{"status": one.status, **vars(one)} for one in files],
                }
                for name, files in self.files.items()
            ],
        }

    def __str__(self) -> str:
        lines = []
        for name, files in self.files.items():
            lines.append(f"{PUBLISHED[name].title} in {self.folders[name]}")
            for one in files:
                optional = " (optional)" if not one.present and not one.needed else ""
                lines.append(f"  {one.status:8}{one.path}  —  {one.purpose}{optional}")
                lines += [f"          {text}" for text in one.says]
                lines += [f"          ! {text}" for text in one.problems]
        if not self.files:
            titles = ", ".join(source.title for source in PUBLISHED.values())
            lines.append(
                f"no published data set in '{self.path}': expected the files of {titles}; see "
                "docs/how-to/get-the-datasets.md"
            )
        count = sum(bool(one.problems) for files in self.files.values() for one in files)
        lacking = sum(
            one.needed and not one.present for files in self.files.values() for one in files
        )
        lines.append(
            "nothing looks wrong"
            if self.ok
            else f"{count} files look wrong, {lacking} needed files are missing"
        )
        return "\n".join(lines)


def check(path: str | os.PathLike[str]) -> CheckReport:
    """Reads the published files in a folder completely, and says what they are worth.

    Every data set found in or below the folder is checked file by file: damaged or cut short,
    row counts that disagree, coordinates out of range or swapped, labels out of range, features
    with NaN, infinity or rows of zeros, and class predictions: probabilities or logits, and
    whether they have anything to do with the labels.

    Args:
        path: a data set's folder, or one above it, as for the readers.

    Returns:
        the report; print it, or ask ``.ok`` and ``.as_dict()``.

    Raises:
        NotADirectoryError: no such folder.

    Example:
        >>> import tempfile, torch
        >>> from geoenc.data import check, make_published
        >>> with tempfile.TemporaryDirectory() as root:
        ...     generator = torch.Generator().manual_seed(0)
        ...     _ = make_published("yfcc", root, generator=generator)
        ...     check(root).ok
        True
    """
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(
            f"expected a folder of published files, got '{root}', which is none; "
            "see docs/how-to/get-the-datasets.md"
        )
    report = CheckReport(str(root))
    for name, folder in published_in(root):
        report.folders[name] = str(folder)
        report.files[name] = _Check(name, folder).files
    return report


class _Check:
    """One data set, split by split."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.source = name, folder, PUBLISHED[name]
        self.files: list[CheckedFile] = []
        self.width: dict[str, int] = {}
        self.num_classes = self._classes()
        for split, theirs in self.source.splits.items():
            self._check_split(split, theirs)

    def _file(
        self, templates: tuple[str, ...], split: str, purpose: str, fraction: float = 1.0
    ) -> tuple[CheckedFile, Path | None]:
        path = find(self.folder, templates, split, fraction)
        named = templates[0].format(split=split, fraction=fraction)
        shown = named if path is None else str(path.relative_to(self.folder))
        known = next((one for one in self.files if one.path == shown), None)
        if known is None:
            known = CheckedFile(shown, purpose, present=path is not None)
            self.files.append(known)
        return known, path

    def _classes(self) -> int | None:
        source = self.source
        purpose = "images, labels, places and class names"
        if source.categories:
            purpose = "names and order of the classes"
        entry, path = self._file(source.categories or source.labels, "train", purpose)
        if path is None:
            return None
        try:
            count = len(load_classes(self.name, self.folder))
        except _DAMAGE as error:
            entry.problems.append(_first(error))
            return None
        usual = "" if count == source.num_classes else f" (published: {source.num_classes:,})"
        entry.says.append(f"{count:,} classes{usual}")
        return count

    def _check_split(self, split: str, theirs: str) -> None:
        source = self.source
        matrices = [
            (what, variant, template, fraction)
            for what in ("features", "predictions")
            for variant, template in getattr(source, what).items()
            for fraction in (_FRACTIONS if variant == "fewshot" else (1.0,))
        ]
        described = [find(self.folder, one, theirs) for one in (source.labels, source.places)]
        there = [find(self.folder, (one[2],), theirs, one[3]) for one in matrices]
        started = any(described) or any(there)
        if not started and split == "test":
            return
        labels, labels_path = self._file(source.labels, theirs, f"images and labels of {split}")
        places, places_path = labels, labels_path
        if source.places:
            places, places_path = self._file(source.places, theirs, f"places of {split}")
        labels.needed = places.needed = started
        samples = None
        if labels_path is not None and places_path is not None:
            samples = self._samples(split, labels, places, labels_path)
        for (what, variant, template, fraction), path in zip(matrices, there, strict=True):
            if path is not None or what == "features" or split != "train":
                purpose = _purpose(what, variant, split, fraction)
                entry, _ = self._file((template,), theirs, purpose, fraction)
                if path is not None:
                    self._check_matrix(entry, f"{what} {variant}", path, samples)
        if split == "train" and source.subset:
            self._subsets(samples)

    def _samples(
        self, split: str, labels: CheckedFile, places: CheckedFile, path: Path
    ) -> forms.Samples | None:
        samples = None
        for source in self.source.metadata or (None,):
            try:
                found = read_samples(self.name, self.folder, split, source)
            except FileNotFoundError:
                labels.says.append(f"has no {split}")
            except _DAMAGE as error:
                blamed = labels if str(path) in str(error) else places
                blamed.problems.append(_first(error))
            else:
                samples = samples or found
                label = f"{split}, {source}" if source else split
                _check_places(label, found.lonlat, places)
        if samples is not None:
            self._check_labels(split, samples, labels)
        return samples

    def _check_labels(self, split: str, samples: forms.Samples, labels: CheckedFile) -> None:
        target, source = samples.target, self.source
        known = target[target >= 0]
        text = f"{split}: {len(target):,} images"
        if source.images.get(split, len(target)) != len(target):
            text += f" (published: {source.images[split]:,})"
        labels.says.append(text + f", {len(known):,} with a label")
        if len(known) == 0:
            if split != "test":
                labels.problems.append(f"{split}: no image has a label")
            return
        limit = self.num_classes
        if limit is not None and known.max() >= limit:
            labels.problems.append(
                f"{split}: labels reach {known.max()}, but there are only {limit} classes"
            )
        if target.min() < -1:
            labels.problems.append(f"{split}: a label is {target.min()}")
        empty = 0 if limit is None else limit - len(np.unique(known))
        if split == "train" and empty > 0:
            labels.says.append(f"{empty:,} classes have no image")

    def _check_matrix(
        self, entry: CheckedFile, variant: str, path: Path, samples: forms.Samples | None
    ) -> None:
        try:
            rows = open_rows(path)
        except _DAMAGE as error:
            entry.problems.append(_first(error))
            return
        stored = str(rows.mapped.dtype) if isinstance(rows, NpyRows) else "float32"
        entry.says.append(f"{rows.shape[0]:,} x {rows.shape[1]:,} {stored}")
        if samples is not None and len(rows) not in (len(samples.target), samples.entries):
            wanted = f"{len(samples.target):,}"
            trained = len(samples.trained_on)
            hint = ", which is how many have a place and a user" if len(rows) == trained else ""
            entry.problems.append(f"expected {wanted} rows, one per image, got {len(rows):,}{hint}")
            samples = None
        elif samples is not None and len(rows) != len(samples.target):
            rows = rows.select(samples.entry)
        if variant.startswith("predictions"):
            self._check_predictions(entry, rows, samples)
            return
        columns = self.width.setdefault(variant, rows.shape[1])
        if columns != rows.shape[1]:
            entry.problems.append(f"expected {columns} columns, as other splits have")
        _check_features(entry, rows)

    def _check_predictions(
        self, entry: CheckedFile, rows: Rows, samples: forms.Samples | None
    ) -> None:
        largest = -1 if samples is None else int(samples.target.max())
        classes = max(self.num_classes or 0, largest + 1)
        if rows.shape[1] < classes:
            entry.problems.append(f"expected {classes:,} columns, one per class")
            return
        try:
            rows = as_probabilities(rows)
            says = {
                "probabilities": "probabilities",
                "logits": "logits; the readers take their softmax",
                "log-probabilities": "logarithms of probabilities; the readers undo them",
                "scores": "not normalised; the readers divide each row by its sum",
            }
            entry.says.append(says[rows.form])
            hits = _hits(rows, samples)
        except ValueError as error:
            entry.problems.append(_first(error))
            return
        if hits is None:
            return
        entry.says.append(f"top-1 accuracy {100 * hits.mean():.2f} %")
        chance = 1 / rows.shape[1]
        if hits.mean() < 2 * chance and hits.sum() < 0.5 * len(hits):
            entry.problems.append(
                f"top-1 accuracy is at chance ({100 * chance:.2f} %): the rows or columns may be "
                "in another order than the labels"
            )

    def _subsets(self, samples: forms.Samples | None) -> None:
        for fraction in _FRACTIONS:
            purpose = f"which {fraction:.0%} of the labels the published experiments use"
            entry, path = self._file(self.source.subset, "train", purpose, fraction)
            if path is None or samples is None or len(samples.trained_on) == 0:
                continue
            try:
                rows = subset_rows(path, samples, fraction)
            except _DAMAGE as error:
                entry.problems.append(_first(error))
                continue
            entry.says.append(f"{len(rows):,} of {len(samples.target):,} images")
            if len(np.unique(rows)) < len(rows):
                entry.problems.append(f"{len(rows) - len(np.unique(rows))} images are named twice")
            share = len(rows) / max(1, len(samples.trained_on))
            classes = len(np.unique(samples.target))
            if not 0.5 * fraction < share < 1.5 * fraction + classes / max(1, len(samples.target)):
                entry.problems.append(f"expected {fraction:.0%} of the images, got {share:.2%}")


def _purpose(what: str, variant: str, split: str, fraction: float) -> str:
    if what == "features":
        use = "for pre-training" if split == "train" else "to classify images yourself"
        return f"features '{variant}' of {split}, {use}"
    if variant == "fewshot":
        return f"P(y | image) of {split} from {fraction:.0%} of the labels"
    return f"P(y | image) '{variant}' of {split}"


def _first(error: BaseException) -> str:
    return "".join(str(error).strip().splitlines()[:1]) or type(error).__name__


def _check_places(label: str, lonlat: np.ndarray, entry: CheckedFile) -> None:
    known = lonlat[~np.isnan(lonlat).any(1)]
    share = f"{len(known):,} of {len(lonlat):,} ({len(known) / len(lonlat):.1%})"
    entry.says.append(f"{label}: {share} images have a place")
    if len(known) == 0:
        entry.problems.append(f"{label}: no image has a place")
        return
    lon, lat = known.T
    entry.says.append(
        f"longitude {lon.min():.2f} to {lon.max():.2f}, latitude {lat.min():.2f} to {lat.max():.2f}"
    )
    if np.isinf(known).any():
        entry.problems.append(
            f"{label}: infinite coordinates in {np.isinf(known).any(1).sum()} rows"
        )
        return
    beyond = int((np.abs(lat) > 90).sum())
    if beyond:
        swapped = bool((np.abs(lon) <= 90).all())
        why = "longitude and latitude are swapped" if swapped else "these are not degrees"
        entry.problems.append(f"{label}: {beyond:,} latitudes exceed 90 degrees: {why}")
        return
    far = int((np.abs(lon) > 180).sum())
    if far:
        entry.says.append(f"{far:,} longitudes exceed 180 and are wrapped")
    null = int((known == 0).all(1).sum())
    if null > 0.01 * len(known):
        entry.problems.append(f"{label}: {null:,} places are exactly (0, 0): probably missing ones")
    if np.abs(lon).max() <= 90 and len(known) >= 50:
        own, other = _on_land(known), _on_land(known[:, ::-1])
        if other > own + 0.2:
            entry.problems.append(
                f"{label}: {own:.0%} of the places are on land, {other:.0%} with longitude and "
                "latitude exchanged: they may be swapped"
            )


def _on_land(lonlat: np.ndarray) -> float:
    """Share of up to 2,000 of the places on the embedded countries."""
    import shapely

    from geoenc.data.globe import countries

    step = max(1, len(lonlat) // _PLACES)
    land = shapely.union_all(countries().geometry.to_numpy())
    shapely.prepare(land)
    return float(shapely.contains_xy(land, lonlat[::step]).mean())


def _check_features(entry: CheckedFile, rows: Rows) -> None:
    bad: list[int] = []
    zero: list[int] = []
    numbers = np.arange(len(rows)) if rows.numbers is None else rows.numbers
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        try:
            values = torch.from_numpy(rows.read(numbers[start : start + _ROWS_AT_ONCE]))
        except (ValueError, OSError) as error:
            entry.problems.append(_first(error))
            return
        here = torch.from_numpy(numbers[start : start + _ROWS_AT_ONCE])
        bad += here[~values.isfinite().all(1)].tolist()
        zero += here[(values == 0).all(1)].tolist()
    if bad:
        entry.problems.append(f"NaN or infinity in {len(bad):,} rows, the first is row {bad[0]}")
    if zero:
        entry.problems.append(
            f"nothing but zeros in {len(zero):,} rows, the first is row {zero[0]}: part of the "
            "file was never written"
        )


def _hits(rows: Rows, samples: forms.Samples | None) -> np.ndarray | None:
    """Whether the most likely class is the label, for each labelled image."""
    hits: list[Tensor] = []
    target = None if samples is None else torch.from_numpy(samples.target)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        best = rows[start : start + _ROWS_AT_ONCE].argmax(1)
        if target is not None:
            label = target[start : start + _ROWS_AT_ONCE]
            hits.append((best == label)[label >= 0])
    found = torch.cat(hits).numpy() if hits else np.empty(0)
    return found if len(found) else None
