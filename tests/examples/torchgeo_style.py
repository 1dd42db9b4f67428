"""Samples as torchgeo gives them, dictionaries with image, bounds and crs, and the place beside."""

import torch
from pyproj import Transformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

import geoenc


class AddLocation:
    """A transform: e(centre of the bounds) as ``sample["location"]``."""

    def __init__(self, encoder: geoenc.LocationEncoder, crs: str) -> None:
        self.encoder = encoder
        self.to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def __call__(self, sample: dict) -> dict:
        west, east, south, north = sample["bounds"][:4]  # after them torchgeo has times
        place = self.to_degrees.transform((west + east) / 2, (south + north) / 2)
        return {**sample, "location": self.encoder.embed([place])[0]}


class Fields(Dataset):
    """Stands for a torchgeo dataset: patches of 8 x 8 pixels of 30 m, by their bounds in UTM.

    Wheat and maize look alike, but in this country maize grows in the south.
    """

    crs = "EPSG:32632"
    names = ("wheat", "maize", "water")

    def __init__(self, transforms=None) -> None:
        self.transforms = transforms

    def __getitem__(self, query: tuple[slice, slice]) -> dict:
        x, y = query
        chance = torch.Generator().manual_seed(int(x.start) * 31 + int(y.start))
        label = 2 if torch.rand((), generator=chance) < 0.3 else int(y.start < 5_300_000)
        image = torch.randn(4, 8, 8, generator=chance) + 2 * (label == 2)
        bounds = (x.start, x.stop, y.start, y.stop)
        sample = {"image": image, "bounds": bounds, "crs": self.crs, "label": label}
        return sample if self.transforms is None else self.transforms(sample)


def queries(count: int, seed: int) -> list[tuple[slice, slice]]:
    """What a GeoSampler yields: places of patches."""
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    corner = corner * torch.tensor([600_000, 800_000]) + torch.tensor([200_000, 4_900_000])
    return [(slice(x, x + 240), slice(y, y + 240)) for x, y in corner.tolist()]


def collate(samples: list[dict]) -> dict:
    """Tensors of the batch; bounds and crs are not for the network."""
    return default_collate([{k: s[k] for k in ("image", "location", "label")} for s in samples])


class Classifier(nn.Module):
    """logits = T [g(image), e(place)], or without the place."""

    def __init__(self, width: int, use_location: bool) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(16 + width * use_location, len(Fields.names))
        self.use_location = use_location

    def forward(self, batch: dict) -> Tensor:
        features = self.image(batch["image"]).flatten(1)
        parts = [features, batch["location"]] if self.use_location else [features]
        return self.head(torch.cat(parts, 1))


def accuracy(use_location: bool) -> float:
    """Train, and judge on other patches."""
    torch.manual_seed(0)
    encoder = geoenc.LocationEncoder(
        geoenc.Space2VecGrid(8, min_radius=1.0, max_radius=90.0), geoenc.Linear(32, 32)
    )
    data = Fields(AddLocation(encoder, Fields.crs))
    train, test = (
        DataLoader(data, sampler=queries(count, seed), batch_size=64, collate_fn=collate)
        for count, seed in ((512, 0), (200, 1))
    )
    model = Classifier(32, use_location)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(4):
        for batch in train:
            loss = nn.functional.cross_entropy(model(batch), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = torch.cat([model(batch).argmax(1) == batch["label"] for batch in test])
    return right.float().mean().item()


if __name__ == "__main__":
    print({"image alone": accuracy(False), "with place": accuracy(True)})
