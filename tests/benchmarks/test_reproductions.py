"""Published results run again: the pass marks hold, and misses would be told."""

import sys
from pathlib import Path

import pytest
import torch

import geoenc
from geoenc import sampling
from geoenc.bench import Task

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout: benchmarks are not there", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import reproductions  # noqa: E402
from benchmarks.reproductions import GENERATED, MARKS, marked, passed, scores, title, train  # noqa: E402

SETTINGS = reproductions.read_settings()
MARKED = [row for row in SETTINGS["rows"] if marked(row)]


@pytest.mark.slow
@pytest.mark.parametrize("row", MARKED, ids=lambda row: f"{row['task']}: {title(row)}")
def test_the_published_result_comes_out(row: dict) -> None:
    found = train(GENERATED[row["task"]](), row, SETTINGS, seed=0)
    assert passed(row, [found]), f"{found} does not reach {row}"


def test_the_marks_are_those_of_the_issue() -> None:
    marks = {
        (row["task"], title(row)): {mark: row[mark] for mark in MARKS if mark in row}
        for row in MARKED
    }
    assert marks == {
        ("checkerboard", "SphericalHarmonics(14) + Siren"): {"least": 95.5},
        ("checkerboard", "SphericalHarmonics(24) + Linear"): {"least": 94.5},
        ("checkerboard", "Wrap + Linear"): {"most": 15.0},
        ("checkerboard", "Sphere2VecM + Siren"): {"least": 93.5},
        ("land-ocean", "SphericalHarmonics(9) + Siren"): {"least": 95.5, "least_iou": 0.858},
    }


def test_every_row_can_be_built_and_stands_once() -> None:
    keys = [reproductions.key(row, SETTINGS) for row in SETTINGS["rows"]]
    assert len(keys) == len(set(keys)) == 60
    for row in SETTINGS["rows"]:
        position = geoenc.PositionEncoder.from_config(row["position"])
        sizes = {"in_features": position.out_features, "out_features": 3}
        assert geoenc.Network.from_config({**row["network"], **sizes}).out_features == 3


def test_radii_are_those_of_the_wavelengths() -> None:
    radii = [
        row["position"] for row in SETTINGS["rows"] if row["position"]["name"].startswith("Sphere2")
    ]
    assert radii
    for position in radii:
        longest = geoenc.PositionEncoder.from_config(position).wavelengths.max().item()
        assert longest == pytest.approx(360 * 2 * torch.pi, rel=1e-5)  # degrees: 2 pi radii of 360


def test_scores_are_shares_of_rows() -> None:
    output = torch.tensor([[2.0], [1.0], [-1.0], [-3.0], [4.0]])
    found = scores(output, torch.tensor([1, 0, 1, 0, 1]))
    assert found["accuracy"] == pytest.approx(60)
    assert found["iou"] == pytest.approx(2 / 4)
    output = torch.eye(4)[[0, 1, 2, 3]]
    assert scores(output, torch.tensor([0, 1, 0, 0])) == {"accuracy": pytest.approx(50)}


def hemispheres(num: int = 300) -> Task:
    lonlat = torch.cat([sampling.fibonacci(num) for _ in range(3)])
    part = torch.arange(3).repeat_interleave(num)
    return Task("hemispheres", lonlat, (lonlat[:, 1] > 0).long(), 2, "top1", fixed={"random": part})


ROW = {
    "task": "hemispheres",
    "position": {"name": "XYZ"},
    "network": {"name": "Linear"},
    "rate": 0.1,
    "weight_decay": 0.0,
}


def test_training_learns_and_ends_when_validation_stands_still() -> None:
    training = {"batch": 100, "epochs": 60, "patience": 60}
    found = train(hemispheres(), ROW, training, seed=0)
    assert found["epochs"] == 60
    assert found["accuracy"] > 97
    assert found["iou"] > 0.9
    wild = {**ROW, "rate": 1e4}
    assert train(hemispheres(), wild, {**training, "patience": 3}, seed=0)["epochs"] < 60


def test_a_miss_is_a_miss() -> None:
    row = {**ROW, "least": 95.5, "least_iou": 0.858}
    good = {"accuracy": 95.6, "iou": 0.86}
    assert passed(row, [good])
    assert not passed(row, [good, {"accuracy": 95.2, "iou": 0.87}])
    assert not passed(row, [{**good, "iou": 0.85}])
    assert not passed({**ROW, "most": 15.0}, [{"accuracy": 15.1}])
    assert passed({**ROW, "most": 15.0}, [{"accuracy": 14.9}])


def test_runs_go_on_where_they_were_and_start_again_when_settings_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    row = {**ROW, "reported": 99.0, "least": 101.0}
    plain = {**ROW, "network": {"name": "Siren", "hidden_features": 8}}
    settings = {"seeds": 2, "batch": 100, "epochs": 2, "patience": 2, "rows": [plain, row]}
    monkeypatch.setattr(reproductions, "FOLDER", tmp_path)
    monkeypatch.setattr(reproductions, "read_settings", lambda: settings)
    monkeypatch.setitem(GENERATED, "hemispheres", hemispheres)
    monkeypatch.setattr(sys, "argv", ["reproductions"])
    threads = torch.get_num_threads()
    assert reproductions.main() == 1  # no one reaches 101 %
    torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert said.count("seed 0") == 2
    assert said.count("seed 1") == 1  # one seed for rows without a mark
    assert "missed: XYZ + Linear" in said
    table = (tmp_path / "table.md").read_text()
    assert "| hemispheres | XYZ + Linear | 99 |" in table
    assert "≥ 101 % | **missed** |" in table
    assert reproductions.main() == 1
    assert "seed 0" not in capsys.readouterr().out
    plain["rate"] = 0.05
    assert reproductions.main() == 1
    assert capsys.readouterr().out.count("seed 0") == 1
