"""The benchmark: every task in a process of its own, every row in a file of its own."""

import contextlib
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from geoenc._optional import require
from geoenc.bench import results
from geoenc.bench.entries import Entry
from geoenc.bench.load import data_folder, find_task, list_tasks, load_task
from geoenc.bench.parts import SPLITS, split_of
from geoenc.bench.rows import Row, Table, table_rows
from geoenc.bench.settings import Settings, read_settings, standard_entries

ALWAYS = ("random", "blocked")
ASKED = ("probe", "neighbours", "trained", "prior-times-image")
OF_TASKS = ("nearest-of-class",)
"""Protocols that only tasks ask for which name them."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to run.

    Args:
        tasks: names, or ``.toml`` files.
        entries: encoders; the floors are in every table.
        protocols: of `ASKED`; what does not fit an encoder or a task is left out.
        splits: of `geoenc.bench.parts.SPLITS`, beside random and blocked.
        settings: sizes and search spaces.
        out: folder of results.
        data: folder of data.
        force: compute again what is known.
    """

    tasks: tuple[str, ...]
    entries: tuple[Entry, ...]
    protocols: tuple[str, ...]
    splits: tuple[str, ...]
    settings: Settings
    out: Path
    data: Path | None = None
    force: bool = False


def plan(
    tasks: Sequence[str],
    *,
    entries: Sequence[Entry] | None = None,
    protocols: Sequence[str] | None = None,
    splits: Sequence[str] = (),
    seeds: int | None = None,
    out: str | os.PathLike[str] = "runs/bench",
    data: str | os.PathLike[str] | None = None,
    quick: bool = False,
    force: bool = False,
) -> Plan:
    """A plan with all names checked, before anything is run.

    Args:
        tasks: see `Plan`.
        entries: None: the encoders of the suite.
        protocols: None: all, in the quick suite without neighbours in the embedding.
        splits, out, data, force: see `Plan`.
        seeds: how many; None: as the suite, three.
        quick: smaller sizes and search spaces.

    Raises:
        ValueError: a task, protocol or split that does not exist.
    """
    for name in tasks:
        find_task(name)
    asked = tuple(protocols or (one for one in ASKED if not (quick and one == "neighbours")))
    for given, known, what in ((asked, ASKED, "protocol"), (splits, SPLITS, "split")):
        unknown = [one for one in given if one not in known]
        if unknown:
            raise ValueError(
                f"expected a {what} of {', '.join(known)}, got {unknown[0]!r}; use one of them"
            )
    return Plan(
        tasks=tuple(dict.fromkeys(tasks)),
        entries=tuple(standard_entries(quick=quick) if entries is None else entries),
        protocols=asked,
        splits=tuple(dict.fromkeys([*ALWAYS, *splits])),
        settings=read_settings(quick=quick, seeds=seeds),
        out=Path(out),
        data=data_folder(data),
        force=force,
    )


def available(data: str | os.PathLike[str] | None, *, quick: bool = False) -> list[str]:
    """Names of the tasks whose data are there; with quick, of those in the quick suite."""
    found = [task for task in list_tasks() if not task.needs(data)]
    return [task.name for task in found if task.quick or not quick]


def described(names: Sequence[str], data: str | os.PathLike[str] | None) -> list[dict[str, Any]]:
    """What there is to say of tasks: sizes of those whose data are there, the file of others.

    Args:
        names: which; none: all.
        data: folder of data.
    """
    found = []
    for file in [find_task(name) for name in names] or list_tasks():
        facts: dict[str, Any] = {
            **{key: getattr(file, key) for key in ("name", "about", "metric", "control", "quick")},
            "needs": file.needs(data),
            "licence": file.licence,
            "url": file.url,
        }
        if not facts["needs"] and not (file.generator and file.file):  # those take long to read
            name = next((one for one in names if find_task(one) == file), file.name)
            task = load_task(name, data)
            facts |= {"rows": len(task), "classes": task.classes}
            facts["splits"] = f"blocks of {task.block_degrees:g} degrees"
        found.append(facts)
    return found


def run(todo: Plan, *, jobs: int = 1) -> dict[str, str]:
    """Compute what is not yet known; returns what failed: the task, or task, split and row.

    Each task is one process with one thread. A row is kept as soon as it is done, so that an
    interrupted run goes on where it was.

    Args:
        todo: see `plan`.
        jobs: tasks at once; 1: all in this process.
    """
    if jobs < 1:
        raise ValueError(f"expected at least 1 job, got {jobs}; give the number of processors")
    if jobs == 1 or len(todo.tasks) == 1:
        for task in todo.tasks:
            run_task(todo, task)
    else:
        _parallel(todo, jobs)
    return failed(todo)


def failed(todo: Plan) -> dict[str, str]:
    """What is kept of errors for the tasks of a plan."""
    names = {find_task(task).name for task in todo.tasks}
    found = {key: value for key, value in results.failures(todo.out).items() if key in names}
    for record in results.read(todo.out):
        if record["error"] is not None and record["task"] in names:
            key = f"{record['task']}, {record['split']}, {record['row']} ({record['protocol']})"
            found[key] = record["error"]
    return found


def run_task(todo: Plan, name: str) -> None:
    """All rows of one task; errors are kept with the results, and nothing is raised."""
    try:
        with _one_thread():
            _run_task(todo, name)
        results.write_failure(todo.out, find_task(name).name, None)
    except Exception as error:  # whatever it is, the other tasks go on
        lines = str(error).splitlines() or [""]
        text = f"{type(error).__name__}: {lines[0]}"
        results.write_failure(todo.out, find_task(name).name, text)
        logger.info("%s: %s", name, text)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and for every linear algebra beside it, which else fight for cores."""
    require("sklearn.linear_model", extra="eval")  # brings all of them
    pools = require("threadpoolctl", extra="eval")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pools.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _run_task(todo: Plan, name: str) -> None:
    task, file = load_task(name, todo.data), find_task(name)
    problems = []
    for split in todo.splits:
        try:
            table = Table(task, split_of(task, split), todo.settings, todo.out)
        except ValueError as error:
            problems.append(str(error))
            continue
        own = [one for one in file.protocols if one in OF_TASKS]
        rows = table_rows(task, todo.entries, [*todo.protocols, *own], todo.settings)
        rows = [row for row in rows if _asked(row, file.protocols)]
        for record, new in table.fill(rows, force=todo.force):
            if new:
                _say(record)
    if problems:
        raise ValueError("; ".join(problems))


def _asked(row: Row, protocols: Sequence[str]) -> bool:
    """Whether a task has this protocol; majority and neighbours on the sphere are in every one."""
    simple = row.kind == "floor" and row.entry is None
    return not protocols or row.protocol in protocols or simple


def _say(record: dict[str, Any]) -> None:
    value = record["error"] or f"{sum(record['test']) / len(record['test']):.4f}"
    logger.info(
        "%s, %s: %s, %s: %s (%.1f s)",
        *(record[key] for key in ("task", "split", "row", "protocol")),
        value,
        record["seconds"],
    )


def _worker(todo: Plan, name: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run_task(todo, name)


def _end_with_parent() -> None:
    """A process whose parent was killed ends, too: what is written is whole at every moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _parallel(todo: Plan, jobs: int) -> None:
    """At most so many processes at once, the largest files first."""
    context = multiprocessing.get_context("spawn")
    waiting = sorted(todo.tasks, key=lambda name: _size(todo, name))
    running: dict[Any, tuple[str, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop()
                process = context.Process(target=_worker, args=(todo, name), daemon=True)
                process.start()
                running[process.sentinel] = name, process
            for sentinel in wait(list(running)):
                name, process = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    text = (
                        f"expected the process of {name} to end well, got exit code "
                        f"{process.exitcode}; if it was killed, memory may be short: use fewer "
                        "--jobs"
                    )
                    results.write_failure(todo.out, find_task(name).name, text)
                    logger.info("%s", text)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _size(todo: Plan, name: str) -> int:
    path = find_task(name).path(todo.data)
    return path.stat().st_size if path is not None and path.is_file() else 0
