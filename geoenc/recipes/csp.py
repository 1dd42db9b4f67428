"""Contrastive Spatial Pre-Training (CSP): pre-train, fine-tune, evaluate. Copy and edit.

    model      = pretrain(config, unlabelled)           # places and features, no labels
    classifier = finetune(config, model.location, labelled)
    scores     = evaluate(config, classifier, test)     # P(y | image) P(y | place)

Reference:
    Mai, Lao, He, Song and Ermon, CSP: Self-Supervised Contrastive Spatial Pre-Training for
    Geospatial-Visual Representations, ICML 2023.
"""

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from geoenc.data.dataset import LocationBatch, LocationDataset
from geoenc.data.samplers import ClassBalancedSampler, place_sampler
from geoenc.distributed import world_size
from geoenc.encoder import LocationEncoder
from geoenc.losses import CSPLoss, PresenceAbsenceLoss
from geoenc.models import DualEncoder, ImageLocationClassifier, LocationClassifier
from geoenc.network import FFN
from geoenc.predictions import Gathered, Predictions
from geoenc.priors import GeoPrior, Prior, class_frequencies
from geoenc.recipes.batches import check_finite, fetched, required, share, stored
from geoenc.recipes.config import Config, Finetune, Pretrain
from geoenc.recipes.engine import Training, adam, autocast, patience, seeded

_ROWS_TO_JUDGE = 1024
_JUDGED = ("", "image_", "location_")
"""The product, the image alone and the place alone: prefixes of what `evaluate` returns."""


def pretrain(
    config: Config,
    dataset: LocationDataset,
    *,
    validation: LocationDataset | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    logs: str | os.PathLike[str] | None = None,
    history: list[float] | None = None,
) -> DualEncoder:
    """Stage B: learn e(x) and the projection of the features from pairs of place and image.

    Args:
        config: uses ``seed``, ``encoder``, ``pretrain`` and ``hardware``.
        dataset: places and features; labels are not looked at, unless
            ``pretrain.batches`` says so. Samples without a place are left out.
        validation: places and features for ``pretrain.patience``.
        checkpoint: a file to resume from if it exists, and to save to after each epoch.
        logs: a folder for the loss of each epoch.
        history: the mean loss of each epoch is appended.

    Returns:
        The dual encoder, in evaluation mode, on the CPU; the same on all processes.
    """
    settings = config.pretrain
    features = stored(dataset)
    kept = (~dataset.lonlat.isnan().any(1)).nonzero()[:, 0]
    check_finite(features)
    with seeded(config.seed):
        generator = Generator().manual_seed(config.seed)
        location = LocationEncoder.from_config(vars(config.encoder))
        if settings.objective == "csp":
            step: _Views | _Regression = _Views(location, features.shape[1], config)
            objective: Callable[..., Tensor] = csp_loss(settings)
        else:
            step, objective = _Regression(location, features.shape[1], config), F.mse_loss
        training = Training.start(
            config,
            step,
            adam(step.parameters(), settings.learning_rate, settings.weight_decay),
            generator,
            checkpoint=checkpoint,
            logs=logs,
            patience=patience(settings.patience, validation),
        )
        places = place_sampler(settings.negatives)

        def batches(
            data: LocationDataset, epoch: Iterable[Tensor], generator: Generator
        ) -> Iterator[tuple[Tensor, ...]]:
            for lonlat, images in fetched(data, map(share, epoch)):
                if settings.objective == "mse" or settings.location_weight == 0:
                    yield lonlat, images
                else:
                    count = len(lonlat) * world_size() * settings.num_negatives
                    random = places(count, generator=generator)
                    yield lonlat, images, share(random.unflatten(0, (-1, settings.num_negatives)))

        for _ in training.epochs(settings.epochs, "pre-training"):
            epoch = _batches(kept, settings, dataset.target, generator)
            for batch in batches(dataset, epoch, generator):
                training.step(objective, batch, settings.micro_batch)
            training.end_epoch(
                decay=settings.decay,
                validation_loss=_held_out(training, objective, batches, validation, settings),
            )
    if history is not None:
        history.extend(training.losses)
    return step.model.cpu().eval()


def csp_loss(settings: Pretrain) -> CSPLoss:
    """The loss that the settings describe; its negatives span all processes."""
    return CSPLoss(
        settings.criterion,
        location_weight=settings.location_weight,
        dropout_weight=settings.dropout_weight,
        temperature=settings.temperature,
        location_temperature=settings.location_temperature,
        dropout_temperature=settings.dropout_temperature,
        symmetric=settings.symmetric,
        gather=True,
    )


class _Views(nn.Module):
    """All views of a batch in one pass of the network; each place is encoded once."""

    def __init__(self, location: LocationEncoder, num_features: int, config: Config) -> None:
        super().__init__()
        image = FFN(num_features, location.out_features, depth=0, final_activation=False)
        self.model, self.config = DualEncoder(location, image), config

    def forward(
        self, lonlat: Tensor, features: Tensor, random: Tensor | None = None
    ) -> dict[str, Tensor]:
        encoder = cast(LocationEncoder, self.model.location)
        with autocast(self.config, lonlat.device):
            codes = {"location": encoder.code(lonlat)}
            if self.config.pretrain.dropout_weight > 0:  # the same under a second dropout mask
                codes["dropout"] = codes["location"]
            if random is not None:
                codes["sampled"] = encoder.code(random.flatten(0, 1))
            embedded = encoder.network(torch.cat(list(codes.values())))
            parts = embedded.split([len(code) for code in codes.values()])
            views = dict(zip(codes, parts, strict=True))
            if random is not None:
                views["sampled"] = views["sampled"].unflatten(0, random.shape[:2])
            return views | {"image": self.model.image(features)}


class _Regression(nn.Module):
    """The MSE baseline: predict the features of an image from its place."""

    def __init__(self, location: LocationEncoder, num_features: int, config: Config) -> None:
        super().__init__()
        self.model, self.config = DualEncoder(location, nn.Identity()), config
        self.decoder = nn.Linear(location.out_features, num_features)

    def forward(self, lonlat: Tensor, features: Tensor) -> dict[str, Tensor]:
        with autocast(self.config, lonlat.device):
            return {"input": self.decoder(self.model.location(lonlat)).float(), "target": features}


def finetune(
    config: Config,
    encoder: LocationEncoder | None,
    dataset: LocationDataset,
    *,
    num_classes: int | None = None,
    validation: LocationDataset | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    logs: str | os.PathLike[str] | None = None,
    history: list[float] | None = None,
) -> LocationClassifier:
    """Stage C, and A without pre-training: learn P(y | place) from labelled places.

    Args:
        config: uses ``seed``, ``encoder``, ``finetune`` and ``hardware``.
        encoder: a pre-trained one, which is copied and not changed; None starts a new one.
        dataset: places and targets. Samples without a place or label are left out.
        num_classes: one more than the largest target if None.
        validation: places and targets for ``finetune.patience``.
        checkpoint, logs, history: as for `pretrain`.

    Returns:
        The classifier, in evaluation mode, on the CPU; the same on all processes.
    """
    settings = config.finetune
    target = required(dataset.target, "target")
    kept = ((target >= 0) & ~dataset.lonlat.isnan().any(1)).nonzero()[:, 0]
    classes = int(target.max()) + 1 if num_classes is None else num_classes
    with seeded(config.seed + 1):
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
        training = Training.start(
            config,
            _Presences(model, config),
            adam(groups, settings.learning_rate, settings.weight_decay),
            generator,
            checkpoint=checkpoint,
            logs=logs,
            patience=patience(settings.patience, validation),
        )
        loss = PresenceAbsenceLoss(
            settings.positive_weight or None, background_weight=settings.background_weight
        )
        places = place_sampler(settings.background)

        def batches(
            data: LocationDataset, epoch: Iterable[Tensor], generator: Generator
        ) -> Iterator[tuple[Tensor, ...]]:
            for rows in map(share, epoch):
                batch = data.lonlat[rows], required(data.target, "target")[rows]
                if settings.background_weight == 0:
                    yield batch
                else:
                    count = len(rows) * world_size()
                    yield *batch, share(places(count, generator=generator))

        per_epoch = len(_batches(kept, settings, target, Generator()))
        epochs = max(settings.epochs, math.ceil(settings.min_steps / per_epoch))
        for _ in training.epochs(epochs, "fine-tuning"):
            epoch = _batches(kept, settings, target, generator)
            for batch in batches(dataset, epoch, generator):
                training.step(loss, batch)
            training.end_epoch(
                decay=settings.decay ** (settings.epochs / epochs),
                validation_loss=_held_out(training, loss, batches, validation, settings),
            )
    if history is not None:
        history.extend(training.losses)
    return model.cpu().requires_grad_(True).eval()


class _Presences(nn.Module):
    """Logits of labelled places, and of as many random ones, in one pass of the network."""

    def __init__(self, model: LocationClassifier, config: Config) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(
        self, lonlat: Tensor, target: Tensor, random: Tensor | None = None
    ) -> dict[str, Tensor]:
        with autocast(self.config, lonlat.device):
            if random is None:
                return {"logits": self.model(lonlat), "target": target}
            logits, background = self.model(torch.cat([lonlat, random])).chunk(2)
            return {"logits": logits, "target": target, "background_logits": background}


# Batches of both stages.


def _batches(
    kept: Tensor, settings: Pretrain | Finetune, target: Tensor | None, generator: Generator
) -> list[Tensor]:
    """Row numbers of one epoch, batch by batch, at least one for each process."""
    if len(kept) < world_size():
        raise ValueError(
            f"expected a sample to train on for each of {world_size()} processes, got {len(kept)} "
            "with a place, and a label where it is needed; see what `geoenc data check` says of "
            "the files"
        )
    if settings.batches == "shuffled":
        rows = kept[torch.randperm(len(kept), generator=generator)]
    else:
        target = required(target, "target")[kept]
        sampler = ClassBalancedSampler(target, settings.max_per_class, generator=generator)
        rows = kept[sampler.epoch()]
    return [part for part in rows.split(settings.batch_size) if len(part) >= world_size()]


def _held_out(
    training: Training,
    objective: Callable[..., Tensor],
    batches: Callable[..., Iterator[tuple[Tensor, ...]]],
    validation: LocationDataset | None,
    settings: Pretrain | Finetune,
) -> float | None:
    """The loss on the validation part, where there is patience that asks for it."""
    if validation is None or settings.patience == 0:
        return None
    kept = ~validation.lonlat.isnan().any(1)
    if isinstance(settings, Finetune):
        kept &= required(validation.target, "target") >= 0
    rows = kept.nonzero()[:, 0]
    parts = [part for part in rows.split(settings.batch_size) if len(part) >= world_size()]
    same_each_time = Generator().manual_seed(0)
    return training.validation_loss(objective, batches(validation, parts, same_each_time))


def evaluate(
    config: Config,
    classifier: LocationClassifier | ImageLocationClassifier | Prior | None,
    dataset: LocationDataset,
    *,
    geo_prior: GeoPrior | None = None,
    predictions: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Stage E: top-k accuracy of the product, of the place alone and of the image alone.

    Args:
        config: uses ``evaluate``, and ``finetune.positive_weight`` if ``evaluate.calibrated``.
        classifier: P(y | place), trained or counted; or P(y | image, place), which is multiplied
            with nothing; None judges the image alone.
        dataset: places, targets and ``image_probs``; without these the place alone is judged.
            Samples without a place are judged by the image.
        geo_prior: how to multiply; the published product if None. See `best_geo_prior`.
        predictions: a Parquet file to write, see `geoenc.predictions.Predictions`.

    Returns:
        ``top1``, ``top3``, ..., ``mrr`` and ``macro_top1`` of the product; ``location_top1``, ...
        over samples with a place; ``image_top1``, ...; shares in [0, 1].
    """
    target = required(dataset.target, "target")
    kept = (target >= 0).nonzero()[:, 0]
    if not isinstance(classifier, ImageLocationClassifier):
        dataset = dataset.replace(features=None)
    multiply = GeoPrior() if geo_prior is None else geo_prior
    located = int((~dataset.lonlat[kept].isnan().any(1)).sum())
    parts = {name: Gathered(located if name == "location_" else len(kept)) for name in _JUDGED}
    for rows in kept.split(_ROWS_TO_JUDGE):
        batch = dataset[rows]
        image = batch.image_probs
        scores: dict[str, Tensor] = (
            {} if image is None else {"": image.log(), "image_": image.log()}
        )
        place = None
        if isinstance(classifier, ImageLocationClassifier):
            scores[""] = _joint_scores(classifier, batch)
        elif classifier is not None:
            place = place_probabilities(config, classifier, batch.lonlat)
            scores["location_"] = place.log()
            scores[""] = place.log()
            if image is not None:
                scores[""] = multiply(image, place, config.evaluate.missing)
        for name, score in scores.items():
            known = ~batch.lonlat.isnan().any(1) | (name != "location_")
            part = Predictions.of(
                score[known],
                required(batch.target, "target")[known],
                sample=rows[known],
                lonlat=batch.lonlat[known],
                image_probs=None if image is None else image[known],
                location_probs=None if place is None else place[known],
                top_k=max(config.evaluate.top_k),
            )
            parts[name].add(part)
    found = {name: part.whole() for name, part in parts.items() if part.filled}
    if predictions is not None:
        found[""].save(predictions)
    return {
        f"{name}{metric}": value
        for name, part in found.items()
        for metric, value in part.metrics(config.evaluate.top_k).items()
    }


def best_geo_prior(
    config: Config,
    classifier: LocationClassifier | Prior,
    labelled: LocationDataset,
    validation: LocationDataset | None,
) -> GeoPrior:
    """The exponents and the floor with the highest top-1 on the validation part.

    Args:
        config: uses ``weights``, ``prior_weights`` and ``floors`` of ``evaluate``; where each has
            one value, nothing is left to choose.
        classifier: P(y | place).
        labelled: targets, whose frequencies (each class counted once more) are P(y).
        validation: places, targets and ``image_probs``.
    """
    settings = config.evaluate
    candidates = settings.weights, settings.floors, settings.prior_weights
    prior = class_frequencies(required(labelled.target, "target"), classifier.num_classes)
    if all(len(values) == 1 for values in candidates):
        return GeoPrior(settings.weights[0], settings.floors[0], settings.prior_weights[0], prior)
    if validation is None:
        raise ValueError(
            "expected a validation part to choose evaluate.weights on, got none; give one value "
            "each of weights, prior_weights and floors, or hold a part out with data.validation"
        )
    place = place_probabilities(config, classifier, validation.lonlat)
    return GeoPrior(class_prior=prior).fit(
        cast(Tensor, stored(validation, "image_probs")),
        place,
        required(validation.target, "target"),
        weights=settings.weights,
        floors=settings.floors,
        prior_weights=settings.prior_weights,
    )


@torch.no_grad()
def place_probabilities(
    config: Config, classifier: LocationClassifier | Prior, lonlat: Tensor
) -> Tensor:
    """P(y | place), a row of NaN where the place is missing."""
    if isinstance(classifier, Prior):
        found = classifier.probabilities(lonlat)
        return found.masked_fill(lonlat.isnan().any(-1, keepdim=True), torch.nan)
    logits = torch.cat([classifier.eval()(chunk) for chunk in lonlat.split(_ROWS_TO_JUDGE)])
    if config.evaluate.calibrated:
        logits = logits - math.log(config.finetune.positive_weight or classifier.num_classes)
    return logits.sigmoid()


def _joint_scores(classifier: ImageLocationClassifier, batch: LocationBatch) -> Tensor:
    """log P(y | image, place), and log P(y | image) where the place is missing."""
    scores = classifier.probabilities(batch.lonlat, required(batch.features, "features")).log()
    if batch.image_probs is None:
        return scores.double()
    return torch.where(scores.isnan(), batch.image_probs.log(), scores).double()
