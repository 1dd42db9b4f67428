"""One question about places, with the answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat

METRICS = ("top1", "r2", "auc")


@dataclass(frozen=True)
class Task:
    """Places, what is to be said of each, and how the answers are judged.

    Args:
        name: words joined by hyphens, as ``geoenc bench`` takes it.
        lonlat: ``(N, 2)`` degrees, float64, none missing.
        target: ``(N,)``: int64 classes counted from 0, or float64 numbers.
        classes: how many; 0 for numbers.
        metric: ``"top1"``: share of right classes; ``"r2"``: of the variance that is explained;
            ``"auc"``: area under the ROC curve of two classes.
        place: ``(N,)`` int64, the same for rows of one place, which no split separates; None:
            each row is a place of its own.
        block_degrees: side of the blocks of the blocked split.
        class_names: of the classes, if they have names.
        image_probs: ``(N, classes)`` P(y | image), where the task has images; by name of the split
            where they were learned from its training rows.
        fixed: splits that come with the data: by name, the part of each row, ``(N,)`` int64: 0
            train, 1 validation, 2 test, -1 none. Others follow from the rule of
            `geoenc.bench.parts`.
        judge: scores of outputs ``(n, classes)`` or ``(n,)`` for rows of these numbers, of which
            the one named `metric` is the result; None: those of the metric.
        control: whether place should NOT help; a score above the floors is then a warning.
        about: what is asked, in one sentence.
        source: data, licence and whatever a result has to record, as JSON values.

    Raises:
        ValueError: lengths that differ, classes outside ``[0, classes)``, numbers that are NaN.
    """

    name: str
    lonlat: Tensor
    target: Tensor
    classes: int
    metric: str
    place: Tensor | None = None
    block_degrees: float = 5.0
    class_names: tuple[str, ...] = ()
    image_probs: Tensor | Mapping[str, Tensor] | None = None
    fixed: Mapping[str, Tensor] = field(default_factory=dict)
    judge: Callable[[Tensor, Tensor], Mapping[str, float]] | None = None
    control: bool = False
    about: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        as_lonlat(self.lonlat)
        if self.metric not in METRICS:
            raise ValueError(f"expected a metric of {METRICS}, got {self.metric!r}; use one")
        images = self.image_probs
        by_split = images if isinstance(images, Mapping) else {"image_probs": images}
        for name, given in [
            ("target", self.target),
            ("place", self.place),
            *by_split.items(),
            *self.fixed.items(),
        ]:
            if given is not None and len(given) != len(self.lonlat):
                raise ValueError(
                    f"expected {len(self.lonlat)} rows of {name} in task {self.name!r}, one for "
                    f"each place, got {len(given)}; make them match"
                )
        if self.classes:
            low, high = int(self.target.min()), int(self.target.max())
            if low < 0 or high >= self.classes:
                raise ValueError(
                    f"expected classes from 0 to {self.classes - 1} in task {self.name!r}, got "
                    f"{low} to {high}; number them so"
                )
        elif not torch.isfinite(self.target).all():
            raise ValueError(
                f"expected finite numbers in task {self.name!r}, got NaN or infinity; leave out "
                "rows without an answer"
            )

    def __len__(self) -> int:
        return len(self.lonlat)
