"""One training: codes of the places, a network, a linear head; what needs no training."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.random import fork_rng, manual_seed

from geoenc.bench.parts import Part
from geoenc.network import Network
from geoenc.position import PositionEncoder

LARGEST = 2**28
"""Numbers in the codes of all places, beyond which they are made batch by batch."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Chance that starts at a seed within the block, and goes on as before behind it."""
    with fork_rng(devices=[]):
        manual_seed(seed)
        yield


def built(position: Mapping[str, Any], train: Part, seed: int) -> PositionEncoder:
    """The position encoder of a configuration; anchors, if it has any, from the places."""
    with seeded(seed):
        encoder = PositionEncoder.from_config(position)
        placed: Any = getattr(encoder, "fit", None)
        if placed is not None:
            placed(train.lonlat)
    return encoder


def codes(encoder: PositionEncoder, parts: Mapping[str, Part]) -> dict[str, Tensor] | None:
    """The codes of all places, or None where they change in training, or are too many."""
    rows = sum(len(part.lonlat) for part in parts.values())
    if any(True for _ in encoder.parameters()) or rows * encoder.out_features > LARGEST:
        return None
    with torch.no_grad():
        return {name: encoder(part.lonlat) for name, part in parts.items()}


class Model(nn.Module):
    """PE, network and linear head. Without a network, the head reads the code itself."""

    def __init__(
        self, position: PositionEncoder, network: Mapping[str, Any] | None, outputs: int
    ) -> None:
        super().__init__()
        self.position = position
        width = position.out_features
        self.network: nn.Module = nn.Identity()
        if network is not None:
            self.network = Network.from_config({"in_features": width, **network})
            width = int(network["out_features"])
        self.head = nn.Linear(width, outputs)

    def forward(self, code: Tensor) -> Tensor:
        """Scores from codes."""
        scores: Tensor = self.head(self.network(code))
        return scores


@dataclass(frozen=True)
class Fitted:
    """The moment of a training that is best on the validation places.

    Args:
        validation: its score.
        outputs: of the validation and the test places, by name.
        step: when it was.
        seconds: of the processor, for the whole training.
    """

    validation: float
    outputs: Mapping[str, Tensor]
    step: int
    seconds: float


def fit(
    position: PositionEncoder,
    network: Mapping[str, Any] | None,
    parts: Mapping[str, Part],
    known: Mapping[str, Tensor] | None,
    *,
    rate: float,
    training: Mapping[str, Any],
    seed: int,
) -> Fitted:
    """Train once.

    AdamW with one cycle of the learning rate. Numbers are standardised by the training places.

    Args:
        position: made for these places.
        network: configuration of a network, or None for the head alone.
        parts: training, validation and test places.
        known: their codes, unless the position encoder is trained too.
        rate: largest learning rate.
        training: "steps", "batch", "evaluate_every" so many steps, and "weight_decay" (0).
        seed: of weights and batches.
    """
    with seeded(seed):
        return _fit(position, network, parts, known, rate, training)


def _fit(
    position: PositionEncoder,
    network: Mapping[str, Any] | None,
    parts: Mapping[str, Part],
    known: Mapping[str, Tensor] | None,
    rate: float,
    training: Mapping[str, Any],
) -> Fitted:
    start = time.process_time()
    train = parts["train"]
    model = Model(position, network, train.classes or 1)
    mean, deviation = torch.tensor(0.0), torch.tensor(1.0)
    if not train.classes:
        mean, deviation = train.target.mean(), train.target.std()
    wanted = train.target if train.classes else ((train.target - mean) / deviation).float()
    decay = float(training.get("weight_decay", 0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    steps, batch = training["steps"], training["batch"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)

    def code(name: str, rows: Any = slice(None)) -> Tensor:
        return position(parts[name].lonlat[rows]) if known is None else known[name][rows]

    def said(name: str) -> Tensor:
        output = model(code(name)) * deviation + mean
        return output if train.classes else output[:, 0]

    best, outputs, when = -math.inf, {}, 0
    order = torch.empty(0, dtype=torch.long)
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = torch.randperm(len(wanted))
        rows, order = order[:batch], order[batch:]
        output = model(code("train", rows))
        if train.classes:
            loss = nn.functional.cross_entropy(output, wanted[rows])
        else:
            loss = nn.functional.mse_loss(output[:, 0], wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % training["evaluate_every"] == 0 or step == steps:
            model.eval()
            with torch.no_grad():
                validation = said("validation")
                found = parts["validation"].score(validation)
                if found > best:
                    best, when = found, step
                    outputs = {"validation": validation, "test": said("test")}
            model.train()
    if not outputs:
        raise FloatingPointError(
            f"expected scores on validation places, got none that is a number in {steps} steps at "
            f"learning rate {rate}; use a smaller one"
        )
    return Fitted(best, outputs, when, time.process_time() - start)


def one_answer(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """The logarithm of the class frequencies, or the mean, of the training places for each."""
    train = parts["train"]
    if train.classes:
        counts = train.target.bincount(minlength=train.classes).double()
        answer = (counts + 1).log()[None]
    else:
        answer = train.target.mean()[None]
    return {
        name: answer.expand(len(parts[name].target), *answer.shape[1:])
        for name in ("validation", "test")
    }
