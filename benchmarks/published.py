"""What others published beside what is measured here, or the files that are missing.

    python -m benchmarks.published        write benchmarks/results/published/*.md

Reported numbers are in benchmarks/reported/, each with its source. Measured ones come only from
files that a command of the page wrote: those of `python -m benchmarks.locbench` and
`python -m benchmarks.reproductions`, and results of `geoenc bench` that were kept by

    python -m benchmarks --report --out runs/published --keep benchmarks/results/published/suite

The page is published.md.
"""

import json
import math
import shlex
import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import locbench, reproductions
from benchmarks.shared import RESULTS, console, described_by, markdown_table
from geoenc._files import write_text
from geoenc.bench.load import find_task
from geoenc.data.sources import PUBLISHED

REPORTED = Path(__file__).resolve().parent / "reported"
TASKS = "benchmarks/tasks"
OUT = "--out runs/published"
PROTOCOLS = {"linear": "probe", "neighbours": "neighbours"}
NOTHING = "–"

Table = dict[str, Any]
Measured = dict[tuple[str, str, str, str], float]
"""Task, split, row and protocol: the mean over seeds on the test part."""


def reported(name: str) -> Table:
    """A file of reported numbers."""
    with (REPORTED / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def measured(results: Path = RESULTS) -> Measured:
    """Results of `geoenc bench` that were kept for this page, on whole training parts."""
    found: Measured = {}
    for path in sorted((results / "published" / "suite").glob("*.json")):
        records = json.loads(path.read_text(encoding="utf-8"))
        for one in records if isinstance(records, list) else ():  # else summary.json
            if one["error"] is None and one["num_train"] == one["num_train_available"]:
                key = one["task"], one["split"], one["row"], one["protocol"]
                found[key] = statistics.mean(one["test"])
    return found


def cell(*values: float | None, digits: int = 2) -> str:
    """Numbers side by side; what is not known is a dash."""
    known = [None if value is None or math.isnan(value) else value for value in values]
    return " / ".join(NOTHING if value is None else f"{value:.{digits}f}" for value in known)


def bench(
    tasks: Iterable[str], encoders: Sequence[str], protocols: Iterable[str], data: str = "DIR"
) -> str:
    """The command that measures encoders in tasks."""
    where = f" --data {data}" if data else ""
    words = f"{' '.join(tasks)} --encoder {shlex.join(encoders)} --protocol {' '.join(protocols)}"
    return f"geoenc bench {words}{where} {OUT}"


def missing(tasks: Iterable[str]) -> list[str]:
    """What each task of `geoenc bench` needs, in lines."""
    files: dict[str, list[str]] = {}
    for name in tasks:
        file = find_task(name)
        files.setdefault(file.file, []).append(f"`{file.name}`")
    return [f"- `DIR/{file}`: {', '.join(names)}" for file, names in files.items()]


# --- LocBench -----------------------------------------------------------------------------------


def _average(settings: Table, scores: Mapping[str, Table]) -> float | None:
    """Of the five species sets, where all are there."""
    species = [key for key, one in settings["classes"].items() if one["species"]]
    found = [scores[key]["top1"] for key in species if key in scores]
    return statistics.mean(found) if len(found) == len(species) else None


def locbench_classes(folder: Path = locbench.FOLDER) -> list[str]:
    """Table 1: reported / in the released file / measured here, in %."""
    settings, printed = locbench.read_settings(), reported("locbench")["table1"]
    files = locbench.released_scores("classes", folder)
    ours = locbench.kept("classes", folder)
    sets, rows = settings["classes"], []
    columns = [*(k for k in sets if sets[k]["species"]), "average"]
    columns += [k for k in sets if not sets[k]["species"]]
    for encoder, numbers in printed.items():
        row = [f"`{encoder}`"]
        for key in columns:
            both = [one.get(encoder, {}) for one in (files, ours)]
            if key == "average":
                row.append(cell(numbers.get(key), *(_average(settings, one) for one in both)))
            else:
                row.append(cell(numbers.get(key), *(one.get(key, {}).get("top1") for one in both)))
        rows.append(row)
    titles = ["average of five" if k == "average" else sets[k]["title"] for k in columns]
    return [
        *markdown_table(["encoder", *titles], rows),
        *["", "What a number of the third kind needs, below `DIR`:", ""],
        *[f"- {one['title']}: {_classes_need(one)}" for one in sets.values()],
        "",
        *console(locbench_command("classes", encoder) for encoder in printed),
    ]


def _classes_need(one: Table) -> str:
    source = PUBLISHED[one["source"]]
    theirs = source.splits[one["split"]]
    files = described_by(source, (source.splits["train"], theirs))
    files.append(source.predictions["full"].format(split=theirs))
    return ", ".join(f"`{source.folder}/{file}`" for file in files)


def locbench_command(kind: str, encoder: str) -> str:
    """The command of one row of Table 1 or 3."""
    return f"python -m benchmarks.locbench {kind} {shlex.quote(encoder)} --data DIR"


def locbench_values(folder: Path = locbench.FOLDER) -> list[str]:
    """Table 3: reported / in the released file / measured here, R squared."""
    settings, printed = locbench.read_settings(), reported("locbench")["table3"]
    files = locbench.released_scores("values", folder)
    ours, sets = locbench.kept("values", folder), settings["values"]
    rows = [
        [
            f"`{encoder}`",
            *(
                cell(
                    numbers.get(key),
                    *(one.get(encoder, {}).get(key, {}).get("r2") for one in (files, ours)),
                )
                for key in sets
            ),
        ]
        for encoder, numbers in printed.items()
    ]
    return [
        *markdown_table(["encoder", *(one["title"] for one in sets.values())], rows),
        *["", "What a number of the third kind needs, below `DIR`: for MOSAIKS"],
        "`mosaiks/Y_NAME.csv` with `X_NAME.npy`, NAME population, forest_cover (or forest),",
        "nightlights and elevation; for SustainBench `sustainbench/dhs_trainval_labels.csv` and",
        *["`sustainbench/dhs_test_labels.csv`.", ""],
        *console(locbench_command("values", encoder) for encoder in printed),
    ]


# --- Spherical harmonics and Siren --------------------------------------------------------------


def russwurm(kept: Mapping[str, Any] | None = None) -> list[str]:
    """Checkerboard and land-ocean: every published setting beside its run here."""
    settings = reproductions.read_settings()
    runs = reproductions.read_kept() if kept is None else kept
    rows = []
    for row in settings["rows"]:
        found = reproductions.measured(settings, row, runs)
        said = [[one[score] for one in found if score in one] for score in ("accuracy", "iou")]
        rows.append(
            [
                row["task"],
                reproductions.title(row),
                f"{row['reported']:g}" if "reported" in row else "not known",
                _spread(said[0], 2),
                f"{row['reported_iou']:g}" if "reported_iou" in row else NOTHING,
                _spread(said[1], 3),
                str(len(found)),
            ]
        )
    for one in reported("russwurm")["degrees"]:
        for network, number in one["accuracy"].items():
            iou = f"{one['iou']:g}" if "iou" in one and network == "Siren" else NOTHING
            title = f"{one['position']} + {network}, angles in degrees"
            rows.append([one["task"], title, f"{number:g}", "not repeated", iou, NOTHING, NOTHING])
    head = ["task", "encoder", "reported", "measured", "reported IoU", "IoU", "seeds"]
    return [
        *markdown_table(head, rows),
        *["", "One command runs each row that is not measured; nothing has to be downloaded.", ""],
        *console(["python -m benchmarks.reproductions"]),
    ]


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return NOTHING
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"


# --- Sphere2Vec ---------------------------------------------------------------------------------

NEIGHBOURS = ("nearest neighbours on the sphere", "neighbours")
SPHERE2VEC = ("Sphere2VecC", "Sphere2VecCPlus", "Sphere2VecM", "Sphere2VecMPlus", "Sphere2VecDFS")


def vmf_sets() -> list[str]:
    """The twenty generated sets."""
    strata = [f"vmf-s{i}-{j}" for i in range(1, 5) for j in range(1, 5)]
    return [*(f"vmf-u{i}" for i in range(1, 5)), *strata]


def sphere2vec(results: Path = RESULTS) -> list[str]:
    """The generated sets: nothing reported is known, what is measured."""
    ours = measured(results)
    rows = [
        [f"`{name}`", "not retrievable", _percent(ours.get((name, "random", *NEIGHBOURS)))]
        + [_percent(ours.get((name, "random", f"{one} + FFN", "trained"))) for one in SPHERE2VEC]
        for name in vmf_sets()
    ]
    head = ["task", "reported", "neighbours", *(f"`{one}`" for one in SPHERE2VEC)]
    commands = [bench([name], SPHERE2VEC, ["trained"], data="") for name in vmf_sets()]
    return [*markdown_table(head, rows), "", *console(commands)]


def _percent(value: float | None) -> str:
    return cell(None if value is None else 100 * value)


# --- RANGE --------------------------------------------------------------------------------------


def range_suite(results: Path = RESULTS) -> list[str]:
    """Seven tasks: reported / measured here, accuracy in % and R squared."""
    table, ours = reported("range"), measured(results)
    tasks = list(table["rows"][0]["reported"])
    rows = []
    for row in table["rows"]:
        cells = [_range_cell(row, task, ours) for task in tasks]
        rows.append([f"{row['name']} ({row.get('source', 'RANGE')})", *cells])
    names = [f"range-{task}" for task in tasks]
    commands = []
    for row in table["rows"]:
        before = ""
        if row["encoder"].startswith("models/"):
            plus = " --plus" if row["name"] == "RANGE+" else ""
            before = f"python -m benchmarks.range_database {row['encoder']}{plus} && "
        commands.append(before + bench(names, [row["encoder"]], ["probe"]))
    return [
        *markdown_table(["embedding", *tasks], rows),
        *["", "What a measured number needs:", "", *missing(names), ""],
        *console(commands),
    ]


def _range_cell(row: Table, task: str, ours: Measured) -> str:
    classes = task in ("biome", "ecoregion", "country")
    name = row["encoder"].rpartition("/")[2]  # a folder is called by its last part
    found = ours.get((f"range-{task}", "random", name, "probe"))
    if found is not None and classes:
        found *= 100
    return cell(row["reported"][task], found, digits=1 if classes else 3)


# --- CoordBench ---------------------------------------------------------------------------------


def coordbench(results: Path = RESULTS) -> list[str]:
    """Reported / measured here, each random and blocked."""
    table, ours = reported("coordbench"), measured(results)
    models = table["models"]
    rows = []
    for part in ("linear", "neighbours", "sustainbench", "conus27"):
        for task, numbers in table[part].items():
            cells = [
                _coord_cell(part, task, model["encoder"], numbers.get(key), ours)
                for key, model in models.items()
            ]
            rows.append([f"{task}, {part}", *cells])
    titles = [model["title"] for model in models.values()]
    names = coordbench_tasks(table)
    known = [model["encoder"] for model in models.values() if model["encoder"]]
    return [
        *markdown_table(["task", *titles], rows),
        *["", "What a measured number needs:", "", *missing(names), ""],
        *console(bench(names, [one], PROTOCOLS.values()) for one in known),
    ]


def coordbench_tasks(table: Table) -> list[str]:
    """Tasks of the package, and those of benchmarks/tasks, for the rows of the table."""
    names = [f"coordbench-{task}" for task in table["linear"]]
    more = [f"coordbench-sustainbench-{task.replace('_', '-')}" for task in table["sustainbench"]]
    return names + [f"{TASKS}/{one}.toml" for one in (*more, "coordbench-conus27-tree-cover")]


def _coord_cell(part: str, task: str, encoder: str, number: Any, ours: Measured) -> str:
    middle = f"{part}-" if part in ("sustainbench", "conus27") else ""
    name = f"coordbench-{middle}{task.replace('_', '-')}"
    protocol = PROTOCOLS.get(part, "probe")
    found = [ours.get((name, split, encoder, protocol)) for split in ("random", "blocked")]
    if part == "sustainbench":
        return f"{cell(number, digits=3)}; {cell(found[0], digits=3)}"
    both = [None, None] if number is None else number
    return f"{cell(*both, digits=3)}; {cell(*found, digits=3)}"


# --- SatCLIP ------------------------------------------------------------------------------------


def satclip(results: Path = RESULTS) -> list[str]:
    """Its nine tasks by two later evaluations; its own tables were not retrievable."""
    ours, encoder = measured(results), "satclip-vit16-l40"
    theirs = next(row for row in reported("range")["rows"] if row["name"] == "SatCLIP")
    table, rows, commands = reported("coordbench"), [], []
    for task in reported("satclip")["tasks"]:
        if "bench" not in task:
            rows.append([task["name"], "not retrievable", NOTHING, NOTHING, task["needs"]])
            continue
        number = table["linear"][task["coordbench"]]["satclip"]
        needs = ", ".join(f"`DIR/{find_task(name).file}`" for name in task["bench"])
        second = _coord_cell("linear", task["coordbench"], encoder, number, ours)
        first = _range_cell(theirs, task["range"], ours)
        rows.append([task["name"], "not retrievable", first, second, needs])
        commands.append(bench(task["bench"], [encoder], ["probe"]))
    head = ["task", "own table", "RANGE's: reported / measured", "CoordBench's: the same", "needs"]
    return [*markdown_table(head, rows), "", *console(commands)]


PAGES = {
    "locbench-table1": locbench_classes,
    "locbench-table3": locbench_values,
    "russwurm": russwurm,
    "sphere2vec": sphere2vec,
    "satclip": satclip,
    "range": range_suite,
    "coordbench": coordbench,
}


def main(folder: Path = RESULTS / "published") -> None:
    """Write every part of the page."""
    for name, section in PAGES.items():
        write_text(folder / f"{name}.md", "\n".join(section()).rstrip() + "\n")


if __name__ == "__main__":
    main()
