"""Training, validation and test rows of a task, by rules that give everybody the same rows."""

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.bench.task import Task
from geoenc.data.regions import region_of
from geoenc.splits import Buffered, Folds

PARTS = ("train", "validation", "test")
SPLITS = ("random", "blocked", "buffered", "region")
TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, -1
BUFFER = 0.2
"""Width of the buffer of the buffered split, in sides of a block."""
KM_PER_DEGREE = 111.195


@dataclass(frozen=True)
class Part:
    """Some rows of a task: places ``(n, 2)``, answers, and how outputs are judged there.

    Args:
        lonlat, target, classes, metric, image_probs, judge: see `geoenc.bench.Task`.
        rows: ``(n,)`` numbers of the rows in the task.
        group: ``(n,)`` what the split keeps together: the number of the place, block or region.
    """

    lonlat: Tensor
    target: Tensor
    classes: int
    metric: str = ""
    rows: Tensor | None = None
    group: Tensor | None = None
    image_probs: Tensor | None = None
    judge: Callable[[Tensor, Tensor], Mapping[str, float]] | None = None

    def scores(self, output: Tensor) -> dict[str, float]:
        """What outputs are worth: scores of classes ``(n, classes)``, or numbers ``(n,)``."""
        if self.judge is not None:
            assert self.rows is not None
            return dict(self.judge(output, self.rows))
        if not self.classes:
            error = output.double().flatten() - self.target.double()
            return {"r2": score(output, self), "mae": float(error.abs().mean())}
        found = {"top1": score(output, self)}
        if self.classes > 5:
            best = output.topk(5).indices
            found["top5"] = float((best == self.target[:, None]).any(1).double().mean())
        if self.metric == "auc":
            found["auc"] = area_under_curve(output[:, 1] - output[:, 0], self.target == 1)
        return found

    def score(self, output: Tensor) -> float:
        """The number to maximise."""
        if self.judge is None and self.metric != "auc":
            return score(output, self)
        return self.scores(output)[self.metric]

    def each(self, output: Tensor) -> dict[str, Tensor]:
        """Row by row: ``correct`` for classes, squared ``error`` for numbers."""
        if self.classes:
            return {"correct": output.argmax(-1) == self.target}
        return {"error": (output.double().flatten() - self.target.double()).square()}


def score(output: Tensor, part: Part) -> float:
    """Top-1 accuracy, or R² = 1 - sum (y - f)² / sum (y - mean y)²."""
    if not part.classes:
        residual = (output.flatten() - part.target).double().square().mean()
        return 1 - float(residual / part.target.double().var(correction=0))
    return float((output.argmax(-1) == part.target).double().mean())


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    """P(score of a positive > score of a negative) + P(equal) / 2, from ranks.

    Args:
        scores: ``(n,)``.
        positive: ``(n,)`` bool, at least one of each.

    Example:
        >>> import torch
        >>> from geoenc.bench.parts import area_under_curve
        >>> area_under_curve(torch.tensor([3.0, 2.0, 2.0]), torch.tensor([True, True, False]))
        0.75
    """
    from scipy.stats import rankdata

    mine = positive.cpu().numpy().astype(bool)
    count = int(mine.sum())
    others = len(mine) - count
    if not count or not others:
        raise ValueError(
            f"expected rows of both classes for an AUC, got {count} of one and {others} of the "
            "other; choose a split whose parts hold both"
        )
    ranks = float(rankdata(scores.double().cpu().numpy())[mine].sum())
    return (ranks - count * (count + 1) / 2) / (count * others)


@dataclass(frozen=True)
class Split:
    """The part of every row, once for each fold.

    Args:
        name: one of `SPLITS`.
        folds: ``(N,)`` int64 each: 0 train, 1 validation, 2 test, -1 none.
        group: ``(N,)`` int64: rows of one group are always in one part (but for the buffer).
        hash: of parts and places: results with different ones are of different rows.
    """

    name: str
    folds: tuple[Tensor, ...]
    group: Tensor
    hash: str


def split_of(task: Task, name: str) -> Split:
    """The split of a task that has this name.

    * ``random``: by place, at random. Neighbours fall into different parts: interpolation.
    * ``blocked``: by block of ``task.block_degrees``: extrapolation to other blocks.
    * ``buffered``: the blocked one without the rows to learn from that are nearer to a test row
      than `BUFFER` sides of a block.
    * ``region``: each continent once the test, learned on the others: one fold for each.

    Raises:
        ValueError: another name; a part without rows.
    """
    if name not in SPLITS:
        raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {name!r}; use one")
    folds: tuple[Tensor, ...]
    group = blocks(task.lonlat, task.block_degrees)
    if name == "random":
        folds = (task.fixed[name].long() if name in task.fixed else place_parts(task),)
        group = task.place if task.place is not None else _places(task.lonlat)
    elif name == "blocked":
        folds = (_blocked(task),)
    elif name == "buffered":
        folds = (_buffered(task),)
    else:
        group, folds = _regions(task)
    for part in folds:
        lacking = [PARTS[one] for one in range(3) if not bool((part == one).any())]
        if lacking:
            raise ValueError(
                f"expected rows for every part of the {name} split of {task.name!r}, got none for "
                f"{' and '.join(lacking)}; give the task smaller block_degrees or more rows"
            )
    digest = hashlib.sha256(task.lonlat.double().contiguous().numpy().tobytes())
    for part in folds:
        digest.update(part.to(torch.int8).numpy().tobytes())
    return Split(name, folds, group, digest.hexdigest()[:16])


def place_parts(task: Task) -> Tensor:
    """70 / 10 / 20 by the checksum of "lon,lat" with four decimals of each place.

    ``crc32(f"{lon:.4f},{lat:.4f}") % 100`` of float32 coordinates: below 70 train, below 80
    validation. A place is where its first row is.
    """
    lonlat = task.lonlat
    if task.place is not None:
        _, place = task.place.unique(return_inverse=True)
        first = torch.full((int(place.max()) + 1,), len(place))
        first = first.scatter_reduce(0, place, torch.arange(len(place)), "amin")
        lonlat = lonlat[first[place]]
    return _hashed([f"{lon:.4f},{lat:.4f}" for lon, lat in _narrow(lonlat)])


def block_parts(lonlat: Tensor, degrees: float) -> Tensor:
    """70 / 10 / 20 by the checksum of the block of each place.

    ``crc32(f"block{b:g}:{floor((lon + 180) / b)}:{floor((lat + 90) / b)}") % 100``, b in degrees.
    """
    return _hashed([f"block{degrees:g}:{i}:{j}" for i, j in _cells(lonlat, degrees)])


def blocks(lonlat: Tensor, degrees: float) -> Tensor:
    """Number of the block of each place, ``(N,)`` int64."""
    cells = torch.tensor(_cells(lonlat, degrees), dtype=torch.int64).reshape(-1, 2)
    return cells[:, 0] * 100_000_000 + cells[:, 1]


def _narrow(lonlat: Tensor) -> list[list[float]]:
    return np.asarray(lonlat, dtype=np.float32).astype(float).tolist()


def _cells(lonlat: Tensor, degrees: float) -> list[tuple[int, int]]:
    return [
        (math.floor((lon + 180) / degrees), math.floor((lat + 90) / degrees))
        for lon, lat in _narrow(lonlat)
    ]


def _hashed(keys: list[str]) -> Tensor:
    known: dict[str, int] = {}
    for key in keys:
        if key not in known:
            number = zlib.crc32(key.encode()) % 100
            known[key] = TRAIN if number < 70 else VALIDATION if number < 80 else TEST
    return torch.tensor([known[key] for key in keys], dtype=torch.int64)


def _blocked(task: Task) -> Tensor:
    if "blocked" in task.fixed:
        return task.fixed["blocked"].long()
    return block_parts(task.lonlat, task.block_degrees)


@dataclass(frozen=True)
class _Given:
    """A splitter of one fold that is known."""

    train: Tensor
    test: Tensor

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return 1

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        yield self.train.numpy(), self.test.numpy()


def _buffered(task: Task) -> Tensor:
    part = _blocked(task)
    test = (part == TEST).nonzero()[:, 0]
    given = _Given(((part == TRAIN) | (part == VALIDATION)).nonzero()[:, 0], test)
    width = BUFFER * task.block_degrees * KM_PER_DEGREE
    [(kept, _)] = Buffered(given, width).split(task.lonlat)
    found = torch.full_like(part, UNUSED)
    found[test] = TEST
    found[kept] = part[kept]
    return found


def _places(lonlat: Tensor) -> Tensor:
    return lonlat.unique(dim=0, return_inverse=True)[1]


def _regions(task: Task) -> tuple[Tensor, tuple[Tensor, ...]]:
    region, names = region_of(task.lonlat, "continent")
    counts = region.bincount(minlength=len(names))
    enough = [one for one in range(len(names)) if counts[one] >= max(20, len(region) // 100)]
    if len(enough) < 2:
        raise ValueError(
            f"expected rows of task {task.name!r} on at least 2 continents, got {len(enough)}; "
            "leave out the split region"
        )
    rest = _blocked(task)
    learned = torch.where(rest == VALIDATION, VALIDATION, TRAIN)
    return region, tuple(torch.where(region == one, TEST, learned) for one in enough)


class Parts(dict[str, Part]):
    """The parts of one fold by name, with a memory for what is computed for them once."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        super().__init__(parts)
        self.memory: dict[Any, Any] = {}

    def fewer(self, count: int) -> "Parts":
        """At most so many training rows, drawn with seed 0; 0: all."""
        train = self["train"]
        if not 0 < count < len(train.lonlat):
            return self
        if "fewer" not in self.memory:
            generator = torch.Generator().manual_seed(0)
            kept = torch.randperm(len(train.lonlat), generator=generator)[:count].sort().values
            self.memory["fewer"] = Parts({**self, "train": taken(train, kept)})
        found: Parts = self.memory["fewer"]
        return found


def taken(part: Part, rows: Tensor) -> Part:
    """These rows of a part."""
    return replace(
        part,
        lonlat=part.lonlat[rows],
        target=part.target[rows],
        rows=None if part.rows is None else part.rows[rows],
        group=None if part.group is None else part.group[rows],
        image_probs=None if part.image_probs is None else part.image_probs[rows],
    )


def parts_of(task: Task, split: Split, fold: Tensor) -> Parts:
    """The parts of a task in one fold of a split."""
    images = task.image_probs
    whole = Part(
        task.lonlat.double(),
        task.target,
        task.classes,
        task.metric,
        torch.arange(len(task)),
        split.group,
        images.get(split.name) if isinstance(images, Mapping) else images,
        task.judge,
    )
    return Parts({name: taken(whole, (fold == i).nonzero()[:, 0]) for i, name in enumerate(PARTS)})
