"""One small training: codes of the places, a network, a linear head; and the two floors."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.choose.tasks import Task
from geoenc import Network, PositionEncoder
from geoenc.coordinates import to_xyz

NEIGHBOURS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)


def built(position: Mapping[str, Any], train: Task, seed: int) -> PositionEncoder:
    """The position encoder of a table of the settings; anchors, if it has any, from the places."""
    torch.manual_seed(seed)
    encoder = PositionEncoder.from_config(position)
    if hasattr(encoder, "fit"):
        encoder.fit(train.lonlat)
    return encoder


def codes(encoder: PositionEncoder, parts: Mapping[str, Task]) -> dict[str, Tensor] | None:
    """The codes of all places, or None where they change in training."""
    if any(True for _ in encoder.parameters()):
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
        return self.head(self.network(code))


def score(output: Tensor, task: Task) -> float:
    """Top-1 accuracy, or R², of what a model says."""
    if not task.classes:
        residual = (output.flatten() - task.target).double().square().mean()
        return 1 - float(residual / task.target.double().var(correction=0))
    return float((output.argmax(-1) == task.target).double().mean())


def fit(
    position: PositionEncoder,
    network: Mapping[str, Any] | None,
    parts: Mapping[str, Task],
    known: Mapping[str, Tensor] | None,
    *,
    rate: float,
    training: Mapping[str, int],
    seed: int,
) -> dict[str, float]:
    """Train once; the scores of the moment that is best on the validation places.

    Adam with one cycle of the learning rate. Numbers are standardised by the training places.

    Args:
        position: made for these places.
        network: settings of a network, or None for the head alone.
        parts: training, validation and test places.
        known: their codes, unless the position encoder is trained too.
        rate: largest learning rate.
        training: "steps", "batch", and "evaluate_every" so many steps.
        seed: of weights and batches.

    Returns:
        validation and test score, and the seconds of the processor that it took.
    """
    start = time.process_time()
    torch.manual_seed(seed)
    train = parts["train"]
    model = Model(position, network, train.classes or 1)
    mean, deviation = torch.tensor(0.0), torch.tensor(1.0)
    if not train.classes:
        mean, deviation = train.target.mean(), train.target.std()
    wanted = train.target if train.classes else (train.target - mean) / deviation
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    steps, batch = training["steps"], training["batch"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)

    def code(name: str, rows: Any = slice(None)) -> Tensor:
        return position(parts[name].lonlat[rows]) if known is None else known[name][rows]

    def tested(name: str) -> float:
        with torch.no_grad():
            return score(model(code(name)) * deviation + mean, parts[name])

    found = {"validation": -math.inf, "test": -math.inf}
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
            validation = tested("validation")
            if validation > found["validation"]:
                found = {"validation": validation, "test": tested("test")}
            model.train()
    return {**found, "seconds": time.process_time() - start}


def nearest_neighbours(parts: Mapping[str, Task]) -> dict[str, Any]:
    """The mean, or the most frequent class, of the k nearest training places on the sphere.

    k is chosen on the validation places among `NEIGHBOURS`. Of classes with as many votes, the
    one of the nearest place wins.
    """
    from scipy.spatial import cKDTree

    start = time.process_time()
    train = parts["train"]
    tree = cKDTree(to_xyz(train.lonlat).numpy())
    most = min(NEIGHBOURS[-1], len(train.lonlat))

    def said(name: str) -> dict[int, float]:
        near = torch.from_numpy(np.atleast_2d(tree.query(to_xyz(parts[name].lonlat), k=most)[1]))
        answers = train.target[near.view(-1, most)]
        scores = {}
        for k in [k for k in NEIGHBOURS if k <= most]:
            if not train.classes:
                scores[k] = score(answers[:, :k].mean(1), parts[name])
                continue
            votes = torch.zeros(len(answers), train.classes)
            votes.scatter_add_(1, answers[:, :k], torch.ones(len(answers), k))
            nearest_first = torch.arange(k, 0, -1) / (k * k + 1)  # less than a vote in all
            bonus = torch.zeros_like(votes).scatter_reduce(
                1, answers[:, :k], nearest_first.expand(len(answers), k), "amax"
            )
            scores[k] = score(votes + bonus, parts[name])
        return scores

    validation, test = said("validation"), said("test")
    best = max(validation, key=lambda k: validation[k])
    return {
        "validation": validation[best],
        "test": test[best],
        "seconds": time.process_time() - start,
        "chosen": {"k": best},
    }


def one_answer(parts: Mapping[str, Task]) -> dict[str, Any]:
    """The most frequent class, or the mean, of the training places for every place."""
    train = parts["train"]
    if train.classes:
        answer = nn.functional.one_hot(train.target.mode().values, train.classes).float()[None]
    else:
        answer = train.target.mean()[None]

    def said(name: str) -> float:
        return score(answer.expand(len(parts[name].target), -1), parts[name])

    return {"validation": said("validation"), "test": said("test"), "seconds": 0.0, "chosen": {}}
