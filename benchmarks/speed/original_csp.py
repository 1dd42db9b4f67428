"""CSP pre-training the original's way, written from its description, to measure ours against.

What makes it slow is kept on purpose: a data set that makes its tensors sample by sample, a
position code computed by NumPy in float64 for every batch, and for each of the three passes
anew, three passes of the network, and plain `torch` everywhere else. What it computes is the
same: with the same weights, batches and random places, and without dropout, the losses agree.

Reference:
    Mai, Lao, He, Song and Ermon, CSP, ICML 2023.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class PlacesAndFeatures(Dataset):
    """One sample at a time: its place, class and features, each a tensor sent to the device."""

    def __init__(
        self, lonlat: np.ndarray, target: np.ndarray, features: np.ndarray, device: str
    ) -> None:
        self.lonlat, self.target, self.features = lonlat, target, features
        self.device = device

    def __len__(self) -> int:
        return len(self.lonlat)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.from_numpy(self.lonlat[index]).to(self.device),
            torch.as_tensor(self.target[index]).to(self.device),
            torch.from_numpy(self.features[index]).to(self.device),
        )


def position_code(lonlat: np.ndarray, num_scales: int, smallest: float, largest: float):
    """[sin(c / r), cos(c / r)] of each coordinate c at geometric radii r, in float64."""
    step = np.log(largest / smallest) / max(num_scales - 1, 1)
    frequencies = 1.0 / (smallest * np.exp(np.arange(num_scales) * step))
    angles = np.asarray(lonlat, dtype=np.float64)[:, :, None, None]
    angles = np.repeat(np.repeat(angles, num_scales, axis=2), 2, axis=3)
    angles = angles * np.repeat(frequencies[:, None], 2, axis=1)
    angles[..., 0::2] = np.sin(angles[..., 0::2])
    angles[..., 1::2] = np.cos(angles[..., 1::2])
    return angles.reshape(len(lonlat), -1)


class OriginalEncoder(nn.Module):
    """Places to embeddings: NumPy position code, a hidden layer, and an output layer."""

    def __init__(self, scales: tuple[int, float, float], hidden: int, out: int, dropout: float):
        super().__init__()
        self.scales = scales
        self.hidden, self.out = nn.Linear(4 * scales[0], hidden), nn.Linear(hidden, out)
        self.norm = nn.LayerNorm(hidden)
        self.activation, self.dropout = nn.LeakyReLU(0.2), nn.Dropout(dropout)

    def forward(self, lonlat: Tensor) -> Tensor:
        code = position_code(lonlat.cpu().numpy(), *self.scales)
        x = torch.tensor(code, dtype=torch.float32, device=self.hidden.weight.device)
        x = self.norm(self.dropout(self.activation(self.hidden(x))))
        return self.dropout(self.activation(self.out(x)))


class OriginalModel(nn.Module):
    """The encoder and the projection of the image features."""

    def __init__(
        self,
        num_features: int,
        *,
        scales: tuple[int, float, float] = (32, 0.1, 360.0),
        hidden: int = 512,
        out: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.location = OriginalEncoder(scales, hidden, out, dropout)
        self.image = nn.Linear(num_features, out)

    def loss(self, lonlat: Tensor, features: Tensor, random: Tensor) -> Tensor:
        """CSP-MC-BLD with all weights and temperatures 1 and one random place a sample."""
        place = unit(self.location(lonlat))
        image = unit(self.image(features))
        negative = unit(self.location(random))
        again = unit(self.location(lonlat))
        diagonal = torch.arange(len(place), device=place.device)
        in_batch = F.cross_entropy(place @ image.t(), diagonal)
        choices = torch.stack([(place * image).sum(1), (negative * image).sum(1)], 1)
        random_place = F.cross_entropy(choices, torch.zeros_like(diagonal))
        dropout = F.cross_entropy(place @ again.t(), diagonal)
        return in_batch + random_place + dropout


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def train(
    model: OriginalModel,
    optimizer: torch.optim.Optimizer,
    dataset: PlacesAndFeatures,
    order: Iterable[int],
    batch_size: int,
    random_places: Callable[[int], Tensor],
) -> Iterator[Tensor]:
    """One pass over the data set in this order; gives the loss of each step."""
    model.train()
    for lonlat, _, features in DataLoader(dataset, batch_size=batch_size, sampler=order):
        loss = model.loss(lonlat, features, random_places(len(lonlat)).to(lonlat.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.detach()
