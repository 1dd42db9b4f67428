"""How the benchmark is run: sizes, search spaces, and the encoders that are always there."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geoenc.bench.entries import Entry, read

FILE = Path(__file__).with_name("suite.toml")


@dataclass(frozen=True)
class Settings:
    """Sizes and search spaces; a result with others is computed again.

    Args:
        seeds: how many, from 0.
        max_train: training rows that probes and networks see at most, drawn once; 0: all.
        steps, batch, evaluate_every, weight_decay: of a training.
        rates: learning rates to choose from.
        network: configuration of the network, without ``in_features``.
        penalties: of linear probes, to choose from.
        iterations: of the optimiser of a classifying probe, at most.
        neighbours: numbers of neighbours, to choose from.
    """

    seeds: int
    max_train: int
    steps: int
    batch: int
    evaluate_every: int
    weight_decay: float
    rates: tuple[float, ...]
    network: Mapping[str, Any]
    penalties: tuple[float, ...]
    iterations: int
    neighbours: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"expected at least 1 seed, got {self.seeds}; 3 is usual")

    @property
    def training(self) -> dict[str, Any]:
        """What `geoenc.bench.training.fit` takes."""
        names = ("steps", "batch", "evaluate_every", "weight_decay")
        return {name: getattr(self, name) for name in names}

    @property
    def config(self) -> dict[str, Any]:
        """As plain JSON."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def read_settings(*, quick: bool = False, seeds: int | None = None) -> Settings:
    """The settings of the suite: all of it, or a quick part.

    Example:
        >>> from geoenc.bench.settings import read_settings
        >>> read_settings(quick=True).steps < read_settings().steps
        True
    """
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))
    values = {**found["full"], **(found["quick"] if quick else {})}
    if seeds is not None:
        values["seeds"] = seeds
    lists = {key: tuple(one) for key, one in values.items() if isinstance(one, list)}
    return Settings(**{**values, **lists})


def standard_entries(*, quick: bool = False) -> list[Entry]:
    """The encoders of the suite; the quick part has those that ``[quick_encoders]`` names."""
    found = read(FILE)
    if not quick:
        return found
    names = tomllib.loads(FILE.read_text(encoding="utf-8"))["quick_encoders"]["names"]
    return [entry for entry in found if entry.name in names]


def digest(value: Any) -> str:
    """Sixteen letters that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
