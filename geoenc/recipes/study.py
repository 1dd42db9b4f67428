"""The table of the CSP paper on any geo-tagged images: every method, share of labels, split, seed.

A run lives in one folder. Whatever is finished is on disk, so that a run that was interrupted
goes on where it was and ends with the same numbers:

    config.json      the resolved settings; a folder belongs to one set of them
    features/        image features, memory-mapped
    pretrained/      one model per split, seed and method
    classifiers/     P(y | place) of the first seed at the smallest share of labels, for the maps
    logs/            loss, learning rate and speed of each epoch of each stage
    predictions/     rank and best classes of each test sample, if asked for
    scores.jsonl     one line per split, seed, method and share of labels
    results.json     all scores with settings, versions and times
    table.md         mean and standard deviation, in the form of the paper
    location.md      the same for the place alone
    figures/         maps and curves
"""

import dataclasses
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

import geoenc
from geoenc._files import append_line, write_text
from geoenc._optional import require
from geoenc.data.dataset import LocationDataset
from geoenc.data.geotagged import GeotaggedImages
from geoenc.data.samplers import place_sampler
from geoenc.distributed import rank
from geoenc.encoder import LocationEncoder
from geoenc.pretrained import from_pretrained
from geoenc.priors import PRIORS, Prior, best_prior
from geoenc.recipes import csp, joint, report
from geoenc.recipes.batches import required
from geoenc.recipes.config import Config, for_method
from geoenc.recipes.engine import start
from geoenc.recipes.sources import Source, class_names, load_images, sources

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
        What ``results.json`` holds; of several processes, only the first knows.

    Raises:
        FileExistsError: the folder holds a run with other settings.
    """
    folder = Path(folder)
    check(config)
    fabric = start(config)
    if rank() > 0:
        logging.getLogger("geoenc").setLevel(logging.WARNING)
    if images is None and not config.data.name:
        images = load_images(config)
    made = sources(config, folder, images, splits)
    if rank() == 0:
        _claim(config, folder, force)
    fabric.barrier()
    scores = _Scores(folder / "scores.jsonl")
    done = fabric.broadcast({scores.cell(row) for row in scores.rows})
    table, methods = config.table, config.methods
    cells = product(table.splits, range(table.seeds), table.fractions, methods)
    tqdm = require("tqdm", extra="train").tqdm
    with tqdm(
        total=len(list(cells)), desc="table", unit="score", smoothing=0.05, disable=rank() > 0
    ) as bar:
        bar.update(len(done))
        for split in table.splits:
            part = None
            for seed, fraction in product(range(table.seeds), table.fractions):
                todo = [m for m in methods if (split, seed, fraction, m) not in done]
                if not todo:
                    continue
                if part is None:
                    with fabric.rank_zero_first():
                        part = Part(config, split, folder, made[split](), fabric)
                for method, result in part.scores(seed, fraction, todo):
                    scores.add(
                        {"split": split, "seed": seed, "fraction": fraction, "method": method}
                        | result
                    )
                    bar.update()
    results = {}
    if rank() == 0:
        classes = class_names(config, images)
        results = report.write(config, folder, scores.rows, classes, _environment())
    fabric.barrier()
    return results


def check(config: Config) -> None:
    """Refuse what a row could not be run with, before any row is run.

    Raises:
        ValueError: keys, random places, priors or encoders that do not exist; names the row.
    """
    for method in config.methods:
        settings = for_method(config, method)
        try:
            place_sampler(settings.pretrain.negatives)
            place_sampler(settings.finetune.background)
            if settings.prior:
                _priors(settings.prior)
            elif settings.use_location:
                LocationEncoder.from_config(vars(settings.encoder))
        except (ValueError, TypeError) as error:
            raise ValueError(f"in the row {method!r}: {error}") from error


def _priors(settings: Mapping[str, Any]) -> list[Prior]:
    """One prior for each combination of the listed settings."""
    choices = dict(settings)
    kind = choices.pop("name", None)
    if kind not in PRIORS:
        raise ValueError(f"expected prior.name among {', '.join(PRIORS)}, got {kind!r}")
    values = [value if isinstance(value, list) else [value] for value in choices.values()]
    return [PRIORS[kind](**dict(zip(choices, one, strict=True))) for one in product(*values)]


@dataclass
class Part:
    """One split, and what all methods and shares of labels have in common."""

    config: Config
    name: str
    folder: Path
    source: Source
    fabric: Any

    def scores(
        self, seed: int, fraction: float, methods: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The scores of some methods, one by one; all processes train, the first one judges."""
        generator = Generator().manual_seed(self._seed(seed))
        labelled = self.source.train.subset(self.source.labelled(fraction, generator))
        validation, test = self.source.judged(fraction, labelled)
        for method in methods:
            started = time.monotonic()
            config = for_method(self.config, method)
            config = dataclasses.replace(config, seed=self._seed(seed))
            cell = _Cell(self, config, method, seed, fraction, labelled, validation, test)
            classifier = cell.classifier()
            if rank() == 0:
                result = cell.result(classifier)
                seconds = round(time.monotonic() - started, 3)
                yield method, result | {"labels": len(labelled), "seconds": seconds}

    def _seed(self, seed: int) -> int:
        return self.config.seed + SEED_STEP * seed


@dataclass
class _Cell:
    """One number of the table: a method, a share of the labels, a split and a seed."""

    part: Part
    config: Config
    method: str
    seed: int
    fraction: float
    labelled: LocationDataset
    validation: LocationDataset | None
    test: LocationDataset

    @property
    def name(self) -> str:
        return f"{file_name(self.method)}-{self.seed}-{self.fraction:g}"

    def classifier(self) -> Any:
        """Whatever the method takes to know the place; None judges the image alone."""
        config, num_classes = self.config, self.part.source.num_classes
        if not config.use_location:
            return None
        if config.prior:
            return self._prior() if rank() == 0 else None
        files: dict[str, Any] = {
            "checkpoint": self.part.folder / "checkpoints" / f"{self.part.name}-{self.name}.pt",
            "logs": self.part.folder / "logs" / self.part.name / self.name,
        }
        if config.joint.location != "none":
            return joint.train(
                config, self.labelled, num_classes=num_classes, validation=self.validation, **files
            )
        return csp.finetune(
            config,
            self._pretrained(),
            self.labelled,
            num_classes=num_classes,
            validation=self.validation,
            **files,
        )

    def _pretrained(self) -> LocationEncoder | None:
        if self.config.pretrain.objective == "none":
            return None
        part, name = self.part, f"{file_name(self.method)}-{self.seed}"
        folder = part.folder / "pretrained" / part.name / name
        if not part.fabric.broadcast((folder / "config.json").is_file()):
            losses: list[float] = []
            model = csp.pretrain(
                self.config,
                part.source.train,
                validation=self.validation,
                checkpoint=folder / "checkpoint.pt",
                logs=part.folder / "logs" / part.name / f"{name}-pretraining",
                history=losses,
            )
            if rank() == 0:
                metadata = {"method": self.method, "loss": losses}
                model.location.save_pretrained(folder, metadata=metadata)
            part.fabric.barrier()
        return from_pretrained(folder, expected=LocationEncoder)

    def _prior(self) -> Prior:
        """Counts of the labelled places; of lists of settings the best."""
        num_classes = self.part.source.num_classes
        candidates = _priors(self.config.prior)
        known = self.labelled.lonlat, required(self.labelled.target, "target")
        if len(candidates) == 1:
            return candidates[0].fit(*known, num_classes)
        return self._best_prior(candidates, known)

    def _best_prior(self, candidates: list[Prior], known: tuple[Tensor, Tensor]) -> Prior:
        """The best on the validation part; without one, on a fifth of the labels, then on all."""
        num_classes = self.part.source.num_classes
        if self.validation is not None:
            held_out = self.validation.lonlat, required(self.validation.target, "target")
            return best_prior(candidates, known, held_out, num_classes)
        generator = Generator().manual_seed(self.config.seed)
        rows = torch.randperm(len(known[1]), generator=generator)
        first, rest = rows[: len(rows) // 5], rows[len(rows) // 5 :]
        held_out, seen = ((known[0][part], known[1][part]) for part in (first, rest))
        return best_prior(candidates, seen, held_out, num_classes).fit(*known, num_classes)

    def result(self, classifier: Any) -> dict[str, Any]:
        """Scores on the test part, and what was chosen on the validation part."""
        part, config = self.part, self.config
        rows: dict[str, Any] = {}
        if config.table.predictions:
            rows["predictions"] = part.folder / "predictions" / f"{part.name}-{self.name}.parquet"
        if classifier is None or config.joint.location != "none":
            return csp.evaluate(config, classifier, self.test, **rows)
        if (
            isinstance(classifier, geoenc.LocationClassifier)
            and self.seed == 0
            and self.fraction == min(config.table.fractions)
        ):
            classifier.save_pretrained(
                part.folder / "classifiers" / part.name / file_name(self.method),
                metadata={
                    "method": self.method,
                    "fraction": self.fraction,
                    "classes": list(part.source.classes),
                },
            )
        if self.test.image_probs is None:
            return csp.evaluate(config, classifier, self.test, **rows)
        fitted = csp.best_geo_prior(config, classifier, self.labelled, self.validation)
        chosen = {
            "weight": fitted.weight, "prior_weight": fitted.prior_weight, "floor": fitted.floor
        }  # fmt: skip
        if self.validation is not None:
            held_out = csp.evaluate(config, classifier, self.validation, geo_prior=fitted)
            chosen["validation_top1"] = held_out["top1"]
        return csp.evaluate(config, classifier, self.test, geo_prior=fitted, **rows) | chosen


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
        if text and rank() == 0:
            write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    @staticmethod
    def cell(row: Mapping[str, Any]) -> tuple[str, int, float, str]:
        """Which number of the table a row is."""
        return row["split"], row["seed"], row["fraction"], row["method"]

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
        for name in (
            "features",
            "pretrained",
            "classifiers",
            "checkpoints",
            "logs",
            "figures",
            "predictions",
        ):
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
