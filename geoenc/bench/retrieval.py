"""Ranking many classes by their nearest training row."""

import time

import torch
from torch import Tensor

from geoenc.bench.entries import Entry
from geoenc.bench.parts import Parts
from geoenc.bench.protocols import Options, Said, chance, frozen, searched
from geoenc.bench.settings import Settings
from geoenc.coordinates import to_xyz

_NUMBERS = 2**25
"""Distances at once."""


def nearest_of_class(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """Each class by its nearest training row: on the sphere, or in the embedding.

    For tasks with a few rows of each of thousands of classes, where votes of k neighbours say
    nothing of most. The scale of an encoder is chosen on validation.
    """
    names, train = ("validation", "test"), parts["train"]

    def tried(option: Options) -> Said:
        start = time.process_time()
        if entry is None:
            code = {name: to_xyz(part.lonlat) for name, part in parts.items()}
        else:
            code = frozen(parts, entry, option, seed)
        outputs = {
            name: nearest_of_each(code["train"], train.target, train.classes, code[name])
            for name in names
        }
        found = parts["validation"].score(outputs["validation"])
        seconds = time.process_time() - start
        return Said(
            outputs["validation"],
            outputs["test"],
            chosen=option,
            search=[{"settings": option, "validation": found, "seconds": seconds}],
            deterministic=entry is None or not chance(parts, entry),
            num_train=len(train.target),
        )

    return searched(tried, entry, chosen)


def nearest_of_each(train: Tensor, target: Tensor, classes: int, codes: Tensor) -> Tensor:
    """Minus the distance to the nearest training row of each class; -inf for classes without.

    Args:
        train: ``(N, D)`` codes of the training rows: unit vectors of places, or embeddings.
        target: ``(N,)`` their classes.
        classes: C.
        codes: ``(n, D)``.

    Shape:
        ``(n, C)``, for ranking.

    Example:
        >>> import torch
        >>> from geoenc.bench.retrieval import nearest_of_each
        >>> train = torch.tensor([[0.0], [1.0], [5.0]])
        >>> nearest_of_each(train, torch.tensor([0, 1, 0]), 2, torch.tensor([[4.0]]))
        tensor([[-1., -3.]])
    """
    found = torch.full((len(codes), classes), -torch.inf, dtype=codes.dtype)
    size = max(1, _NUMBERS // max(1, len(train)))
    for start in range(0, len(codes), size):
        block = codes[start : start + size]
        near = -torch.cdist(block, train, compute_mode="donot_use_mm_for_euclid_dist")
        found[start : start + size].scatter_reduce_(
            1, target.expand(len(block), -1), near, reduce="amax"
        )
    return found
