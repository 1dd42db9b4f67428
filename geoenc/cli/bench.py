"""``geoenc bench``: what location encoders score in tasks with known answers."""

import os
from argparse import ArgumentParser
from typing import Any

HELP = "what encoders score in tasks with known answers"
DESCRIPTION = (
    "Runs tasks on fixed splits, random and blocked, beside the floors that need no encoder. "
    "Results are kept row by row: the same command goes on after an interruption. The exit code "
    "is 1 where a row or a task failed."
)
EXAMPLES = """\
  geoenc bench --list                              tasks, and which data they need
  geoenc bench checkerboard --quick                the encoders of the suite in one task
  geoenc bench checkerboard --encoder "SphericalHarmonics(degree=20)" models/mine
  geoenc bench fmow-class --data DIR --protocol probe --encoder mine.toml
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("tasks", nargs="*", metavar="TASK", help="names, or .toml files (all)")
    command.add_argument("--list", action="store_true", help="say which tasks there are")
    command.add_argument(
        "--encoder",
        nargs="+",
        action="extend",
        metavar="ENCODER",
        help="a position encoder, with arguments or without; a trained model (folder or name); "
        "a .toml file with [[encoders]] (the encoders of the suite)",
    )
    protocols = ("probe", "neighbours", "trained", "prior-times-image")
    command.add_argument(
        "--protocol",
        nargs="+",
        choices=protocols,
        help="only these (all; with --quick without neighbours)",
    )
    command.add_argument(
        "--split",
        nargs="+",
        choices=("random", "blocked", "buffered", "region"),
        default=[],
        help="beside random and blocked, which are always there",
    )
    command.add_argument("--seeds", type=int, help="how many (3)")
    command.add_argument("--out", default="runs/bench", metavar="DIR", help="(runs/bench)")
    command.add_argument("--data", metavar="DIR", help="folder of data (GEOENC_SHARED)")
    command.add_argument("--jobs", type=int, help="tasks at once (as many as processors)")
    command.add_argument("--quick", action="store_true", help="smaller sizes; a part of the tasks")
    command.add_argument("--force", action="store_true", help="compute again what is known")
    command.add_argument(
        "--report", action="store_true", help="compute nothing; report.html and tables into --out"
    )
    command.add_argument("--json", action="store_true", help="the results as JSON")


def run(options: Any) -> int:
    """The tables of the tasks, and at the end what failed."""
    from geoenc import bench
    from geoenc.bench import engine

    if options.list:
        return _list(options)
    if options.report:
        return _report(options)
    given = options.encoder
    found = None if given is None else [one for text in given for one in bench.entries(text)]
    todo = bench.plan(
        options.tasks or engine.available(options.data, quick=options.quick),
        entries=found,
        protocols=options.protocol,
        splits=options.split,
        seeds=options.seeds,
        out=options.out,
        data=options.data,
        quick=options.quick,
        force=options.force,
    )
    jobs = options.jobs if options.jobs is not None else len(os.sched_getaffinity(0))
    failed = bench.run(todo, jobs=jobs)
    return _show(todo, failed, as_json=options.json)


def _report(options: Any) -> int:
    from geoenc.bench.report import write_report

    for path in write_report(options.out):
        print(path)
    return 0


def _show(todo: Any, failed: dict[str, str], *, as_json: bool) -> int:
    import json
    import sys

    from geoenc.bench import load, results

    names = {load.find_task(task).name for task in todo.tasks}
    records = [one for one in results.read(todo.out) if one["task"] in names]
    if as_json:
        results.comparable(records)
        print(json.dumps(records, indent=1, ensure_ascii=False))
    elif records:
        print(results.tables(records))
        print(f"results: {todo.out / 'results'}")
        print(f"as one page: geoenc bench --report --out {todo.out}")
    for what, error in failed.items():
        print(f"failed: {what}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _list(options: Any) -> int:
    import json

    from geoenc.bench import engine

    found = engine.described(options.tasks, options.data)
    print(json.dumps(found, indent=1, ensure_ascii=False) if options.json else _as_text(found))
    return 0


def _as_text(tasks: list[dict[str, Any]]) -> str:
    width = max(len(task["name"]) for task in tasks)
    lines = []
    for task in tasks:
        if task["needs"]:
            facts = f"needs {task['needs']}"
        elif "rows" not in task:
            facts = f"{task['metric']}, data are there"
        else:
            classes = f"{task['classes']} classes" if task["classes"] else "a number"
            facts = f"{task['rows']:,} rows, {classes}, {task['metric']}, {task['splits']}"
        control = " (control)" if task["control"] else ""
        quick = ", quick" if task["quick"] else ""
        lines.append(f"{task['name']:{width}}  {task['about']}{control}")
        lines.append(f"{'':{width}}  {facts}{quick}")
    if any(task["needs"] for task in tasks):
        lines.append(
            "\nData are not part of geoenc. Put them into a folder and give it with --data DIR, or "
            "set GEOENC_SHARED."
        )
    return "\n".join(lines)
