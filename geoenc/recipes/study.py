"""The table of the CSP paper on any geo-tagged images: every method, share of labels, split, seed.

A run lives in one folder. Whatever is finished is on disk, so that a run that was interrupted
goes on where it was and ends with the same numbers:

    config.json      the resolved settings; a folder belongs to one set of them
    features/        image features, memory-mapped
    pretrained/      one model per split, seed and method
    classifiers/     P(y | place) of the first seed at the smallest share of labels, for the maps
    scores.jsonl     one line per split, seed, method and share of labels
    results.json     all scores with settings, versions and times
    table.md         mean and standard deviation, in the form of the paper
    location.md      the same for the place alone
    figures/         maps and curves
"""

import dataclasses
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

import geoenc
from geoenc._files import append_line, write_text
from geoenc._optional import require
from geoenc.data.dataset import LocationDataset
from geoenc.data.features import RandomConvFeatures, TransformersFeatures, image_features
from geoenc.data.geotagged import GeotaggedImages, load_geotagged
from geoenc.data.globe import load_globe
from geoenc.data.samplers import few_shot
from geoenc.data.splits import block_split, random_split
from geoenc.encoder import LocationEncoder
from geoenc.pretrained import from_pretrained
from geoenc.recipes import csp, report
from geoenc.recipes.config import Config, for_method

SEED_STEP = 1000
"""Distance between the seeds of repetitions, so that the stages of one never meet another's."""


def run(
    config: Config,
    folder: str | os.PathLike[str],
    *,
    images: GeotaggedImages | None = None,
    splits: Mapping[str, Tensor] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Run, or go on with, the whole experiment; see the module for what the folder holds.

    Args:
        config: the recipe, its methods and the table.
        folder: of this run; made if need be.
        images: instead of those that ``config.data`` names.
        splits: parts (0 train, 1 validation, 2 test) by the names in ``config.table.splits``,
            instead of those that are drawn.
        force: delete a run with other settings that the folder holds.

    Returns:
        What ``results.json`` holds.

    Raises:
        FileExistsError: the folder holds a run with other settings.
    """
    folder = Path(folder)
    if images is None:
        images = load_images(config)
    for fraction in config.table.fractions:
        few_shot(_labels(images), fraction)  # refuses what is no share, before anything is written
    parts = {
        name: split_parts(config, images, name) if splits is None else splits[name]
        for name in config.table.splits
    }
    _claim(config, folder, force)
    scores = _Scores(folder / "scores.jsonl")
    cells = [
        (split, seed, fraction, method)
        for split in config.table.splits
        for seed in range(config.table.seeds)
        for fraction in config.table.fractions
        for method in config.methods
    ]
    tqdm = require("tqdm", extra="train").tqdm
    with tqdm(total=len(cells), desc="table", unit="score", smoothing=0.05) as bar:
        bar.update(sum(cell in scores for cell in cells))
        for split in config.table.splits:
            part = None
            for seed in range(config.table.seeds):
                for fraction in config.table.fractions:
                    todo = [m for m in config.methods if (split, seed, fraction, m) not in scores]
                    if not todo:
                        continue
                    part = part or Part.prepare(config, images, split, parts[split], folder)
                    for method, result in part.scores(seed, fraction, todo):
                        scores.add(
                            {"split": split, "seed": seed, "fraction": fraction, "method": method}
                            | result
                        )
                        bar.update()
    return report.write(config, folder, scores.rows, images.classes, _environment())


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


def _labels(images: GeotaggedImages) -> Tensor:
    if images.target is None:
        raise ValueError(
            "expected a table with labels, got one without; name the column with data.label=COLUMN"
        )
    return images.target


def frequent(images: GeotaggedImages, min_samples: int) -> GeotaggedImages:
    """Leave out samples of rare classes and number the others anew; unlabelled ones stay."""
    target = _labels(images)
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


@dataclass
class Part:
    """One split: its features, and what all methods and shares of labels have in common."""

    config: Config
    name: str
    folder: Path
    dataset: LocationDataset
    part: Tensor
    num_classes: int

    @classmethod
    def prepare(
        cls, config: Config, images: GeotaggedImages, name: str, part: Tensor, folder: Path
    ) -> "Part":
        features = _features(config, images, part == 0, folder / "features" / name)
        dataset = LocationDataset(images.lonlat, images.target, features)
        return cls(config, name, folder, dataset, part, len(images.classes))

    def scores(
        self, seed: int, fraction: float, methods: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The scores of some methods, one by one."""
        train, validation, test = (self.dataset.subset(self.part == i) for i in range(3))
        assert train.target is not None
        assert self.dataset.features is not None
        generator = Generator().manual_seed(self._seed(seed))
        labelled = train.subset(few_shot(train.target, fraction, generator=generator))
        image_probs = csp.classify_images(
            self.config, labelled, validation, self.dataset.features, num_classes=self.num_classes
        )
        validation = validation.replace(image_probs=image_probs[self.part == 1])
        test = test.replace(image_probs=image_probs[self.part == 2])
        for method in methods:
            started = time.monotonic()
            config = for_method(self.config, method)
            config = dataclasses.replace(config, seed=self._seed(seed))
            if config.use_location:
                encoder = self._pretrained(config, method, seed, train)
                result = self._finetuned(
                    config, method, seed, fraction, encoder, labelled, validation, test
                )
            else:
                result = csp.evaluate(config, None, test)
            yield (
                method,
                result | {"labels": len(labelled), "seconds": round(time.monotonic() - started, 3)},
            )

    def _seed(self, seed: int) -> int:
        return self.config.seed + SEED_STEP * seed

    def _pretrained(
        self, config: Config, method: str, seed: int, train: LocationDataset
    ) -> LocationEncoder | None:
        if config.pretrain.objective == "none":
            return None
        folder = self.folder / "pretrained" / self.name / f"{file_name(method)}-{seed}"
        if (folder / "config.json").is_file():
            return from_pretrained(folder, expected=LocationEncoder)
        losses: list[float] = []
        model = csp.pretrain(config, train, checkpoint=folder / "checkpoint.pt", history=losses)
        model.location.save_pretrained(folder, metadata={"method": method, "loss": losses})
        return from_pretrained(folder, expected=LocationEncoder)

    def _finetuned(
        self,
        config: Config,
        method: str,
        seed: int,
        fraction: float,
        encoder: LocationEncoder | None,
        labelled: LocationDataset,
        validation: LocationDataset,
        test: LocationDataset,
    ) -> dict[str, Any]:
        losses: list[float] = []
        name = f"{file_name(method)}-{seed}-{fraction:g}"
        classifier = csp.finetune(
            config,
            encoder,
            labelled,
            num_classes=self.num_classes,
            checkpoint=self.folder / "checkpoints" / f"{self.name}-{name}.pt",
            history=losses,
        )
        if seed == 0 and fraction == min(self.config.table.fractions):
            classifier.save_pretrained(
                self.folder / "classifiers" / self.name / file_name(method),
                metadata={"method": method, "fraction": fraction, "loss": losses},
            )
        fusion = csp.best_fusion(config, classifier, labelled, validation)
        held_out = csp.evaluate(config, classifier, validation, fusion=fusion)
        return csp.evaluate(config, classifier, test, fusion=fusion) | {
            "weight": fusion.weight,
            "prior_weight": fusion.prior_weight,
            "validation_top1": held_out["top1"],
        }


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


def _features(config: Config, images: GeotaggedImages, train: Tensor, cache: Path) -> Tensor:
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


def file_name(method: str) -> str:
    """A method's name as a file name: ``Sup. Only (grid)`` becomes ``sup-only-grid``."""
    words = "".join(c if c.isalnum() else " " for c in method.lower()).split()
    return "-".join(words)


class _Scores:
    """Finished cells, appended line by line; a line torn by an interruption is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for line in text.splitlines():
            try:
                self.rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        if text:
            write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def __contains__(self, cell: tuple[str, int, float, str]) -> bool:
        keys = ("split", "seed", "fraction", "method")
        return any(tuple(row[key] for key in keys) == cell for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        append_line(self.path, json.dumps(row))
        self.rows.append(row)


def _claim(config: Config, folder: Path, force: bool) -> None:
    """Make the folder this run's own, or refuse one with other settings."""
    settings = dataclasses.asdict(config)
    document = json.dumps({"geoenc": geoenc.__version__, "config": settings}, indent=2) + "\n"
    path = folder / "config.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(document):
        if not force:
            raise FileExistsError(
                f"expected a new folder or a run with the same settings, got {str(folder)!r} with "
                "other settings; choose another with --out, or delete it with --force"
            )
        for name in ("features", "pretrained", "classifiers", "checkpoints", "figures"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("scores.jsonl", "results.json", "table.md", "location.md"):
            (folder / name).unlink(missing_ok=True)
    elif not path.is_file() and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"expected an empty folder or an earlier run, got {str(folder)!r} with other files; "
            "choose another with --out"
        )
    write_text(path, document)


def _environment() -> dict[str, Any]:
    return {
        "geoenc": geoenc.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
