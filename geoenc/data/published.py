"""Readers of the geographic-prior and CSP downloads; `geoenc.data.sources` lists the files."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat
from geoenc.data import metadata as forms
from geoenc.data.dataset import LocationDataset
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.rows import Rows, as_probabilities, open_rows
from geoenc.data.sources import HELP, PUBLISHED, Published, find, folder_of, source_of, split_of

logger = logging.getLogger("geoenc.data")


def _needed(source: Published, folder: Path, templates: tuple[str, ...], split: str) -> Path:
    found = find(folder, templates, split)
    if found is None:
        wanted = templates[0].format(split=split, fraction=1.0)
        raise DatasetNotFoundError(
            f"{source.title}: expected {wanted} in {str(folder)!r}, got no such file; {HELP}"
        )
    return found


def read_samples(name: str, folder: Path, split: str, metadata: str | None = None) -> forms.Samples:
    """What the description files of one split say, in the order of the images."""
    source = source_of(name)
    theirs = split_of(source, split)
    if metadata is not None and metadata not in source.metadata:
        offered = ", ".join(source.metadata) or "none, it has one place per image"
        raise ValueError(
            f"expected metadata of {source.title} to be one of {offered}, got {metadata!r}"
        )
    labels = _needed(source, folder, source.labels, theirs)
    if source.places:
        places = _needed(source, folder, source.places, theirs)
        return forms.read_coco(labels, places, _categories(source, folder))
    if source.metadata:
        return forms.read_birds(labels, theirs, metadata or source.metadata[0])
    return forms.read_table(labels, theirs)


def _categories(source: Published, folder: Path) -> dict[int, str] | None:
    file = find(folder, source.categories, "train")
    return None if file is None else forms.read_categories(file)


def load_classes(name: str, root: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names of a published data set, in the order in which its readers number them.

    Args:
        name: of the data set, for example "inat2018".
        root: as for its reader.

    Raises:
        DatasetNotFoundError: the file of the classes is not there.
    """
    source, folder = source_of(name), folder_of(name, root)
    if source.metadata:
        labels = _needed(source, folder, source.labels, "train")
        return tuple(str(one) for one in forms.read_json(labels)["classes"])
    found = forms.read_categories(_needed(source, folder, source.categories, "train"))
    return tuple(found[one] for one in sorted(found))


def load_subset(name: str, root: str | os.PathLike[str], fraction: float) -> Tensor:
    """Rows of the training split whose labels the published few-shot experiments use.

    The published numbers count only images with a place and a user; they are turned into rows of
    the reader's training split. A file that counts all images is recognised by its stratification,
    max(1, round(n fraction)) labels of each class with n images, which fits only one of the two.

    Args:
        name: of the data set, "inat2017", "inat2018" or "fmow".
        root: as for its reader.
        fraction: share of the labels: 0.05, 0.1 or 0.2.

    Shape:
        sorted row numbers ``(n,)`` int64.

    Raises:
        DatasetNotFoundError: there is no file for this share.
        ValueError: it does not belong to these images.

    Reference:
        Mai et al., CSP, ICML 2023, section 4.
    """
    source, folder = source_of(name), folder_of(name, root)
    file = find(folder, source.subset, "train", fraction)
    if file is None:
        wanted = source.subset[0] if source.subset else "published subsets"
        wanted = wanted.format(fraction=fraction)
        raise DatasetNotFoundError(
            f"{source.title}: expected {wanted} in {str(folder)!r}, got no such file; {HELP}, or "
            "draw a subset with geoenc.data.few_shot"
        )
    samples = read_samples(name, folder, "train")
    return torch.from_numpy(subset_rows(file, samples, fraction))


def subset_rows(file: Path, samples: forms.Samples, fraction: float) -> np.ndarray:
    """Rows of all samples, from numbers that count those with place and user, or all."""
    index = np.sort(forms.read_index(file))
    kept, everything = samples.trained_on, np.arange(len(samples.target))
    fits = {
        what: _misfit(samples.target, rows, index, fraction)
        for what, rows in (("images with place and user", kept), ("all images", everything))
        if len(index) and index[0] >= 0 and index[-1] < len(rows)
    }
    if not fits:
        reach = f"{index.min()} to {index.max()}" if len(index) else "nothing"
        raise ValueError(
            f"{file}: expected row numbers below {len(everything)}, got {reach}; take the file "
            "that belongs to these images"
        )
    what = min(fits, key=lambda one: fits[one])
    logger.info("%s: %d numbers of %s", file, len(index), what)
    if fits[what] > 0:
        logger.warning("%s: %d classes have another share than %g", file, fits[what], fraction)
    return np.asarray((kept if what.startswith("images") else everything)[index])


def _misfit(target: np.ndarray, rows: np.ndarray, index: np.ndarray, fraction: float) -> int:
    """How many classes do not have their stratified share among ``rows[index]``."""
    labelled = target[rows][target[rows] >= 0]
    counts = np.bincount(labelled)
    chosen = target[rows[index]]
    drawn = np.bincount(chosen[chosen >= 0], minlength=len(counts))
    wanted = np.where(counts > 0, np.maximum(1, np.round(counts * fraction)), 0)
    return int((drawn != wanted).sum())


def _matrix(
    source: Published,
    folder: Path,
    what: str,
    variant: str | None,
    split: str,
    fraction: float | None,
) -> Path | None:
    """The file of the features or predictions asked for; None where nothing was asked or found."""
    offered: Mapping[str, str] = getattr(source, what)
    if variant == "":
        return None
    if variant is None:
        few = what == "predictions" and fraction is not None and fraction < 1
        for name in offered:
            file = find(folder, (offered[name],), split, fraction or 1.0)
            if file is not None and (name == "fewshot") == few:
                logger.info("%s %s: %s '%s' from %s", source.title, split, what, name, file)
                return file
        logger.info("%s %s: no %s in '%s'", source.title, split, what, folder)
        return None
    name, dash, network = variant.partition("-")
    if name not in offered:
        raise ValueError(
            f"expected {what} of {source.title} to be one of {', '.join(offered)} (also with the "
            f"name of another image network: {next(iter(offered))}-NAME), got {variant!r}"
        )
    template = offered[name].replace("/", f"{dash}{network}/", 1)
    file = find(folder, (template,), split, fraction or 1.0)
    if file is None:
        wanted = template.format(split=split, fraction=fraction or 1.0)
        raise DatasetNotFoundError(
            f"{source.title}: expected {wanted} in {str(folder)!r}, got no such file; {HELP}"
        )
    return file


def read_published(
    name: str,
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    features: str | None = None,
    predictions: str | None = None,
    fraction: float | None = None,
    metadata: str | None = None,
) -> LocationDataset:
    """One split of any published data set: the reader behind all of `READERS`."""
    source, folder = source_of(name), folder_of(name, root)
    theirs = split_of(source, split)
    samples = read_samples(name, folder, split, metadata)
    columns: dict[str, Rows | None] = {}
    for column, what, variant in (
        ("features", "features", features),
        ("image_probs", "predictions", predictions),
    ):
        file = _matrix(source, folder, what, variant, theirs, fraction)
        columns[column] = None if file is None else _aligned(open_rows(file), samples)
    probs = columns["image_probs"]
    if probs is not None:
        columns["image_probs"] = probs = as_probabilities(probs)
        logger.info("%s: class predictions are %s", probs.name, probs.form)
        if probs.shape[1] <= samples.target.max():
            raise ValueError(
                f"{probs.name}: expected a column for each class, {samples.target.max()} among "
                f"them, got {probs.shape[1]} columns; take the file of this data set"
            )
    dated = not np.isnan(samples.time).any()
    try:
        lonlat = as_lonlat(samples.lonlat, missing=True)
    except ValueError as error:
        raise ValueError(
            f"places of {source.title} {split}: {error}; see what `geoenc data check` says of "
            f"'{folder}'"
        ) from error
    made = LocationDataset(
        lonlat,
        torch.from_numpy(samples.target),
        **columns,
        time=torch.from_numpy(samples.time % 1.0).float() if dated else None,
    )
    logger.info("%s %s: %r", source.title, split, made)
    return made


def _aligned(rows: Rows, samples: forms.Samples) -> Rows:
    """One row per sample, from a matrix of the samples or of all entries."""
    if len(rows) == len(samples.entry):
        return rows
    if len(rows) == samples.entries:
        logger.info("%s: has rows of unusable images too; they are left out", rows.name)
        return rows.select(samples.entry)
    filtered = len(rows) == len(samples.trained_on)
    raise ValueError(
        f"{rows.name}: expected {len(samples.entry)} rows, one for each image, got {len(rows)}"
        + (", as many as images with place and user" if filtered else "")
        + "; take the file that belongs to these images"
    )


_DOC = """{title} as published: places, classes, and what is stored of its images.

    Images whose place is missing stay, with NaN; labels that are private are -1. Features and
    predictions are `Rows`, which stay on disk or sparse. What the files turned out to contain is
    logged by "geoenc.data".

    Args:
        root: folder with the files, or the one above ``{folder}/``.
        split: one of {splits}.
        features: one of {features}, also with the name of another image network
            ("pretrain-NAME"); by default the first that is there, "" for none.
        predictions: P(y | image): one of {predictions}; by default the first that is there, and
            "fewshot" with a ``fraction`` below 1; "" for none.
        fraction: share of the labels that the image classifier was trained on; see also
            `load_subset`.
        metadata: {metadata}.

    Raises:
        DatasetNotFoundError: a file is not there.
        ValueError: a file is damaged, or does not belong to the others.

    Example:
        >>> import tempfile, torch
        >>> from geoenc.data import {function}, make_published
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = make_published("{name}", root, num_samples=60)
        ...     data = {function}(root, "train")
        ...     data[torch.tensor([5, 2])].features.shape
        torch.Size([2, 16])

    Differs:
        The published code drops images without a place, a user or (birds) a date from training;
        here the recipe drops those without a place.
    """


def _reader(name: str) -> Callable[..., LocationDataset]:
    source = PUBLISHED[name]

    def load(
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        features: str | None = None,
        predictions: str | None = None,
        fraction: float | None = None,
        metadata: str | None = None,
    ) -> LocationDataset:
        return read_published(
            name,
            root,
            split,
            features=features,
            predictions=predictions,
            fraction=fraction,
            metadata=metadata,
        )

    def listed(names: Iterable[str]) -> str:
        return ", ".join(f'"{one}"' for one in names)

    load.__name__ = load.__qualname__ = f"load_{name}"
    load.__doc__ = _DOC.format(
        name=name,
        function=load.__name__,
        title=source.title,
        folder=source.folder,
        splits=listed(source.splits),
        features=listed(source.features),
        predictions=listed(source.predictions),
        metadata=f"source of the places: {listed(source.metadata)}"
        if source.metadata
        else "only for BirdSnap and NABirds",
    )
    return load


READERS: dict[str, Callable[..., LocationDataset]] = {name: _reader(name) for name in PUBLISHED}
"""The reader of each published data set by name: ``READERS[name](root, split, ...)``."""

load_inat2017 = READERS["inat2017"]
load_inat2018 = READERS["inat2018"]
load_birdsnap = READERS["birdsnap"]
load_nabirds = READERS["nabirds"]
load_yfcc = READERS["yfcc"]
load_fmow = READERS["fmow"]
