"""The trainings and floors of `geoenc.bench`, as scores of one seed."""

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geoenc import PositionEncoder
from geoenc.bench import training as trainings
from geoenc.bench.neighbours import chosen_answers, on_sphere
from geoenc.bench.parts import Part, score
from geoenc.bench.training import built, codes

NEIGHBOURS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)

__all__ = [
    "NEIGHBOURS",
    "built",
    "codes",
    "fit",
    "nearest_neighbours",
    "one_answer",
    "score",
]


def fit(
    position: PositionEncoder,
    network: Mapping[str, Any] | None,
    parts: Mapping[str, Part],
    known: Mapping[str, Tensor] | None,
    *,
    rate: float,
    training: Mapping[str, int],
    seed: int,
) -> dict[str, float]:
    """Validation and test score, and the seconds of the processor; see `geoenc.bench.training`."""
    start = time.process_time()
    found = trainings.fit(position, network, parts, known, rate=rate, training=training, seed=seed)
    test = score(found.outputs["test"], parts["test"])
    return {
        "validation": found.validation,
        "test": test,
        "seconds": time.process_time() - start,
    }


def nearest_neighbours(parts: Mapping[str, Part]) -> dict[str, Any]:
    """The mean, or the most frequent class, of the k nearest training places on the sphere.

    k is chosen on the validation places among `NEIGHBOURS`. Of classes with as many votes, the
    one of the nearest place wins.
    """
    start = time.process_time()
    train, most = parts["train"], NEIGHBOURS[-1]
    near = {
        name: on_sphere(train.lonlat, parts[name].lonlat, most) for name in ("validation", "test")
    }
    outputs, [(k, _, validation), *_] = chosen_answers(
        train,
        near,
        parts["validation"],
        counts=NEIGHBOURS,
        weights=("uniform",),
        nearest_first=True,
    )
    return {
        "validation": validation,
        "test": score(outputs["test"], parts["test"]),
        "seconds": time.process_time() - start,
        "chosen": {"k": k},
    }


def one_answer(parts: Mapping[str, Part]) -> dict[str, Any]:
    """The most frequent class, or the mean, of the training places for every place."""
    said = trainings.one_answer(parts)
    scores = {name: score(output, parts[name]) for name, output in said.items()}
    return {**scores, "seconds": 0.0, "chosen": {}}
