"""The suite command: runs, keeps one small file for each task, and says what failed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout: benchmarks are not there", allow_module_level=True)
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "bench"))

from fake_tasks import SIZES, write_tasks  # noqa: E402

import benchmarks.__main__ as suite  # noqa: E402
from geoenc import bench  # noqa: E402


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bench.plan

    def plan(tasks: list[str], **options: object) -> bench.Plan:
        entries = tuple(bench.entries("XYZ"))
        made = whole(tasks, **options)
        return replace(made, entries=entries, settings=SIZES, protocols=("probe",))

    monkeypatch.setattr(bench, "plan", plan)


@pytest.mark.usefixtures("small")
def test_the_suite_keeps_results_and_writes_its_report(tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    tasks = write_tasks(tmp_path)
    out, kept = tmp_path / "out", tmp_path / "kept"
    given = [*tasks, "--jobs", "1", "--out", str(out), "--keep", str(kept)]
    assert suite.main(given) == 0
    shown = capsys.readouterr().out
    assert "2 tasks" in shown
    assert "nearest neighbours on the sphere" in shown
    rows = json.loads((kept / "side.json").read_text())
    assert {(row["split"], row["kind"]) for row in rows} == {
        (split, kind) for split in ("random", "blocked") for kind in ("floor", "encoder")
    }
    assert all(row["versions"] and row["hardware"] and row["split_hash"] for row in rows)
    assert (kept / "summary.json").is_file()
    assert not list(kept.rglob("*.npz"))
    assert (out / "report.html").is_file()
    before = {path: path.stat().st_mtime_ns for path in (out / "results").rglob("*.json")}
    assert suite.main([*given, "--report"]) == 0
    assert suite.main(given) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "results").rglob("*.json")}
    write_tasks(tmp_path, rows=4)  # too few for every part
    capsys.readouterr()
    assert suite.main([tasks[0], *given[2:]]) == 1
    assert "failed: side: ValueError: expected rows for every part" in capsys.readouterr().err
