"""Published results of generated tasks, run again: what was reported, what comes out here.

    python -m benchmarks.reproductions              every row that is not measured yet
    python -m benchmarks.reproductions --marked     only those with a pass mark
    python -m benchmarks.reproductions --table      write the table of what is measured

Rows and settings are in reproductions.toml. Each run is kept in results/reproductions/results.json
as soon as it ends; a row whose settings have changed is run again.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import geoenc
from benchmarks.shared import RESULTS
from geoenc._files import write_text
from geoenc.bench.generated import GENERATED
from geoenc.bench.hardware import hardware, versions
from geoenc.bench.task import Task

SETTINGS = Path(__file__).resolve().parent / "reproductions.toml"
FOLDER = RESULTS / "reproductions"
MARKS = {"least": ("accuracy", 1), "most": ("accuracy", -1), "least_iou": ("iou", 1)}
"""Pass marks of a row: of which score, and whether it is a floor or a ceiling."""

Row = dict[str, Any]


def read_settings() -> dict[str, Any]:
    """The table of rows, and how they are trained."""
    with SETTINGS.open("rb") as file:
        return tomllib.load(file)


def title(row: Row) -> str:
    """Position encoder and network, with what tells rows apart."""
    name, network = row["position"]["name"], row["network"]["name"]
    if "degree" in row["position"]:
        name += f"({row['position']['degree']})"
    return f"{name} + {network}"


def marked(row: Row) -> bool:
    """Whether a row has something to reach."""
    return any(mark in row for mark in MARKS)


def model(task: Task, row: Row, seed: int) -> tuple[geoenc.PositionEncoder, nn.Module]:
    """The position encoder and the untrained network of a row; one output says yes or no."""
    torch.manual_seed(seed)
    position = geoenc.PositionEncoder.from_config(row["position"])
    outputs = 1 if task.classes == 2 else task.classes
    sizes = {"in_features": position.out_features, "out_features": outputs}
    return position, geoenc.Network.from_config({**row["network"], **sizes})


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, of two classes by one output."""
    if output.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(output[:, 0], target.to(output))
    return nn.functional.cross_entropy(output, target)


def scores(output: Tensor, target: Tensor) -> dict[str, float]:
    """Accuracy in %, and of two classes the intersection over union of class 1."""
    if output.shape[1] > 1:
        return {"accuracy": 100 * (output.argmax(1) == target).double().mean().item()}
    said, true = output[:, 0] > 0, target == 1
    return {
        "accuracy": 100 * (said == true).double().mean().item(),
        "iou": ((said & true).sum() / (said | true).sum()).item(),
    }


def train(task: Task, row: Row, training: Mapping[str, Any], seed: int) -> dict[str, float]:
    """One run as published: Adam, at most so many epochs, until validation stands still.

    The test part is asked once, by the weights with the smallest validation loss.
    """
    start = time.process_time()
    position, network = model(task, row, seed)
    part = task.fixed["random"]
    with torch.no_grad():
        codes = [position(task.lonlat[part == number]) for number in range(3)]
    targets = [task.target[part == number] for number in range(3)]
    optimizer = torch.optim.Adam(
        network.parameters(), lr=row["rate"], weight_decay=row["weight_decay"]
    )
    best, kept, since, epoch = math.inf, copy.deepcopy(network.state_dict()), 0, 0
    while epoch < training["epochs"] and since < training["patience"]:
        network.train()
        for rows in torch.randperm(len(codes[0])).split(training["batch"]):
            optimizer.zero_grad()
            loss_of(network(codes[0][rows]), targets[0][rows]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            validation = loss_of(network(codes[1]), targets[1]).item()
        epoch, since = epoch + 1, since + 1
        if validation < best:
            best, kept, since = validation, copy.deepcopy(network.state_dict()), 0
    network.load_state_dict(kept)
    network.eval()
    with torch.no_grad():
        found = scores(network(codes[2]), targets[2])
    return {**found, "epochs": epoch, "seconds": round(time.process_time() - start, 1)}


def runs(
    settings: Mapping[str, Any], kept: Mapping[str, Any], only_marked: bool
) -> Iterator[tuple]:
    """Rows and seeds that are not measured yet, marked rows first, seed by seed."""
    for seed in range(settings["seeds"]):
        for row in sorted(settings["rows"], key=lambda row: not marked(row)):
            wanted = marked(row) or (seed == 0 and not only_marked)
            if wanted and str(seed) not in kept.get(key(row, settings), {}).get("runs", {}):
                yield row, seed


def key(row: Row, settings: Mapping[str, Any]) -> str:
    """What decides a result, as text: not the numbers that it is compared with."""
    parts = ("task", "position", "network", "rate", "weight_decay")
    training = [settings[name] for name in ("batch", "epochs", "patience")]
    return json.dumps([*(row[part] for part in parts), *training])


def measured(settings: Mapping[str, Any], row: Row, kept: Mapping[str, Any]) -> list[dict]:
    """The runs of a row."""
    return list(kept.get(key(row, settings), {}).get("runs", {}).values())


def passed(row: Row, found: list[dict]) -> bool:
    """Whether the mean over the runs reaches every mark of the row."""
    return all(
        sign * (statistics.mean(run[score] for run in found) - row[mark]) >= 0
        for mark, (score, sign) in MARKS.items()
        if mark in row
    )


def table(settings: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    """The measured rows as Markdown: first those with a mark, then all by task."""

    def cell(found: list[dict], score: str, digits: int) -> str:
        values = [run[score] for run in found if score in run]
        if not values:
            return "–"
        text = f"{statistics.mean(values):.{digits}f}"
        if len(values) > 1:
            text += f" ± {statistics.stdev(values):.{digits}f}"
        return text

    def lines(rows: list[Row], marks: bool) -> list[str]:
        head = ["encoder", "reported", "measured", "reported IoU", "IoU", "seeds", "s per run"]
        made = ["| " + " | ".join(["task", *head, *(["to reach", ""] if marks else [])]) + " |"]
        made.append("|" + "---|" * (made[0].count("|") - 1))
        for row in rows:
            found = measured(settings, row, kept)
            if not found:
                continue
            cells = [
                row["task"],
                title(row),
                f"{row['reported']:g}" if "reported" in row else "–",
                cell(found, "accuracy", 2),
                f"{row['reported_iou']:g}" if "reported_iou" in row else "–",
                cell(found, "iou", 3),
                str(len(found)),
                f"{statistics.mean(run['seconds'] for run in found):.0f}",
            ]
            if marks:
                signs = {1: "≥", -1: "≤"}
                wanted = [
                    f"{signs[sign]} {row[mark]:g}{' IoU' if score == 'iou' else ' %'}"
                    for mark, (score, sign) in MARKS.items()
                    if mark in row
                ]
                cells += [", ".join(wanted), "reached" if passed(row, found) else "**missed**"]
            made.append("| " + " | ".join(cells) + " |")
        return made

    rows = settings["rows"]
    text = [
        "Accuracy in % on the test part, mean ± standard deviation over seeds of the weights:",
        "",
    ]
    text += lines([row for row in rows if marked(row)], marks=True)
    text += ["", "Every row of the published settings, one seed where no more is said:", ""]
    text += lines([row for row in rows if not marked(row)], marks=False)
    return "\n".join(text) + "\n"


def read_kept() -> dict[str, Any]:
    """What was measured before."""
    path = FOLDER / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else {}


def save(kept: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Results and table, whole."""
    document = {"versions": versions(), "hardware": hardware(), "rows": kept}
    write_text(FOLDER / "results.json", json.dumps(document, indent=1) + "\n")
    write_text(FOLDER / "table.md", table(settings, kept))


def main() -> int:
    """Run what is not measured; 1 if a marked row is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--marked", action="store_true", help="only rows with a pass mark")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings, kept = read_settings(), read_kept()
    tasks: dict[str, Task] = {}
    for row, seed in [] if options.table else list(runs(settings, kept, options.marked)):
        task = tasks.setdefault(row["task"], GENERATED[row["task"]]())
        found = train(task, row, settings, seed)
        kept.setdefault(key(row, settings), {"title": f"{row['task']}: {title(row)}", "runs": {}})
        kept[key(row, settings)]["runs"][str(seed)] = found
        save(kept, settings)
        print(f"{row['task']}: {title(row)}, seed {seed}: {found}", flush=True)
    save(kept, settings)
    print(table(settings, kept))
    missed = [
        title(row)
        for row in settings["rows"]
        if marked(row) and (found := measured(settings, row, kept)) and not passed(row, found)
    ]
    print(f"missed: {', '.join(missed)}" if missed else "every mark is reached")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
