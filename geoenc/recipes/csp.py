"""Contrastive Spatial Pre-Training (CSP): pre-train, fine-tune, evaluate. Copy and edit.

    model      = pretrain(config, unlabelled)           # places and features, no labels
    classifier = finetune(config, model.location, labelled)
    scores     = evaluate(config, classifier, test)     # P(y | image) P(y | place)

Reference:
    Mai, Lao, He, Song and Ermon, CSP: Self-Supervised Contrastive Spatial Pre-Training for
    Geospatial-Visual Representations, ICML 2023.
"""

import contextlib
import copy
import io
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from geoenc import sampling
from geoenc._files import atomic_path
from geoenc._optional import require
from geoenc.data.dataset import LocationDataset
from geoenc.encoder import LocationEncoder
from geoenc.losses import CSPLoss, PresenceAbsenceLoss
from geoenc.metrics import geo_posterior, reciprocal_rank, top_k_accuracy
from geoenc.models import DualEncoder, LocationClassifier
from geoenc.network import FFN
from geoenc.recipes.config import Config

logger = logging.getLogger(__name__)

NEGATIVES: dict[str, Callable[..., Tensor]] = {
    "uniform": sampling.uniform,
    "legacy_disc": sampling.legacy_disc,
}


def pretrain(
    config: Config,
    dataset: LocationDataset,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    history: list[float] | None = None,
) -> DualEncoder:
    """Stage B: learn e(x) and the projection of the features from pairs of place and image.

    Args:
        config: uses ``seed``, ``encoder``, ``pretrain`` and ``hardware``.
        dataset: places and features; labels are not looked at. Samples without a place are left
            out.
        checkpoint: a file to resume from if it exists, and to save to as time passes.
        history: the mean loss of each epoch is appended.

    Returns:
        The dual encoder, in evaluation mode, on the CPU.
    """
    settings = config.pretrain
    dataset = dataset.with_location()
    features = _required(dataset.features, "features")
    fabric = _fabric(config)
    with _seeded(config.seed):
        generator = Generator().manual_seed(config.seed)
        location = LocationEncoder.from_config(vars(config.encoder))
        if settings.objective == "csp":
            step: _ContrastiveStep | _RegressionStep = _ContrastiveStep(
                location, features.shape[1], config, generator
            )
        else:
            step = _RegressionStep(location, features.shape[1])
        optimizer = _adam(step.parameters(), settings.learning_rate, settings.weight_decay)
        wrapped, optimizer = fabric.setup(step, optimizer)
        training = _Training(wrapped, optimizer, generator, checkpoint, config)
        training.resume()
        gathered = features.new_empty(settings.batch_size, features.shape[1])
        for _ in _epochs(training, settings.epochs, "pre-training"):
            for rows in _batches(len(dataset), settings.batch_size, generator):
                batch = (dataset.lonlat[rows], _gathered(features, rows, gathered))
                loss = wrapped(*[tensor.to(fabric.device) for tensor in batch])
                training.step(loss, fabric)
            training.slow_down(settings.decay)
    if history is not None:
        history.extend(training.history)
    return step.model.cpu().eval()


class _ContrastiveStep(nn.Module):
    """One step of CSP: one pass of the network over all three views of the batch."""

    def __init__(
        self, location: LocationEncoder, num_features: int, config: Config, generator: Generator
    ) -> None:
        super().__init__()
        settings = config.pretrain
        image = FFN(num_features, location.out_features, depth=0, final_activation=False)
        self.model, self.generator = DualEncoder(location, image), generator
        self.negatives = NEGATIVES[settings.negatives]
        self.num_negatives = settings.num_negatives
        self.loss = CSPLoss(
            settings.criterion,
            location_weight=settings.location_weight,
            dropout_weight=settings.dropout_weight,
            temperature=settings.temperature,
            location_temperature=settings.location_temperature,
            dropout_temperature=settings.dropout_temperature,
            symmetric=settings.symmetric,
        )

    def forward(self, lonlat: Tensor, features: Tensor) -> Tensor:
        encoder = cast(LocationEncoder, self.model.location)
        code = encoder.code(lonlat)
        views = {"location": code}
        if self.loss.dropout_weight > 0:  # the same places under a second dropout mask
            views["dropout"] = code
        if self.loss.location_weight > 0:
            count = len(lonlat) * self.num_negatives
            random = self.negatives(count, generator=self.generator, device=lonlat.device)
            views["sampled"] = encoder.code(random)
        embedded = encoder.network(torch.cat(list(views.values())))
        parts = dict(zip(views, embedded.split([len(v) for v in views.values()]), strict=True))
        if "sampled" in parts:
            parts["sampled"] = parts["sampled"].unflatten(0, (len(lonlat), -1))
        return self.loss(image=self.model.image(features), **parts)


class _RegressionStep(nn.Module):
    """One step of the MSE baseline: predict the features of an image from its place."""

    def __init__(self, location: LocationEncoder, num_features: int) -> None:
        super().__init__()
        self.model = DualEncoder(location, nn.Identity())
        self.decoder = nn.Linear(location.out_features, num_features)

    def forward(self, lonlat: Tensor, features: Tensor) -> Tensor:
        return F.mse_loss(self.decoder(self.model.location(lonlat)), features)


def finetune(
    config: Config,
    encoder: LocationEncoder | None,
    dataset: LocationDataset,
    *,
    num_classes: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    history: list[float] | None = None,
) -> LocationClassifier:
    """Stage C, and A without pre-training: learn P(y | place) from labelled places.

    Args:
        config: uses ``seed``, ``encoder``, ``finetune`` and ``hardware``.
        encoder: a pre-trained one, which is copied and not changed; None starts a new one.
        dataset: places and targets. Samples without a place or label are left out.
        num_classes: one more than the largest target if None.
        checkpoint, history: as for `pretrain`.

    Returns:
        The classifier, in evaluation mode, on the CPU.
    """
    settings = config.finetune
    target = _required(dataset.target, "target")
    dataset = dataset.subset((target >= 0) & ~dataset.lonlat.isnan().any(1))
    target = _required(dataset.target, "target")
    classes = int(target.max()) + 1 if num_classes is None else num_classes
    fabric = _fabric(config)
    with _seeded(config.seed + 1):
        generator = Generator().manual_seed(config.seed + 1)
        if encoder is None:
            encoder = LocationEncoder.from_config(vars(config.encoder))
        model = LocationClassifier(copy.deepcopy(encoder), classes).train()
        groups: list[dict[str, Any]] = [{"params": model.head.parameters()}]
        rate = settings.learning_rate * settings.encoder_rate
        if rate > 0:
            groups.append({"params": model.encoder.parameters(), "lr": rate})
        else:
            model.encoder.requires_grad_(False)
        optimizer = _adam(groups, settings.learning_rate, settings.weight_decay)
        step, optimizer = fabric.setup(_SupervisedStep(model, config, generator), optimizer)
        training = _Training(step, optimizer, generator, checkpoint, config)
        training.resume()
        per_epoch = math.ceil(len(dataset) / settings.batch_size)
        epochs = max(settings.epochs, math.ceil(settings.min_steps / per_epoch))
        for _ in _epochs(training, epochs, "fine-tuning"):
            for rows in _batches(len(dataset), settings.batch_size, generator):
                batch = (dataset.lonlat[rows], target[rows])
                training.step(step(*[tensor.to(fabric.device) for tensor in batch]), fabric)
            training.slow_down(settings.decay ** (settings.epochs / epochs))
    if history is not None:
        history.extend(training.history)
    return model.cpu().requires_grad_(True).eval()


class _SupervisedStep(nn.Module):
    """One step of presence-absence learning, with as many random places as labelled ones."""

    def __init__(self, model: LocationClassifier, config: Config, generator: Generator) -> None:
        super().__init__()
        self.model, self.generator = model, generator
        settings = config.finetune
        self.background = NEGATIVES[settings.background]
        self.loss = PresenceAbsenceLoss(
            settings.positive_weight or None, background_weight=settings.background_weight
        )

    def forward(self, lonlat: Tensor, target: Tensor) -> Tensor:
        if self.loss.background_weight == 0:
            return self.loss(self.model(lonlat), target)
        places = self.background(len(lonlat), generator=self.generator, device=lonlat.device)
        logits, background = self.model(torch.cat([lonlat, places])).chunk(2)
        return self.loss(logits, target, background)


def classify_images(
    config: Config,
    labelled: LocationDataset,
    validation: LocationDataset,
    features: Tensor,
    *,
    num_classes: int | None = None,
) -> Tensor:
    """Stage D: P(y | image) from a linear probe on frozen features.

    argmin_W mean cross-entropy + penalty / 2 |W|^2 by L-BFGS, along a path from the strongest
    penalty to the weakest; the one with the least cross-entropy on the validation part is kept.

    Args:
        config: uses ``image``.
        labelled, validation: features and targets; classes are numbered alike.
        features: of the images to judge, ``(N, D)``.
        num_classes: one more than the largest target if None.

    Returns:
        probabilities ``(N, Q)``, float64.
    """
    x, y = _required(labelled.features, "features"), _required(labelled.target, "target")
    held_x = _required(validation.features, "features")
    held_y = _required(validation.target, "target")
    classes = int(max(y.max(), held_y.max())) + 1 if num_classes is None else num_classes
    weight = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    x, held_x = (F.pad(part, (0, 1), value=1.0) for part in (x, held_x))
    best, kept = math.inf, weight.detach().clone()
    for penalty in sorted(config.image.penalties, reverse=True):
        _minimise(weight, x, y, penalty, config.image.max_iterations)
        held_out = F.cross_entropy(held_x @ weight.detach(), held_y, ignore_index=-1).item()
        if held_out < best:
            best, kept = held_out, weight.detach().clone()
    return (F.pad(features, (0, 1), value=1.0) @ kept).double().softmax(-1)


def _minimise(weight: Tensor, x: Tensor, y: Tensor, penalty: float, iterations: int) -> None:
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight, y) + penalty / 2 * weight[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


@dataclass(frozen=True)
class Fusion:
    """How image and place are multiplied: P(y | image) P(y | place)^weight / P(y)^prior_weight.

    Args:
        weight: exponent of P(y | place); 1 is the published product, 0 the image alone.
        prior_weight: exponent of P(y); 0 is the published product.
        class_prior: P(y), ``(Q,)``; needed where ``prior_weight`` is not 0.
    """

    weight: float = 1.0
    prior_weight: float = 0.0
    class_prior: Tensor | None = None

    def __call__(self, image: Tensor, place: Tensor, missing: str = "image") -> Tensor:
        prior = None
        if self.class_prior is not None and self.prior_weight != 0:
            prior = self.class_prior**self.prior_weight
        return geo_posterior(image, place, weight=self.weight, class_prior=prior, missing=missing)


def evaluate(
    config: Config,
    classifier: LocationClassifier | None,
    dataset: LocationDataset,
    *,
    fusion: Fusion | None = None,
) -> dict[str, float]:
    """Stage E: top-k accuracy of the product, of the place alone and of the image alone.

    Args:
        config: uses ``evaluate``, and ``finetune.positive_weight`` if ``evaluate.calibrated``.
        classifier: P(y | place); None judges the image alone.
        dataset: places, targets and ``image_probs``; without these the place alone is judged.
            Samples without a place are judged by the image.
        fusion: how to multiply; the published product if None. See `best_fusion`.

    Returns:
        ``top1``, ``top3``, ... and ``mrr`` of the product; ``location_top1``, ... over samples
        with a place; ``image_top1``, ...; shares in [0, 1].
    """
    target = _required(dataset.target, "target")
    dataset = dataset.subset(target >= 0)
    target = _required(dataset.target, "target")
    scores: dict[str, Tensor] = {}
    if classifier is not None:
        place = _place_probabilities(config, classifier, dataset)
        known = ~place.isnan().any(1)
        scores[""] = place
        scores["location_"] = place[known]
    if dataset.image_probs is not None:
        scores["image_"] = scores[""] = dataset.image_probs
        if classifier is not None:
            multiply = Fusion() if fusion is None else fusion
            scores[""] = multiply(dataset.image_probs, place, config.evaluate.missing)
    results = {}
    for name, score in scores.items():
        right = target[known] if name == "location_" else target
        for k in config.evaluate.top_k:
            results[f"{name}top{k}"] = top_k_accuracy(score, right, k).item()
        results[f"{name}mrr"] = reciprocal_rank(score, right).mean().item()
    return results


def best_fusion(
    config: Config,
    classifier: LocationClassifier,
    labelled: LocationDataset,
    validation: LocationDataset,
) -> Fusion:
    """The exponents with the highest top-1 on the validation part; the first of equals.

    Args:
        config: uses ``evaluate.weights`` and ``evaluate.prior_weights``.
        classifier: P(y | place).
        labelled: targets, whose frequencies (each class counted once more) are P(y).
        validation: places, targets and ``image_probs``.
    """
    target = _required(labelled.target, "target")
    counts = target[target >= 0].bincount(minlength=classifier.num_classes).double() + 1
    validation = validation.subset(_required(validation.target, "target") >= 0)
    image = _required(validation.image_probs, "image_probs")
    right = _required(validation.target, "target")
    place = _place_probabilities(config, classifier, validation)
    candidates = [
        Fusion(weight, prior_weight, counts / counts.sum())
        for weight in config.evaluate.weights
        for prior_weight in config.evaluate.prior_weights
    ]
    return max(candidates, key=lambda fusion: top_k_accuracy(fusion(image, place), right).item())


@torch.no_grad()
def _place_probabilities(
    config: Config, classifier: LocationClassifier, dataset: LocationDataset
) -> Tensor:
    logits = torch.cat([classifier.eval()(chunk) for chunk in dataset.lonlat.split(8192)])
    if config.evaluate.calibrated:
        logits = logits - math.log(config.finetune.positive_weight or classifier.num_classes)
    return logits.sigmoid()


# What every stage needs: the engine, batches, seeds, and a state that survives an interruption.


def _fabric(config: Config) -> Any:
    return require("lightning_fabric", extra="train").Fabric(
        accelerator=config.hardware.accelerator, devices=1, precision=config.hardware.precision
    )


def _adam(parameters: Any, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def _required(column: Tensor | None, name: str) -> Tensor:
    if column is None:
        raise ValueError(f"expected a data set with {name}, got one without; pass {name}=...")
    return column


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights and dropout masks from this seed; the caller's random state is kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _batches(rows: int, size: int, generator: Generator) -> tuple[Tensor, ...]:
    """Row numbers of one epoch, batch by batch."""
    return torch.randperm(rows, generator=generator).split(size)


def _gathered(features: Tensor, rows: Tensor, into: Tensor) -> Tensor:
    """Rows of the features as float32, in memory that every step uses again."""
    return torch.index_select(features, 0, rows, out=into[: len(rows)]).float()


def _epochs(training: "_Training", epochs: int, description: str) -> Iterator[int]:
    tqdm = require("tqdm", extra="train").tqdm
    with tqdm(
        total=epochs, initial=len(training.history), desc=description, unit="epoch", leave=False
    ) as bar:
        for epoch in range(len(training.history), epochs):
            yield epoch
            bar.set_postfix(loss=f"{training.end_epoch():.4f}", refresh=False)
            bar.update()
    training.discard()


@dataclass
class _Training:
    """What must survive an interruption, saved whole or not at all."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    generator: Generator
    checkpoint: str | os.PathLike[str] | None
    config: Config
    history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._losses: list[Tensor] = []
        self._saved = time.monotonic()

    def step(self, loss: Tensor, fabric: Any) -> None:
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        self._losses.append(loss.detach())

    def slow_down(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def end_epoch(self) -> float:
        mean = torch.stack(self._losses).mean().item()
        self._losses.clear()
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"expected a finite loss, got {mean} in epoch {len(self.history) + 1}; look for "
                "NaN in the features, or lower the learning rate"
            )
        self.history.append(mean)
        interval = self.config.hardware.checkpoint_seconds
        if self.checkpoint is not None and time.monotonic() - self._saved >= interval:
            self.save()
        return mean

    def save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "history": self.history,
        }
        assert self.checkpoint is not None
        buffer = io.BytesIO()
        torch.save(state, buffer)  # straight to a file, a full disk would be a RuntimeError
        with atomic_path(self.checkpoint) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        self._saved = time.monotonic()

    def resume(self) -> None:
        if self.checkpoint is None or not Path(self.checkpoint).is_file():
            return
        try:
            state = torch.load(self.checkpoint, weights_only=True)
        except Exception as error:
            raise ValueError(
                f"expected a training checkpoint in {str(self.checkpoint)!r}, got a damaged file "
                f"({type(error).__name__}); delete it to start this stage again"
            ) from error
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.history = state["history"]
        logger.info("resumed %s after epoch %d", self.checkpoint, len(self.history))

    def discard(self) -> None:
        if self.checkpoint is not None:
            Path(self.checkpoint).unlink(missing_ok=True)
