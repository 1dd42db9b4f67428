"""From a folder of results to a summary, Markdown tables and one HTML file."""

import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

from geoenc._files import write_text
from geoenc.bench.html import page
from geoenc.bench.maps import task_maps
from geoenc.bench.markdown import overview, task_table
from geoenc.bench.summary import summarise


def write_report(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    speed: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write summary.json, tables/overview.md, tables/TASK.md and report.html.

    Maps need matplotlib (the extra ``plot``) and the files of the samples; without, the report
    has none.

    Args:
        folder: of ``results/TASK/SPLIT/ROW.json``, see `geoenc.bench.summary.summarise`.
        out: where to write; the same folder if None.
        speed: folder of Markdown tables to show under Speed.

    Returns:
        The files.

    Raises:
        FileNotFoundError: no results, or no such folder of speed tables.
        ValueError: results of different splits or data in one table.
    """
    source, target = Path(folder), Path(folder if out is None else out)
    if speed is not None and not Path(speed).is_dir():
        raise FileNotFoundError(
            f"expected a folder of Markdown tables, got {str(speed)!r}, which is none; name "
            "benchmarks/results/speed of the repository or leave it out"
        )
    summary = summarise(source)
    drawn = importlib.util.find_spec("matplotlib") is not None
    maps = {name: task_maps(source, task) for name, task in summary["tasks"].items() if drawn}
    texts = {
        "summary.json": json.dumps(_finite(summary), indent=1, allow_nan=False) + "\n",
        "tables/overview.md": overview(summary),
        **{f"tables/{name}.md": task_table(task) for name, task in summary["tasks"].items()},
        "report.html": page(summary, maps=maps, speed=None if speed is None else Path(speed)),
    }
    for name, text in texts.items():
        write_text(target / name, text)
    return [target / name for name in texts]


def _finite(value: Any) -> Any:
    """Numbers that are none, as the validation score of a run that diverged, become null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
