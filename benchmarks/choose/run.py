"""The experiment: choices on validation places, then every training, kept line by line."""

import functools
import hashlib
import json
import os
import platform
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import geoenc
from benchmarks.choose import training
from benchmarks.choose.tasks import SPLITS, TASKS, Task, draw
from benchmarks.shared import RESULTS
from geoenc._files import append_line

SETTINGS = Path(__file__).with_name("settings.toml")
FOLDER = RESULTS / "choose"
FLOORS = {
    "nearest neighbours": training.nearest_neighbours,
    "one answer": training.one_answer,
}


def read_settings(path: Path = SETTINGS) -> dict[str, Any]:
    """The settings; names that geoenc does not know are errors."""
    with path.open("rb") as file:
        settings = tomllib.load(file)
    known = geoenc.PositionEncoder.registry
    for table in [*settings["encoders"], *settings["networks"].values()]:
        part = table.get("position", table.get("network"))
        if part is not None and part["name"] not in known:
            raise SystemExit(f"expected a class of geoenc in {path}, got {part['name']!r}")
    names = [entry["name"] for entry in settings["encoders"]]
    if len(set(names)) < len(names):
        raise SystemExit(f"expected different names of encoders in {path}, got {names}")
    return settings


class Records:
    """Lines of JSON in one file, each found again by its key; a line once written stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self.found[self._key(record["of"])] = record

    def once(self, of: dict[str, Any], made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of this, read or made now."""
        key = self._key(of)
        if key not in self.found:
            record = {"of": of, **made()}
            append_line(self.path, json.dumps(record, ensure_ascii=False))
            self.found[key] = record
        return self.found[key]

    @staticmethod
    def _key(of: dict[str, Any]) -> str:
        return json.dumps(of, sort_keys=True)


class Study:
    """Settings, tasks, and what was already measured."""

    def __init__(
        self,
        settings: dict[str, Any],
        folder: Path = FOLDER,
        tasks: dict[str, Callable[[], Task]] = TASKS,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self.tasks = settings, tasks
        self.scores = Records(folder / "scores.jsonl")
        self.search = Records(folder / "search.jsonl")
        self.described = Records(folder / "settings.jsonl")

    @functools.cache  # noqa: B019
    def task(self, name: str) -> Task:
        """All places of one task."""
        return self.tasks[name]()

    @functools.lru_cache(maxsize=64)  # noqa: B019
    def parts(self, task: str, split: str, seed: int) -> dict[str, Task]:
        """The places of one seed."""
        return draw(self.task(task), split, seed, self.settings["sizes"])

    def tag(self, *parts: Any) -> str:
        """The `tag` of these parts; what it stands for is kept."""
        short, meant = tag(self.settings, *parts)
        self.described.once({"tag": short}, lambda: {**meant, **versions()})
        return short

    def cells(self) -> Iterator[tuple[str, str]]:
        """Every task with every split."""
        for task in self.tasks:
            for split in SPLITS:
                yield task, split

    def floors(self) -> None:
        """What needs no encoder."""
        for name, floor in FLOORS.items():
            tag = self.tag(name)
            for task, split in self.cells():
                for seed in range(self.settings["sizes"]["seeds"]):
                    of = {
                        "encoder": name, "network": "–", "task": task, "split": split,
                        "seed": seed, "settings": tag,
                    }  # fmt: skip
                    self.scores.once(of, lambda: rounded(floor(self.parts(task, split, seed))))  # noqa: B023

    def encoder(self, entry: dict[str, Any], say: Callable[[str], None] = print) -> None:
        """All trainings of one position encoder."""
        for task, split in self.cells():
            start = time.process_time()
            prepared: dict[int, tuple] = {}
            position, chosen = self.scale(entry, task, split)
            for name in self.settings["networks"]:
                scores = self.network(entry, name, task, split, position, chosen, prepared)
                took = time.process_time() - start
            if took > 0.5:
                mean = sum(scores) / len(scores)
                say(f"{entry['name']:22}{task:12}{split:9}{name} {mean:.3f}, {took:.1f} s")

    def scale(self, entry: dict[str, Any], task: str, split: str) -> tuple[dict, dict]:
        """The position encoder with its scale chosen on validation, and the choice."""
        position = entry["position"]
        if "choose" not in entry:
            return position, {}
        [(argument, values)] = entry["choose"].items()
        network = self.settings["networks"][self.settings["scale"]["network"]]
        tag = self.tag(entry, network)
        best: tuple[float, Any] | None = None
        for value in values:
            of = {
                "encoder": entry["name"], "task": task, "split": split, "settings": tag,
                argument: value,
            }  # fmt: skip

            def made(value: Any = value) -> dict[str, Any]:
                tried = {**position, argument: value}
                found = self.trained(tried, network, task, split, 0, network["rates"][0], {})
                del found["test"]
                return found

            validation = self.search.once(of, made)["validation"]
            if best is None or validation > best[0]:
                best = validation, value
        assert best is not None
        return {**position, argument: best[1]}, {argument: best[1]}

    def network(
        self,
        entry: dict[str, Any],
        name: str,
        task: str,
        split: str,
        position: dict[str, Any],
        chosen: dict[str, Any],
        prepared: dict[int, tuple],
    ) -> list[float]:
        """The learning rate on the first seed, then the scores of all seeds."""
        network = self.settings["networks"][name]
        tag = self.tag(entry, network)
        first: dict[float, dict[str, Any]] = {}

        def trained(seed: int, rate: float) -> dict[str, Any]:
            return self.trained(position, network, task, split, seed, rate, prepared)

        def tried(rate: float) -> dict[str, Any]:
            first[rate] = trained(0, rate)
            return {key: first[rate][key] for key in ("validation", "seconds")}

        where = {"encoder": entry["name"], "network": name, "task": task, "split": split}
        validation = {
            rate: self.search.once({**where, "rate": rate, "settings": tag}, lambda: tried(rate))[  # noqa: B023
                "validation"
            ]
            for rate in network["rates"]
        }
        rate = max(validation, key=lambda rate: validation[rate])
        scores = []
        for seed in range(self.settings["sizes"]["seeds"]):

            def made(seed: int = seed) -> dict[str, Any]:
                again = seed == 0 and rate in first
                found = first[rate] if again else trained(seed, rate)
                return {**found, "chosen": {**chosen, "rate": rate}}

            scores.append(self.scores.once({**where, "seed": seed, "settings": tag}, made)["test"])
        return scores

    def trained(
        self,
        position: dict[str, Any],
        network: dict[str, Any],
        task: str,
        split: str,
        seed: int,
        rate: float,
        prepared: dict[int, tuple],
    ) -> dict[str, Any]:
        """One training; codes are made once for each seed where they do not change."""
        parts = self.parts(task, split, seed)
        if seed not in prepared:
            made = training.built(position, parts["train"], seed)
            prepared[seed] = made, training.codes(made, parts)
        encoder, codes = prepared[seed]
        if codes is None:  # its own parameters start anew
            encoder = training.built(position, parts["train"], seed)
        return rounded(
            training.fit(
                encoder,
                network.get("network"),
                parts,
                codes,
                rate=rate,
                training=self.settings["training"],
                seed=seed,
            )
        )


def tag(settings: dict[str, Any], *parts: Any) -> tuple[str, dict[str, Any]]:
    """A short name for sizes, training and these parts of the settings, and what it stands for."""
    sizes = {key: value for key, value in settings["sizes"].items() if key != "seeds"}
    meant = {"sizes": sizes, "training": settings["training"], "parts": parts}
    text = json.dumps(meant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10], meant


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    """Five digits are enough for scores of some thousand places."""
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()}


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    return {
        "geoenc": geoenc.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def run(only: list[str] | None = None) -> None:
    """Everything that is not yet measured."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # far from narrow RBFs, numbers are too small to be quick
    study = Study(read_settings())
    names = [entry["name"] for entry in study.settings["encoders"]]
    unknown = set(only or []) - set(names)
    if unknown:
        raise SystemExit(f"expected names among {', '.join(names)}, got {', '.join(unknown)}")
    study.floors()
    for entry in study.settings["encoders"]:
        if not only or entry["name"] in only:
            study.encoder(entry, lambda text: print(text, flush=True))
    if os.isatty(sys.stdout.fileno()):
        print(f"scores: {FOLDER}")
