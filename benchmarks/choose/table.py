"""Tables from the lines of results: nothing in them is typed."""

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.choose.cost import example
from benchmarks.choose.run import FLOORS, FOLDER, Records, read_settings, tag
from benchmarks.choose.tasks import SPLITS, TASKS
from geoenc import sampling
from geoenc._files import write_text
from geoenc.properties import properties

Cell = tuple[str, str]
"""A task and a split."""


@dataclasses.dataclass
class Scores:
    """Test scores of all seeds by encoder, network and cell, and what was chosen for each."""

    test: dict[tuple[str, str, Cell], list[float]]
    validation: dict[tuple[str, str, Cell], list[float]]
    chosen: dict[tuple[str, str, Cell], dict[str, Any]]
    encoders: list[str]
    networks: list[str]
    cells: list[Cell]

    def best_network(self, encoder: str, cell: Cell) -> str:
        """The network with the highest mean on the validation places."""
        return max(
            (n for n in self.networks if (encoder, n, cell) in self.test),
            key=lambda network: statistics.mean(self.validation[encoder, network, cell]),
        )

    def best(self, encoder: str, cell: Cell) -> list[float]:
        """Test scores with that network."""
        return self.test[encoder, self.best_network(encoder, cell), cell]


def read(settings: dict[str, Any], scores: Records, tasks: Iterable[str] = TASKS) -> Scores:
    """The scores with these very settings; encoders and networks that lack some are left out."""
    seeds = settings["sizes"]["seeds"]
    cells = [(task, split) for task in tasks for split in SPLITS]
    wanted = {(name, "–"): tag(settings, name)[0] for name in FLOORS}
    for entry in settings["encoders"]:
        for name, network in settings["networks"].items():
            wanted[entry["name"], name] = tag(settings, entry, network)[0]
    found: dict[tuple[str, str, Cell], dict[int, dict]] = {}
    for record in scores.found.values():
        of = record["of"]
        if wanted.get((of["encoder"], of["network"])) == of["settings"]:
            key = of["encoder"], of["network"], (of["task"], of["split"])
            found.setdefault(key, {})[of["seed"]] = record
    whole = {key: records for key, records in found.items() if len(records) == seeds}
    complete = {pair for pair in wanted if all((*pair, cell) in whole for cell in cells)}
    networks = [
        name
        for name in settings["networks"]
        if any((entry["name"], name) in complete for entry in settings["encoders"])
    ]
    encoders = [
        entry["name"]
        for entry in settings["encoders"]
        if all((entry["name"], name) in complete for name in networks)
    ]

    def column(key: str) -> dict[tuple[str, str, Cell], list[float]]:
        return {
            where: [records[seed][key] for seed in range(seeds)] for where, records in whole.items()
        }

    chosen = {where: records[0]["chosen"] for where, records in whole.items()}
    return Scores(column("test"), column("validation"), chosen, encoders, networks, cells)


def difference_error(rows: list[list[float]]) -> float:
    """Standard error of the difference of two means over the same seeds, pooled over all rows.

    What is left of each score when the mean of its row and of its seed are taken away: seeds
    with hard test places do not count, since all encoders have the same ones.
    """
    count, seeds = len(rows), len(rows[0])
    if count < 2 or seeds < 2:
        return math.nan
    row = [statistics.mean(values) for values in rows]
    seed = [statistics.mean(values) for values in zip(*rows, strict=True)]
    grand = statistics.mean(row)
    left = sum(
        (value - row[i] - seed[j] + grand) ** 2
        for i, values in enumerate(rows)
        for j, value in enumerate(values)
    )
    return math.sqrt(left / ((count - 1) * (seeds - 1)) * 2 / seeds)


def standard_error(values: list[float]) -> float:
    """Of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _column(values: dict[str, list[float]], best_of: Iterable[str], errors: bool) -> dict[str, str]:
    """Cells of one column in percent; bold: the best, and what the seeds do not tell from it."""
    inside = list(best_of)
    margin = difference_error([values[name] for name in inside])
    highest = max(statistics.mean(values[name]) for name in inside)
    shown = {}
    for name, scores in values.items():
        mean = statistics.mean(scores)
        text = f"{100 * mean:.1f}".replace("-0.0", "0.0")
        if name in inside and mean >= highest - (0 if math.isnan(margin) else margin):
            text = f"**{text}**"
        if errors:
            text += f" ± {100 * standard_error(scores):.1f}"
        shown[name] = text
    shown["margin"] = f"{100 * margin:.1f}"
    return shown


def _table(heads: list[str], rows: dict[str, str], columns: list[dict[str, str]]) -> str:
    return _markdown(
        heads,
        [[label, *(column.get(row, "") for column in columns)] for row, label in rows.items()],
    )


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _head(cell: Cell) -> str:
    return f"{cell[0]}, {cell[1]}"


FLOOR_LABELS = {
    "nearest neighbours": "*k nearest neighbours*",
    "one answer": "*one answer for all*",
    "margin": "*one standard error of a difference*",
}


def accuracy(scores: Scores, split: str) -> str:
    """Each encoder with its best network of the validation places, beside the floors."""
    rows = {name: f"`{name}`" for name in scores.encoders} | FLOOR_LABELS
    cells = [cell for cell in scores.cells if cell[1] == split]
    columns = []
    for cell in cells:
        values = {name: scores.best(name, cell) for name in scores.encoders}
        values |= {floor: scores.test[floor, "–", cell] for floor in FLOORS}
        columns.append(_column(values, scores.encoders, errors=False))
    columns.append({n: _mean_and_error(values) for n, values in ranks(scores, split).items()})
    return _table(["Encoder", *(task for task, _ in cells), "mean rank"], rows, columns)


def networks(scores: Scores, split: str) -> str:
    """Each network, as the mean over the encoders; and how often it was the chosen one."""
    rows = {name: f"`{name}`" for name in scores.networks} | {"margin": FLOOR_LABELS["margin"]}
    cells = [cell for cell in scores.cells if cell[1] == split]
    columns = []
    for cell in cells:
        values = {
            name: [
                statistics.mean(several)
                for several in zip(
                    *(scores.test[encoder, name, cell] for encoder in scores.encoders), strict=True
                )
            ]
            for name in scores.networks
        }
        columns.append(_column(values, scores.networks, errors=False))
    chosen = [scores.best_network(e, cell) for e in scores.encoders for cell in cells]
    columns.append({name: f"{chosen.count(name)} of {len(chosen)}" for name in scores.networks})
    return _table(["Network", *(task for task, _ in cells), "chosen"], rows, columns)


def full(scores: Scores) -> str:
    """One table for each cell: encoders by networks."""
    lines = []
    for cell in scores.cells:
        task, split = cell
        lines += [f"## {task}, {split} split", ""]
        rows = {name: f"`{name}`" for name in scores.encoders} | FLOOR_LABELS
        pairs = {
            (encoder, network): scores.test[encoder, network, cell]
            for encoder in scores.encoders
            for network in scores.networks
        }
        keyed = {"\n".join(pair): values for pair, values in pairs.items()}
        shown = _column(keyed, keyed, errors=True)
        columns = [
            {e: shown[f"{e}\n{network}"] for e in scores.encoders} for network in scores.networks
        ]
        for floor in FLOORS:
            columns[0][floor] = _mean_and_error(scores.test[floor, "–", cell], 100)
        columns[0]["margin"] = shown["margin"]
        lines += [_table(["Encoder", *scores.networks], rows, columns), ""]
    return "\n".join(lines)


def chosen(settings: dict[str, Any], scores: Scores) -> str:
    """The scale that the validation places of the first seed chose, and among which values."""
    rows, columns = {}, [{} for _ in range(len(scores.cells) + 1)]
    network = scores.networks[0]
    for entry in settings["encoders"]:
        name = entry["name"]
        if "choose" not in entry or name not in scores.encoders:
            continue
        [(argument, values)] = entry["choose"].items()
        rows[name] = f"`{name}`"
        columns[0][name] = f"`{argument}` of {', '.join(f'{value:g}' for value in values)}"
        for column, cell in zip(columns[1:], scores.cells, strict=True):
            column[name] = f"{scores.chosen[name, network, cell][argument]:g}"
    return _table(["Encoder", "choice", *map(_head, scores.cells)], rows, columns)


def ranks(scores: Scores, split: str) -> dict[str, list[float]]:
    """For each encoder, with its best network: the mean rank over the tasks, one for each seed."""
    cells = [cell for cell in scores.cells if cell[1] == split]
    best = {(name, cell): scores.best(name, cell) for name in scores.encoders for cell in cells}
    seeds = range(len(next(iter(best.values()), [])))

    def rank(name: str, cell: Cell, seed: int) -> int:
        return 1 + sum(
            best[other, cell][seed] > best[name, cell][seed] for other in scores.encoders
        )

    return {
        name: [statistics.mean(rank(name, cell, seed) for cell in cells) for seed in seeds]
        for name in scores.encoders
    }


def summary(settings: dict[str, Any], costs: dict[str, Any]) -> str:
    """Size, scale, continuity and cost of every encoder."""
    places = sampling.fibonacci(2000)
    rows = []
    for entry in settings["encoders"]:
        name = entry["name"]
        it = properties(example(entry, places))
        wave = it["shortest_wave"]
        cost = costs.get(name)
        joins = ["180°"] * it["antimeridian"] + ["poles"] * it["poles"]
        row = [
            f"`{name}`", f"{it['columns']:,}", f"{it['parameters']:,}",
            "–" if wave is None else f"{wave:.3g}°",
            "–" if wave is None else f"{it['shortest_km']:,.0f}",
            ", ".join(joins) or "–",
            f"{cost['seconds_a_million']:.2f}" if cost else "",
            f"{cost['times_xyz']:.1f}" if cost else "",
        ]  # fmt: skip
        rows.append(row)
    heads = ("Encoder", "columns", "trained", "shortest wave", "km", "joins at", "seconds")
    return _markdown([*heads, "× `XYZ`"], rows)


def _mean_and_error(values: list[float], times: float = 1.0) -> str:
    if not values:
        return ""
    mean = f"{times * statistics.mean(values):.1f}".replace("-0.0", "0.0")
    return f"{mean} ± {times * standard_error(values):.1f}"


def how(settings: dict[str, Any], scores: Records, search: Records) -> str:
    """How the numbers were made, in one paragraph."""
    sizes, training = settings["sizes"], settings["training"]
    seconds = [record["seconds"] for record in scores.found.values()]
    tried = [record["seconds"] for record in search.found.values()]
    return (
        f"Each training sees {sizes['train']:,} places for {training['steps']} steps of "
        f"{training['batch']}; {sizes['validation']:,} other places choose, and at most "
        f"{sizes['test']:,} test. There are {sizes['seeds']} seeds; each draws other places, "
        f"another split, other blocks ({sizes['block_degrees']}° wide), and other weights. "
        f"{len(seconds):,} scores took {sum(seconds) / 60:.0f} minutes of one core, and "
        f"{len(tried):,} trainings that chose scales and learning rates "
        f"{sum(tried) / 60:.0f} minutes.\n"
    )


def write() -> None:
    """Write every table that the results allow."""
    settings = read_settings()
    lines = Records(FOLDER / "scores.jsonl")
    scores = read(settings, lines)
    path = FOLDER / "cost.json"
    costs: dict[str, Any] = {}
    if path.is_file():
        costs = {c["encoder"]: c for c in json.loads(path.read_text(encoding="utf-8"))["costs"]}
    tables: dict[str, Callable[[], str]] = {
        **{f"accuracy-{s}.md": functools.partial(accuracy, scores, s) for s in SPLITS},
        **{f"networks-{s}.md": functools.partial(networks, scores, s) for s in SPLITS},
        "full.md": lambda: full(scores),
        "chosen.md": lambda: chosen(settings, scores),
        "summary.md": lambda: summary(settings, costs),
        "how.md": lambda: how(settings, lines, Records(FOLDER / "search.jsonl")),
    }
    for name, made in tables.items():
        write_text(FOLDER / name, made())
    missing = [e["name"] for e in settings["encoders"] if e["name"] not in scores.encoders]
    for split in SPLITS:
        print(f"{split} split\n\n{tables[f'accuracy-{split}.md']()}")
    if missing:
        print(f"not yet complete, and left out: {', '.join(missing)}")
