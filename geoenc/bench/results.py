"""Results as files: one of JSON for each row, and its answers sample by sample beside it."""

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoenc._files import atomic_path, write_text

Record = dict[str, Any]


def path(folder: str | os.PathLike[str], task: str, split: str, row: str) -> Path:
    """Where a result is kept."""
    return Path(folder) / "results" / task / split / f"{row}.json"


def read_one(file: Path) -> Record | None:
    """One result; None: there is none, or not a whole one."""
    try:
        found: Record = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if "settings_hash" in found else None


def write(file: Path, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep a result; its arrays first, so that a record stands for both."""
    beside = file.with_suffix(".npz")
    if arrays:
        with atomic_path(beside) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, **dict[str, Any](arrays))
    else:
        beside.unlink(missing_ok=True)
    write_text(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read(folder: str | os.PathLike[str]) -> list[Record]:
    """All results of a folder, failed ones too, by task, split and row."""
    files = sorted((Path(folder) / "results").glob("*/*/*.json"))
    return [found for file in files if (found := read_one(file)) is not None]


def comparable(records: Iterable[Record]) -> None:
    """Refuse results of one task and split that are of different rows or data.

    Raises:
        ValueError: names two of them and says what to do.
    """
    first: dict[tuple[str, str], Record] = {}
    for record in records:
        one = first.setdefault((record["task"], record["split"]), record)
        for key in ("split_hash", "data_hash"):
            if record[key] != one[key]:
                raise ValueError(
                    f"expected one {key} in task {record['task']}, split {record['split']}, got "
                    f"{one[key]} ({one['row']}) and {record[key]} ({record['row']}): they were "
                    "tested on different rows; delete the older results, or run them again"
                )


def failures(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Tasks that could not be run at all, and why."""
    files = sorted((Path(folder) / "results").glob("*/error.json"))
    found = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return {record["task"]: record["error"] for record in found}


def write_failure(folder: str | os.PathLike[str], task: str, error: str | None) -> None:
    """Keep, or with None forget, why a task could not be run."""
    file = Path(folder) / "results" / task / "error.json"
    if error is None:
        file.unlink(missing_ok=True)
    else:
        write_text(file, json.dumps({"task": task, "error": error}, ensure_ascii=False) + "\n")


def tables(records: Sequence[Record]) -> str:
    """Every task as a table of text: rows by protocol, the splits side by side."""
    comparable(records)
    names = sorted({record["task"] for record in records})
    return "\n".join(_table([one for one in records if one["task"] == name]) for name in names)


def _table(records: Sequence[Record]) -> str:
    about, first = records[0]["about"], records[0]
    order = ("random", "blocked", "buffered", "region")
    splits = [name for name in order if any(one["split"] == name for one in records)]
    rows = list(dict.fromkeys((one["row"], one["protocol"], one["kind"]) for one in records))
    cells = {(one["row"], one["protocol"], one["split"]): _cell(one) for one in records}
    width = max(len(row) for row, _, _ in rows)
    shown = f"{first['metric']}, test part, mean (standard error over {len(first['seeds'])} seeds)"
    control = "   CONTROL: a score above the floors is a warning" if about["control"] else ""
    lines = [f"{first['task']}: {about['about']}{control}", f"  {shown}"]
    header = f"  {'':{width}}  {'protocol':18}" + "".join(f"{name:>16}" for name in splits)
    lines.append(header)
    for row, protocol, kind in sorted(rows, key=lambda one: (one[2] != "floor", one[1])):
        values = "".join(f"{cells.get((row, protocol, name), '–'):>16}" for name in splits)
        floor = "  floor" if kind == "floor" else ""
        lines.append(f"  {row:{width}}  {protocol:18}{values}{floor}")
    return "\n".join(lines) + "\n"


def _cell(record: Record) -> str:
    if record["error"] is not None:
        return "failed"
    values = record["test"]
    percent = record["metric"] == "top1"
    scale, digits = (100, 2) if percent else (1, 4)
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    if record["deterministic"] or len(values) < 2:
        return mean
    error = scale * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean} ({error:.{digits}f})"
