"""What a process of a test does: run by test_engine.py.

workers.py OUT CHECKPOINT key=value ...      pre-train, and write weights and losses to OUT
"""

import os
import sys

import torch

from geoenc import sampling
from geoenc.data import LocationDataset
from geoenc.recipes import csp, engine
from geoenc.recipes.config import Config, load_config

SETTINGS = [
    "encoder.position.num_frequencies=4",
    "encoder.network.out_features=16",
    "encoder.network.hidden_features=32",
    "encoder.network.dropout=0.5",
    "pretrain.batch_size=64",
    "pretrain.epochs=4",
    "pretrain.temperature=0.2",
    "hardware.accelerator=cpu",
    "hardware.checkpoint_seconds=0",
]


def config(*overrides: str) -> Config:
    return load_config(overrides=[*SETTINGS, *overrides])


def dataset(rows: int = 300) -> LocationDataset:
    """Random places and features of them, with a few labels; 300 is not a multiple of 64."""
    generator = torch.Generator().manual_seed(5)
    lonlat = sampling.uniform(rows, generator=generator)
    features = torch.cat([lonlat.float() / 90, torch.randn(rows, 6, generator=generator)], 1)
    return LocationDataset(lonlat, torch.arange(rows) % 5, features)


def main() -> None:
    out, checkpoint, *overrides = sys.argv[1:]
    torch.set_num_threads(1)
    step, steps = engine.Training.step, []

    def announced(training: engine.Training, *arguments: object) -> None:
        step(training, *arguments)
        steps.append(None)
        sys.stdout.write(f"step {len(steps)}\n")
        sys.stdout.flush()
        if os.environ.get("WAIT_AFTER_STEP") == str(len(steps)):
            sys.stdin.read()  # until the test kills this process or closes the pipe

    engine.Training.step = announced
    history: list[float] = []
    try:
        model = csp.pretrain(
            config(*overrides), dataset(), checkpoint=checkpoint or None, history=history
        )
    except ConnectionError as error:
        sys.exit(f"geoenc: {error}")
    if engine.rank() == 0:
        torch.save({"weights": model.state_dict(), "losses": history}, out)


if __name__ == "__main__":
    main()
