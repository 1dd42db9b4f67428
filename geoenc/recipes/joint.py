"""P(y | image, place) in one classifier, instead of a product: Tang et al. 2015."""

import os
from collections.abc import Iterable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from geoenc.data.dataset import LocationDataset
from geoenc.distributed import world_size
from geoenc.encoder import LocationEncoder
from geoenc.models import ImageLocationClassifier
from geoenc.network import Linear
from geoenc.position import Direct, Tile
from geoenc.priors import class_frequencies
from geoenc.recipes.batches import check_finite, fetched, required, share, stored
from geoenc.recipes.config import Config
from geoenc.recipes.engine import Training, adam, autocast, patience, seeded


def train(
    config: Config,
    dataset: LocationDataset,
    *,
    num_classes: int,
    validation: LocationDataset | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    logs: str | os.PathLike[str] | None = None,
) -> ImageLocationClassifier:
    """Learn P(y | image, place) from labelled places and features.

    Cross-entropy weighted by 1 / (Q P(y)), so that all classes weigh alike.

    Args:
        config: uses ``seed``, ``joint`` and ``hardware``.
        dataset: places, features and targets. Samples without a place or label are left out.
        num_classes: Q.
        validation: the same, for ``joint.patience``.
        checkpoint, logs: as for `geoenc.recipes.csp.pretrain`.

    Reference:
        Tang et al., Improving image classification with location context, ICCV 2015, in the form
        of Mac Aodha, Cole and Perona, ICCV 2019.
    """
    settings = config.joint
    features, target = stored(dataset), required(dataset.target, "target")
    check_finite(features)
    kept = _usable(dataset)
    with seeded(config.seed + 2):
        generator = Generator().manual_seed(config.seed + 2)
        width = settings.hidden_features
        encoder = (
            LocationEncoder(Direct(), Linear(2, width))
            if settings.location == "gps"
            else Tile(width, 1.0)
        )
        model = ImageLocationClassifier(encoder, features.shape[1], num_classes)
        weight = 1 / (num_classes * class_frequencies(target[kept], num_classes)).float()
        training = Training.start(
            config,
            _Step(model, config),
            adam(model.parameters(), settings.learning_rate),
            generator,
            checkpoint=checkpoint,
            logs=logs,
            patience=patience(settings.patience, validation),
        )

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(logits, target, weight=weight.to(logits.device))

        def batches(data: LocationDataset, rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
            epoch = [part for part in rows.split(settings.batch_size) if len(part) >= world_size()]
            labels: Iterable[Tensor] = (required(data.target, "target")[share(b)] for b in epoch)
            pairs = fetched(data, map(share, epoch))
            for (lonlat, images), right in zip(pairs, labels, strict=True):
                yield lonlat, images, right

        for _ in training.epochs(settings.epochs, "image and place"):
            for batch in batches(dataset, kept[torch.randperm(len(kept), generator=generator)]):
                training.step(loss, batch)
            held_out = None
            if validation is not None and settings.patience > 0:
                rows = _usable(validation)
                held_out = training.validation_loss(loss, batches(validation, rows))
            training.end_epoch(decay=settings.decay, validation_loss=held_out)
    return cast(ImageLocationClassifier, model.cpu().eval())


class _Step(nn.Module):
    def __init__(self, model: ImageLocationClassifier, config: Config) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, lonlat: Tensor, features: Tensor, target: Tensor) -> dict[str, Tensor]:
        with autocast(self.config, lonlat.device):
            return {"logits": self.model(lonlat, features).float(), "target": target}


def _usable(dataset: LocationDataset) -> Tensor:
    """Rows with a place and a label."""
    labelled = required(dataset.target, "target") >= 0
    return (labelled & ~dataset.lonlat.isnan().any(1)).nonzero()[:, 0]
