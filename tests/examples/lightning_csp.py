"""Contrastive spatial pre-training as a LightningModule."""

import lightning
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

import geoenc
from geoenc.data import LocationBatch, LocationDataset, make_synthetic


class ContrastivePretraining(lightning.LightningModule):
    """Places and features of images in one space; the encoder is what remains."""

    def __init__(self, num_features: int, dimensions: int = 64, learning_rate: float = 3e-3):
        super().__init__()
        self.save_hyperparameters()
        position = geoenc.SphericalHarmonics(degree=8)
        network = geoenc.FFN(position.out_features, dimensions, hidden_features=128, dropout=0.3)
        image = torch.nn.Linear(num_features, dimensions)
        self.model = geoenc.DualEncoder(geoenc.LocationEncoder(position, network), image)
        self.loss = geoenc.CSPLoss(temperature=0.2, location_temperature=0.2)

    def training_step(self, batch: LocationBatch, index: int) -> torch.Tensor:
        location, image = self.model(batch.lonlat, batch.features)
        again = self.model.location(batch.lonlat)  # under another dropout mask
        negatives = geoenc.sampling.uniform(4 * len(location), device=self.device)
        sampled = self.model.location(negatives).unflatten(0, (-1, 4))
        loss = self.loss(location, image, sampled=sampled, dropout=again)
        self.log("loss", loss, batch_size=len(location))
        return loss

    def validation_step(self, batch: LocationBatch, index: int) -> None:
        location, image = self.model(batch.lonlat, batch.features)
        logits, target = geoenc.losses.in_batch(image, location)
        found = geoenc.metrics.top_k_accuracy(logits, target, k=5)
        self.log("top_5", found, batch_size=len(location))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])


def batches(data: LocationDataset, size: int, shuffle: bool) -> DataLoader:
    """A data set takes an index of many rows at once: no row by row, no collating."""
    rows = RandomSampler(data) if shuffle else SequentialSampler(data)
    return DataLoader(data, sampler=BatchSampler(rows, size, drop_last=False), batch_size=None)


def main() -> tuple[float, float]:
    """How often a held-out place is among the five of 200 that suit its image, before and after."""
    lightning.seed_everything(0)
    data = make_synthetic(2000, 20, noise=0.3)
    train, held_out = data.subset(range(1800)), data.subset(range(1800, 2000))
    module = ContrastivePretraining(num_features=16)
    trainer = lightning.Trainer(
        max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False
    )
    validation = batches(held_out, 200, shuffle=False)
    before = trainer.validate(module, validation)[0]["top_5"]
    trainer.fit(module, batches(train, 128, shuffle=True))
    after = trainer.validate(module, validation)[0]["top_5"]
    module.model.location.save_pretrained("location-encoder")
    return before, after


if __name__ == "__main__":
    print(main())
