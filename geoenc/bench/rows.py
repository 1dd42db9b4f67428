"""One row of a table: an encoder and a protocol, or a floor, on one split of one task."""

import hashlib
import math
import re
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.bench import results
from geoenc.bench.entries import Entry
from geoenc.bench.hardware import hardware, versions
from geoenc.bench.hybrids import HYBRIDS
from geoenc.bench.parts import Part, Split, blocks, parts_of
from geoenc.bench.protocols import PROTOCOLS, Said
from geoenc.bench.retrieval import nearest_of_class
from geoenc.bench.settings import Settings, digest
from geoenc.bench.task import Task

RULES = 1
"""Raised when the same settings would give other numbers: results are then computed again."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        name: in the table.
        protocol: one of `geoenc.bench.protocols.PROTOCOLS`, "nearest-of-class", or of
            `geoenc.bench.hybrids.HYBRIDS`.
        kind: ``"floor"``, ``"encoder"`` or ``"hybrid"``.
        entry: the encoder, if there is one.
    """

    name: str
    protocol: str
    kind: str = "encoder"
    entry: Entry | None = None

    @property
    def told(self) -> str:
        """The protocol as results name it."""
        return "prior-times-image" if self.protocol == "image" else self.protocol

    @property
    def slug(self) -> str:
        """Name of its files."""
        words = re.sub(r"[^a-z0-9]+", "-", f"{self.name} {self.protocol}".lower())
        return words.strip("-")


def table_rows(
    task: Task, entries: Sequence[Entry], protocols: Sequence[str], settings: Settings
) -> list[Row]:
    """The floors, which are in every table, and each encoder with each protocol it can have.

    Raises:
        ValueError: two rows whose results would be one file.
    """
    floors = [
        Row("majority" if task.classes else "mean", "majority", "floor"),
        Row("nearest neighbours on the sphere", "neighbours", "floor"),
        Row("Wrap", "probe", "floor", Entry("Wrap", {"name": "Wrap"})),
    ]
    images = task.image_probs is not None
    if images:
        floors.append(Row("image alone", "image", "floor"))
    if "nearest-of-class" in protocols:
        floors.append(Row("nearest row of each class on the sphere", "nearest-of-class", "floor"))
    found = []
    for entry in entries:
        network = (settings.network if entry.network is None else entry.network)["name"]
        for protocol in protocols:
            frozen = protocol in ("probe", "neighbours", "nearest-of-class")
            if frozen and entry.position is not None and learns(entry):
                continue
            if not frozen and entry.model is not None:
                continue
            if protocol == "prior-times-image" and not images:
                continue
            name = entry.name if frozen else f"{entry.name} + {network}"
            found.append(Row(name, protocol, entry=entry))
            if protocol == "trained" and entry.pooled:
                more = f"{name}, and neighbours"
                found.append(Row(more, "encoder-and-neighbours", "hybrid", entry))
    if "trained" in protocols:
        found.append(Row("kriging on the sphere", "kriging", "hybrid"))
    return _apart([*floors, *found])


def _apart(rows: Sequence[Row]) -> list[Row]:
    """Each row once: what is entered and is a floor anyway stays a floor."""
    kept: dict[str, Row] = {}
    for row in rows:
        other = kept.setdefault(row.slug, row)
        if other is not row and (other.kind != "floor" or other.entry != row.entry):
            raise ValueError(
                f"expected names of encoders that differ in letters or digits, got {other.name!r} "
                f"and {row.name!r}, whose results would be one file; rename one in a .toml file"
            )
    return list(kept.values())


def learns(entry: Entry) -> bool:
    """Whether the position encoder has parameters, so that it says nothing before training."""
    from geoenc.position import PositionEncoder

    assert entry.position is not None
    try:
        encoder = PositionEncoder.from_config({**entry.position, **entry.candidates[0]})
    except (ValueError, TypeError):
        return False  # its rows will say so
    return any(True for _ in encoder.parameters())


class Table:
    """All rows of one split of one task.

    Args:
        task: with its data.
        split: with the parts of its rows.
        settings: sizes and search spaces.
        folder: where results are kept.
    """

    def __init__(self, task: Task, split: Split, settings: Settings, folder: Path) -> None:
        self.task, self.split, self.settings, self.folder = task, split, settings, folder
        self.folds = [parts_of(task, split, fold) for fold in split.folds]
        self.data_hash = data_hash(task)

    def fill(self, rows: Sequence[Row], *, force: bool = False) -> Iterator[tuple[dict, bool]]:
        """Each result, and whether it was computed now; what is known is read.

        An error is a result, too: it is kept with the row, which the next run tries again.
        """
        for row in rows:
            path = results.path(self.folder, self.task.name, self.split.name, row.slug)
            known = results.read_one(path)
            settings = self.settings_hash(row)
            same = known is not None and known["settings_hash"] == settings
            if known is not None and same and known["error"] is None and not force:
                yield known, False
                continue
            record, arrays = self.result(row)
            results.write(path, record, arrays)
            yield record, True

    def settings_hash(self, row: Row) -> str:
        """Of all that a result depends on, but for the version of geoenc."""
        return digest(
            {
                "rules": RULES,
                "row": [row.name, row.protocol, row.kind],
                "encoder": None if row.entry is None else row.entry.config,
                "settings": self.settings.config,
                "split": self.split.hash,
                "data": self.data_hash,
                "metric": self.task.metric,
            }
        )

    def result(self, row: Row) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The record of a row, and its answers sample by sample."""
        train, validation, test = (
            sum(len(fold[name].target) for fold in self.folds)
            for name in ("train", "validation", "test")
        )
        source = dict(self.task.source)
        record: dict[str, Any] = {
            "task": self.task.name,
            "split": self.split.name,
            "row": row.name,
            "kind": row.kind,
            "protocol": row.told,
            "encoder": None if row.entry is None else row.entry.config,
            "metric": self.task.metric,
            "higher_is_better": True,
            "seeds": list(range(self.settings.seeds)),
            "test": [],
            "validation": [],
            "more": {},
            "deterministic": False,
            "chosen": {},
            "search": [],
            "seconds": 0.0,
            "num_train": train,
            "num_train_available": train,
            "num_validation": validation,
            "num_test": test,
            "num_folds": len(self.folds),
            "split_hash": self.split.hash,
            "data_hash": self.data_hash,
            "settings": self.settings.config,
            "settings_hash": self.settings_hash(row),
            "about": {
                "about": self.task.about,
                "classes": self.task.classes,
                "licence": source.pop("licence", ""),
                "url": source.pop("url", ""),
                "control": self.task.control,
                "block_degrees": self.task.block_degrees,
            },
            "source": source,
            "versions": versions(),
            "hardware": hardware(),
            "error": None,
        }
        start = time.process_time()
        arrays: dict[str, np.ndarray] = {}
        try:
            found, arrays = self.answers(row)
            record.update(found)
        except Exception as error:  # whatever it is, the other rows go on
            lines = str(error).splitlines() or [""]
            record["error"] = f"{type(error).__name__}: {lines[0]}"
            record["traceback"] = traceback.format_exc().splitlines()[-6:]
        record["seconds"] = round(time.process_time() - start, 3)
        return record, arrays

    def answers(self, row: Row) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Scores of every seed; of several folds, those of all their test rows together."""
        protocol = {"nearest-of-class": nearest_of_class, **HYBRIDS, **PROTOCOLS}[row.protocol]
        union = {name: _union([fold[name] for fold in self.folds]) for name in _TWO}
        chosen: list[dict[str, Any] | None] = [None] * len(self.folds)
        found: dict[str, Any] = {"test": [], "validation": [], "more": {}, "search": []}
        each: list[dict[str, Tensor]] = []
        for seed in range(self.settings.seeds):
            if seed and found["deterministic"]:
                each.append(each[0])
                for values in (found["test"], found["validation"], *found["more"].values()):
                    values.append(values[0])
                continue
            said = [
                protocol(fold, row.entry, self.settings, seed, known)
                for fold, known in zip(self.folds, chosen, strict=True)
            ]
            outputs = {name: torch.cat([getattr(one, name) for one in said]) for name in _TWO}
            scores = union["test"].scores(outputs["test"])
            found["test"].append(_rounded(scores.pop(self.task.metric)))
            found["validation"].append(_rounded(union["validation"].score(outputs["validation"])))
            for name, value in {**scores, **_more(said)}.items():
                found["more"].setdefault(name, []).append(_rounded(value))
            each.append(self.samples(union["test"], outputs["test"]))
            if seed == 0:
                chosen = [one.chosen for one in said]
                found["chosen"] = chosen[0] if len(chosen) == 1 else {"folds": chosen}
                found["search"] = [_short(one) for tried in said for one in tried.search]
                found["deterministic"] = all(one.deterministic for one in said)
                found["num_train"] = sum(one.num_train for one in said)
        return found, self.arrays(union["test"], each)

    def samples(self, part: Part, output: Tensor) -> dict[str, Tensor]:
        """Right or wrong, squared errors, or scores of the second class, row by row."""
        if self.task.judge is not None:
            return {}
        if self.task.metric == "auc":
            return {"score": (output[:, 1] - output[:, 0]).double()}
        return part.each(output)

    def arrays(self, part: Part, each: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
        """What `geoenc.bench.results.write` keeps beside the record."""
        assert part.rows is not None
        found = {name: torch.stack([one[name] for one in each]).numpy() for name in each[0]}
        if "score" in found:
            found["target"] = part.target.numpy()
        if "error" in found:
            found["error"] = found["error"].astype(np.float32)
        return {
            **found,
            "row": part.rows.numpy(),
            "lonlat": part.lonlat.numpy(),
            "block": blocks(part.lonlat, self.task.block_degrees).numpy(),
        }


_TWO = ("validation", "test")


def data_hash(task: Task) -> str:
    """Of places and answers."""
    found = hashlib.sha256(task.lonlat.double().contiguous().numpy().tobytes())
    found.update(task.target.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _union(parts: Sequence[Part]) -> Part:
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(
        first,
        lonlat=torch.cat([part.lonlat for part in parts]),
        target=torch.cat([part.target for part in parts]),
        rows=torch.cat([part.rows for part in parts if part.rows is not None]),
        image_probs=None,
    )


def _more(said: Sequence[Said]) -> dict[str, float]:
    """Other scores: means over folds."""
    return {name: float(np.mean([one.more[name] for one in said])) for name in said[0].more}


def _short(tried: Mapping[str, Any]) -> dict[str, Any]:
    validation, seconds = _rounded(tried["validation"]), round(tried["seconds"], 3)
    return {**tried, "validation": validation, "seconds": seconds}


def _rounded(value: float) -> float:
    """Six digits; a score that is no number is an error of the row."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"expected a score that is a number, got {value}; look at the targets of the test part"
        )
    return round(float(value), 6)
