"""The benchmark suite: what every encoder scores in every task, and a report of it.

    python -m benchmarks                 the quick suite: minutes on two cores
    python -m benchmarks --full          all tasks, encoders, protocols and training rows: days
    python -m benchmarks --report        the report of what is there

Data that geoenc does not ship are read from GEOENC_SHARED, or ``../shared`` beside the repository;
without them, the tasks that are generated are run. Results of single rows lie in runs/suite, where
an interrupted run goes on; what is kept in the repository lies in benchmarks/results/suite.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.shared import RESULTS, ROOT
from geoenc import bench
from geoenc._files import write_text
from geoenc.bench import engine, results
from geoenc.bench.report import write_report

KEPT = RESULTS / "suite"
LEFT_OUT = ("traceback", "settings", "source")


def keep(out: Path, folder: Path) -> None:
    """One file for each task, one line for each row, and the summary and tables of the report."""
    records = results.read(out)
    results.comparable(records)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        short = {key: value for key, value in record.items() if key not in LEFT_OUT}
        by_task.setdefault(record["task"], []).append(short)
    for name, rows in by_task.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        write_text(folder / f"{name}.json", f"[\n{lines}\n]\n")
    shutil.copyfile(out / "summary.json", folder / "summary.json")
    shutil.copytree(out / "tables", folder / "tables", dirs_exist_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, write the report, and say what failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="only these")
    parser.add_argument("--full", action="store_true", help="everything")
    parser.add_argument("--report", action="store_true", help="compute nothing")
    parser.add_argument("--out", type=Path, help="of single rows (runs/suite, runs/suite-full)")
    parser.add_argument("--keep", type=Path, default=KEPT, help="(benchmarks/results/suite)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    quick, start = not options.full, time.monotonic()
    data = os.environ.get("GEOENC_SHARED", str(ROOT.parent / "shared"))
    out = options.out or ROOT / "runs" / ("suite" if quick else "suite-full")
    tasks = options.tasks or engine.available(data, quick=quick)
    todo = bench.plan(tasks, out=out, data=data, quick=quick)
    failed = engine.failed(todo) if options.report else bench.run(todo, jobs=options.jobs)
    files = write_report(out, speed=RESULTS / "speed")
    keep(out, options.keep)
    print(results.tables(results.read(out)))
    absent = [task.name for task in bench.list_tasks() if task.needs(data)]
    if absent:
        print(f"left out, because their data are absent: {', '.join(absent)}")
    for what, error in failed.items():
        print(f"failed: {what}: {error}", file=sys.stderr)
    minutes = (time.monotonic() - start) / 60
    print(f"{len(tasks)} tasks, {minutes:.1f} minutes; report: {files[-1]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
