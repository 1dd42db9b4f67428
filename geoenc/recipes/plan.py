"""What a run would take: sizes, and time and memory measured on a few steps of each method."""

import csv
import dataclasses
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from geoenc.data.dataset import LocationDataset
from geoenc.data.geotagged import GeotaggedImages
from geoenc.distributed import rank
from geoenc.recipes import csp, joint
from geoenc.recipes.config import Config, Features, for_method
from geoenc.recipes.sources import Source, feature_table, load_images, sources, take
from geoenc.recipes.study import check

_STEPS = 4
"""Of a trial; the fastest but the first counts."""
_IMAGES_TO_TRY = 256


def plan(config: Config, images: GeotaggedImages | None = None) -> str:
    """The resolved settings, and what each method would train, for how long, in how much memory.

    Nothing is written and nothing is trained to the end. Each stage is timed on a few steps of
    the real data; time for images to become features, for the linear probe and for judging is not
    counted. One of several processes says it, the others nothing.

    Args:
        config: of the run.
        images: instead of those that ``config.data`` names.
    """
    check(config)
    lines = [json.dumps(dataclasses.asdict(config), indent=1), ""]
    total = 0.0
    if not config.data.name:
        config, images = _with_features(config, load_images(config) if images is None else images)
    folder = Path()  # where features would be kept, if there were any left to compute
    for split, make in sources(config, folder, images).items():
        source = make()
        count = len(source.train)
        width = 0 if source.train.features is None else source.train.features.shape[1]
        lines.append(
            f"{split} split: {count:,} samples to train on, {source.num_classes:,} classes, "
            f"features of {width:,} numbers ({4 * count * width / 2**30:.2f} GiB as float32)"
        )
        head = (
            "method",
            "parameters",
            "pre-training steps",
            "fine-tuning steps",
            "all seeds",
            "memory",
        )
        rows: list[tuple[str, ...]] = [head]
        generator = Generator().manual_seed(config.seed)
        labelled = [source.labelled(share, generator) for share in config.table.fractions]
        for method in config.methods:
            estimate = _estimate(for_method(config, method), source, labelled)
            total += estimate.seconds
            rows.append((method, *estimate.cells()))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.rjust(size) for cell, size in zip(row[1:], widths[1:], strict=True))
            lines.append(f"  {row[0].ljust(widths[0])}  {'  '.join(cells)}")
        lines.append("")
    lines.append(
        f"training takes about {_duration(total)} for {config.table.seeds} seeds on this machine"
    )
    return "\n".join(lines) if rank() == 0 else ""


def _with_features(config: Config, images: GeotaggedImages) -> tuple[Config, GeotaggedImages]:
    """Invented features, as wide as those of the first images are."""
    if config.features.name == "table" or (images.images is None and images.image_paths is None):
        return config, images
    few = take(images, torch.arange(min(len(images), _IMAGES_TO_TRY)))
    with tempfile.TemporaryDirectory() as folder:
        seen = torch.ones(len(few), dtype=torch.bool)
        width = feature_table(config, few, seen, Path(folder)).shape[1]
    features = torch.randn(len(images), width, generator=Generator().manual_seed(0))
    table = dataclasses.replace(images, images=None, image_paths=None, features=features)
    return dataclasses.replace(config, features=Features(name="table")), table


@dataclasses.dataclass
class _Estimate:
    parameters: int = 0
    pretraining: int = 0
    finetuning: int = 0
    seconds: float = 0.0
    bytes: float = 0.0

    def cells(self) -> tuple[str, ...]:
        if self.parameters == 0:
            return "–", "–", "–", "–", "–"
        return (
            f"{self.parameters:,}", f"{self.pretraining:,}", f"{self.finetuning:,}",
            _duration(self.seconds), f"{self.bytes / 2**20:,.0f} MiB",
        )  # fmt: skip


def _estimate(config: Config, source: Source, labelled: list[Tensor]) -> _Estimate:
    """Of one method, all seeds and shares of labels together."""
    made = _Estimate()
    if not config.use_location or config.prior:
        return made
    seeds = config.table.seeds
    if config.joint.location != "none":
        trial = _trial(config, "joint", source)
        made.parameters = trial.parameters
        steps = sum(_steps(len(rows), config.joint.batch_size) for rows in labelled)
        made.finetuning = steps * config.joint.epochs
        made.seconds, made.bytes = seeds * made.finetuning * trial.seconds, trial.bytes
        return made
    trial = _trial(config, "finetune", source)
    made.parameters, made.bytes = trial.parameters, trial.bytes
    settings = config.finetune
    for rows in labelled:
        target = source.train.target
        per_epoch = len(csp._batches(rows, settings, target, Generator()))
        made.finetuning += max(settings.epochs * per_epoch, settings.min_steps)
    made.seconds = made.finetuning * trial.seconds
    if config.pretrain.objective != "none":
        trial = _trial(config, "pretrain", source)
        rows = (~source.train.lonlat.isnan().any(1)).nonzero()[:, 0]
        per_epoch = len(csp._batches(rows, config.pretrain, source.train.target, Generator()))
        made.pretraining = per_epoch * config.pretrain.epochs
        made.seconds += made.pretraining * trial.seconds
        made.parameters = max(made.parameters, trial.parameters)
        made.bytes = max(made.bytes, trial.bytes)
    made.seconds *= seeds
    return made


@dataclasses.dataclass
class _Trial:
    """Seconds and bytes of one step of a stage."""

    parameters: int
    seconds: float
    bytes: float


def _trial(config: Config, stage: str, source: Source) -> _Trial:
    settings = getattr(config, stage)
    size = min(settings.batch_size, len(source.train))
    rows = torch.randperm(len(source.train), generator=Generator().manual_seed(0))[:size]
    known = source.train.subset(rows)
    lonlat = known.lonlat.nan_to_num(0.0)
    target = None if known.target is None else known.target.clamp_min(0)
    data = known.replace(lonlat=lonlat, target=target)
    changed: dict[str, Any] = {"epochs": _STEPS, "patience": 0}
    if stage == "finetune":
        changed["min_steps"] = 0
    if stage != "joint":
        changed["batches"] = "shuffled"
    hardware = dataclasses.replace(config.hardware, logger="csv")
    settings = dataclasses.replace(settings, **changed)
    short = dataclasses.replace(config, hardware=hardware, **{stage: settings})
    with tempfile.TemporaryDirectory() as logs, _saved_bytes() as peak:
        model = _run(short, stage, data, source.num_classes, f"{logs}/{stage}")
        with open(f"{logs}/{stage}/metrics.csv", encoding="utf-8") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    width = 0 if data.features is None else data.features.shape[1]
    # weights, gradients and two moments of Adam; what backward needs; the batch
    memory = 16 * parameters + peak[0] + 4 * size * width
    return _Trial(parameters, min(seconds[1:]), memory)


def _run(
    config: Config, stage: str, data: LocationDataset, classes: int, logs: str
) -> torch.nn.Module:
    if stage == "pretrain":
        return csp.pretrain(config, data, logs=logs)
    if stage == "joint":
        return joint.train(config, data, num_classes=classes, logs=logs)
    return csp.finetune(config, None, data, num_classes=classes, logs=logs)


@contextmanager
def _saved_bytes() -> Iterator[list[float]]:
    """The most that is kept at once for backward passes, weights left out."""
    peak, current, held = [0.0], [0.0], Counter[int]()

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if not (tensor.is_leaf and tensor.requires_grad):
            held[place] += 1
            if held[place] == 1:
                current[0] += tensor.untyped_storage().nbytes()
                peak[0] = max(peak[0], current[0])
        return tensor

    def unpack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if held[place] > 0:
            held[place] -= 1
            if held[place] == 0:
                current[0] -= tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield peak


def _steps(rows: int, size: int) -> int:
    return -(-rows // size)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
