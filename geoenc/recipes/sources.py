"""Where the samples of a table come from: a user's images, the globe, or a published data set.

Whatever they are, a method sees a `Source`: samples to train on, samples to choose by, samples to
judge, and P(y | image) for the last two.
"""

import dataclasses
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from geoenc.data.dataset import LocationDataset
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.features import RandomConvFeatures, TransformersFeatures, image_features
from geoenc.data.geotagged import GeotaggedImages, load_geotagged
from geoenc.data.globe import load_globe
from geoenc.data.published import READERS, load_classes, load_subset
from geoenc.data.samplers import few_shot
from geoenc.data.splits import block_split, random_split
from geoenc.recipes.batches import required
from geoenc.recipes.config import Config, for_method
from geoenc.recipes.image import classify_images

logger = logging.getLogger(__name__)


class Source(ABC):
    """The samples of one split of a table."""

    train: LocationDataset
    classes: tuple[str, ...]
    num_classes: int

    @abstractmethod
    def labelled(self, fraction: float, generator: Generator) -> Tensor:
        """Rows of ``train`` whose labels are known at this share."""

    @abstractmethod
    def judged(
        self, fraction: float, labelled: LocationDataset
    ) -> tuple[LocationDataset | None, LocationDataset]:
        """Validation (None if there is none) and test samples, with P(y | image)."""


class TableSource(Source):
    """Images with features, split in three; P(y | image) is a linear probe on the features."""

    def __init__(self, config: Config, images: GeotaggedImages, part: Tensor, cache: Path) -> None:
        features = feature_table(config, images, part == 0, cache)
        self.config, self.part = config, part
        self.dataset = LocationDataset(images.lonlat, images.target, features)
        self.train = self.dataset.subset(part == 0)
        self.classes = images.classes
        self.num_classes = len(self.classes)

    def labelled(self, fraction: float, generator: Generator) -> Tensor:
        """See `Source`."""
        return few_shot(required(self.train.target, "target"), fraction, generator=generator)

    def judged(
        self, fraction: float, labelled: LocationDataset
    ) -> tuple[LocationDataset, LocationDataset]:
        """See `Source`."""
        validation, test = (self.dataset.subset(self.part == i) for i in (1, 2))
        features = self.dataset.features
        assert isinstance(features, Tensor)
        probs = classify_images(
            self.config, labelled, validation, features, num_classes=self.num_classes
        )
        return (
            validation.replace(image_probs=probs[self.part == 1]),
            test.replace(image_probs=probs[self.part == 2]),
        )


class PublishedSource(Source):
    """A published data set: its training split, and its evaluation split with stored P(y | image).

    A share ``data.validation`` of the evaluation split is held out to choose by.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        data = config.data
        self.classes = load_classes(data.name, data.path)
        self.num_classes = len(self.classes)
        self.train = self._read("train", predictions="")
        self._subsets: dict[float, Tensor] = {}
        seeing = [method for method in config.methods if _sees(for_method(config, method))]
        if seeing and self.train.features is None:
            raise DatasetNotFoundError(
                f"expected features {data.features!r} of {data.name} in root={data.path!r} for "
                f"the rows {', '.join(seeing)}, got none; get the file "
                "(docs/how-to/get-the-datasets.md), or leave these rows out with table.methods"
            )

    def labelled(self, fraction: float, generator: Generator) -> Tensor:
        """The published rows, if their file is there; others are drawn."""
        target = required(self.train.target, "target")
        if fraction in self._subsets:
            return self._subsets[fraction]
        if fraction < 1:
            try:
                found = load_subset(self.config.data.name, self.config.data.path, fraction)
            except DatasetNotFoundError as error:
                logger.info("%s; labels are drawn", error)
            else:
                return self._subsets.setdefault(fraction, found)
        return few_shot(target, fraction, generator=generator)

    def judged(
        self, fraction: float, labelled: LocationDataset
    ) -> tuple[LocationDataset | None, LocationDataset]:
        """See `Source`."""
        data = self.config.data
        stored = data.predictions not in ("probe", "none")
        split = data.split or "val"
        whole = self._read(
            split, predictions=(data.predictions or None) if stored else "", fraction=fraction
        )
        if stored and whole.image_probs is None:
            raise DatasetNotFoundError(
                f"expected P(y | image) of {data.name} '{split}' for {fraction:.0%} of the labels "
                f"in root={data.path!r}, got none; get the file, which `geoenc data check` names "
                "(docs/how-to/get-the-datasets.md), or set data.predictions to probe or none"
            )
        generator = Generator().manual_seed(self.config.seed)
        held_out = round(len(whole) * data.validation)
        rows = torch.randperm(len(whole), generator=generator)
        validation = whole.subset(rows[:held_out].sort().values) if held_out else None
        test = whole.subset(rows[held_out:].sort().values) if held_out else whole
        if data.predictions == "probe":
            return self._probed(labelled, validation, test)
        return validation, test

    def _probed(
        self, labelled: LocationDataset, validation: LocationDataset | None, test: LocationDataset
    ) -> tuple[LocationDataset, LocationDataset]:
        if validation is None:
            raise ValueError(
                "expected a validation part to choose the penalty of the linear probe on, got "
                "none; set data.validation, for example to 0.2"
            )
        classify = functools.partial(
            classify_images, self.config, labelled, validation, num_classes=self.num_classes
        )
        both = [
            part.replace(image_probs=classify(required(part[:].features, "features")))
            for part in (validation, test)
        ]
        return both[0], both[1]

    def _read(self, split: str, **options: object) -> LocationDataset:
        data = self.config.data
        if data.name not in READERS:
            raise ValueError(
                f"expected data.name among {', '.join(READERS)}, or empty for a table of yours, "
                f"got {data.name!r}"
            )
        read = functools.partial(READERS[data.name], data.path, split, **options)
        try:
            return read(features=data.features or None)
        except DatasetNotFoundError as error:
            if not data.features:
                raise
            without = read(features="")
            logger.warning("%s; methods that need these features cannot run", error)
            return without


def _sees(config: Config) -> bool:
    """Whether a method trains on image features."""
    place = config.use_location and not config.prior
    return place and (config.joint.location != "none" or config.pretrain.objective != "none")


def sources(
    config: Config,
    folder: Path,
    images: GeotaggedImages | None = None,
    parts: Mapping[str, Tensor] | None = None,
) -> dict[str, Callable[[], Source]]:
    """What makes the source of each split; features are computed when it is called."""
    names = config.table.splits
    if config.data.name:
        if names != ("given",):
            raise ValueError(
                f'expected table.splits=["given"] for the published splits of '
                f"{config.data.name!r}, got {list(names)}"
            )
        return {"given": functools.partial(PublishedSource, config)}
    images = load_images(config) if images is None else images
    for fraction in config.table.fractions:
        few_shot(labels(images), fraction)  # refuses what is no share, before anything is written
    made = {n: split_parts(config, images, n) if parts is None else parts[n] for n in names}
    return {
        name: functools.partial(TableSource, config, images, made[name], folder / "features" / name)
        for name in names
    }


def class_names(config: Config, images: GeotaggedImages | None = None) -> tuple[str, ...]:
    """Names of the classes that the targets number."""
    if config.data.name:
        return load_classes(config.data.name, config.data.path)
    return (load_images(config) if images is None else images).classes


def load_images(config: Config) -> GeotaggedImages:
    """The images that ``config.data`` names, without classes of too few samples."""
    data = config.data
    if data.path:
        columns = ("lon", "lat", "label", "image", "features", "split")
        images = load_geotagged(
            data.path, **{name: getattr(data, name) or None for name in columns}
        )
    else:
        images = load_globe(label=data.label) if data.label else load_globe()
    return frequent(images, data.min_samples)


def labels(images: GeotaggedImages) -> Tensor:
    if images.target is None:
        raise ValueError(
            "expected a table with labels, got one without; name the column with data.label=COLUMN"
        )
    return images.target


def frequent(images: GeotaggedImages, min_samples: int) -> GeotaggedImages:
    """Leave out samples of rare classes and number the others anew; unlabelled ones stay."""
    target = labels(images)
    counts = target[target >= 0].bincount(minlength=len(images.classes))
    kept = (counts >= max(min_samples, 1)).nonzero()[:, 0]
    if len(kept) < 2:
        raise ValueError(
            f"expected at least two classes with {max(min_samples, 1)} samples, got {len(kept)}; "
            "lower data.min_samples or choose another label"
        )
    number = torch.full((len(counts) + 1,), -2)
    number[kept] = torch.arange(len(kept))
    number[-1] = -1  # where target -1 points to
    renumbered = number[target]
    rows = (renumbered >= -1).nonzero()[:, 0]
    names = images.classes or tuple(str(i) for i in range(len(counts)))
    return dataclasses.replace(
        take(images, rows),
        target=renumbered[rows],
        classes=tuple(names[i] for i in kept.tolist()),
    )


def take(images: GeotaggedImages, rows: Tensor) -> GeotaggedImages:
    """Some samples of many, by their row numbers."""
    paths = images.image_paths
    optional: dict[str, Any] = {
        name: None if column is None else column[rows]
        for name in ("target", "images", "features", "split")
        for column in [getattr(images, name)]
    }
    return dataclasses.replace(
        images,
        lonlat=images.lonlat[rows],
        image_paths=None if paths is None else tuple(paths[i] for i in rows.tolist()),
        **optional,
    )


def split_parts(config: Config, images: GeotaggedImages, name: str) -> Tensor:
    """0 train, 1 validation, 2 test for each sample, the same for all methods and seeds."""
    generator = Generator().manual_seed(config.seed)
    if name == "random":
        return random_split(len(images), generator=generator)
    if name == "blocked":
        return block_split(images.lonlat, degrees=config.data.block_degrees, generator=generator)
    if images.split is None:
        raise ValueError(
            "expected a table with a column for the split 'given', got none; name it with "
            "data.split=COLUMN, or choose table.splits among 'random' and 'blocked'"
        )
    return images.split


def feature_table(config: Config, images: GeotaggedImages, train: Tensor, cache: Path) -> Tensor:
    """Frozen features, standardised (and rotated) by the statistics of the training part."""
    settings = config.features
    source = images.images if images.images is not None else images.image_paths
    if settings.name == "table" or source is None:
        if images.features is None:
            raise ValueError(
                "expected a table with images or features, got neither; name the columns with "
                "data.image=COLUMN, or store columns feat_0, feat_1, ..."
            )
        features = images.features
    else:
        module = _feature_module(config, source, train)
        features = image_features(source, module, cache=cache / "features.npy")
    return standardised(features, train, settings.components, settings.whitening)


def _feature_module(
    config: Config, source: Tensor | tuple[str, ...], train: Tensor
) -> torch.nn.Module:
    settings = config.features
    if settings.name == "TransformersFeatures":
        return TransformersFeatures(**settings.arguments)
    if settings.name == "RandomConvFeatures":
        rows = train.nonzero()[:, 0]
        seen = source[rows] if isinstance(source, Tensor) else [source[i] for i in rows.tolist()]
        generator = Generator().manual_seed(config.seed)
        return RandomConvFeatures(**settings.arguments).fit(seen, generator=generator)
    raise ValueError(
        "expected features.name RandomConvFeatures, TransformersFeatures or table, got "
        f"{settings.name!r}"
    )


def standardised(features: Tensor, train: Tensor, components: int, whitening: float) -> Tensor:
    """(x - mean) / std, then rotated to principal components scaled by variance^(-whitening / 2).

    All statistics are those of the training part. The result has a mean square of 1.

    Shape:
        features ``(N, D)``, train ``(N,)`` booleans; ``(N, components or D)`` float32.
    """
    seen = features[train].double()
    mean, deviation = seen.mean(0), seen.std(0).clamp_min(1e-6)
    seen = (seen - mean) / deviation
    scaled = ((features - mean.float()) / deviation.float()).float()
    if components == 0:
        return scaled
    variance, directions = torch.linalg.eigh(seen.mT @ seen / len(seen))
    variance, directions = variance.flip(0)[:components], directions.flip(1)[:, :components]
    scale = variance.clamp_min(1e-9) ** (-whitening / 2)
    scale = scale / (scale.square() * variance).mean().sqrt()
    return scaled @ (directions * scale).float()
