"""The benchmark of encoders, on a world that is made up: an answer that depends on the place."""

import json
import statistics
import sys
from pathlib import Path

import pytest
import torch

from geoenc import sampling
from geoenc.coordinates import great_circle_km, to_xyz

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout: benchmarks are not there", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.choose import cost, run, table, training  # noqa: E402
from benchmarks.choose.tasks import PARTS, SPLITS, Task, draw  # noqa: E402
from geoenc.data.splits import spatial_blocks  # noqa: E402

SIZES = {"train": 300, "validation": 80, "test": 120, "block_degrees": 15, "seeds": 2}


def hemispheres() -> Task:
    lonlat = sampling.fibonacci(2000)
    return Task(lonlat, (lonlat[:, 1] > 0).long(), 2)


def height() -> Task:
    lonlat = sampling.fibonacci(2000)
    return Task(lonlat, to_xyz(lonlat)[:, 2].float() + 5, 0)


def settings() -> dict:
    made = run.read_settings()
    made["sizes"] = SIZES
    made["training"] = {"steps": 40, "batch": 64, "evaluate_every": 20}
    made["networks"] = {name: made["networks"][name] for name in ("Linear", "FFN")}
    made["encoders"] = [
        {"name": "XYZ", "position": {"name": "XYZ"}},
        {
            "name": "grid",
            "position": {"name": "Space2VecGrid", "num_frequencies": 4},
            "choose": {"min_radius": [1.0, 20.0]},
        },
        {"name": "tiles", "position": {"name": "Tile", "out_features": 4, "cell_size": 30.0}},
    ]
    return made


TASKS = {"hemisphere": hemispheres, "height": height}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choose")
    study = run.Study(settings(), folder, TASKS)
    study.floors()
    for entry in study.settings["encoders"]:
        study.encoder(entry, lambda text: None)
    return folder


@pytest.mark.parametrize("split", SPLITS)
def test_parts_share_no_place_and_blocked_parts_no_block(split: str) -> None:
    parts = draw(hemispheres(), split, 0, SIZES)
    assert [len(parts[name].target) for name in PARTS] == [300, 80, 120]
    kind = (lambda x: spatial_blocks(x, degrees=15)) if split == "blocked" else (lambda x: x[:, 0])
    seen = [set(kind(parts[name].lonlat).tolist()) for name in PARTS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    again, other = (draw(hemispheres(), split, seed, SIZES) for seed in (0, 1))
    assert torch.equal(parts["test"].lonlat, again["test"].lonlat)
    assert not torch.equal(parts["test"].lonlat, other["test"].lonlat)


@pytest.mark.parametrize("task", [hemispheres(), height()])
def test_neighbours_are_those_of_the_sphere(task: Task) -> None:
    """Against all distances; and the chosen k is the best on validation."""
    parts = draw(task, "random", 0, SIZES)
    found = training.nearest_neighbours(parts)
    train, test = parts["train"], parts["test"]
    distance = great_circle_km(test.lonlat[:, None], train.lonlat[None])
    near = train.target[distance.argsort(-1)[:, : found["chosen"]["k"]]]
    if task.classes:
        said = torch.tensor([statistics.mode(row) for row in near.tolist()])  # first of the most
        assert found["test"] == float((said == test.target).double().mean())
    else:
        assert found["test"] == pytest.approx(training.score(near.mean(1), test))


def test_one_answer_explains_nothing() -> None:
    parts = draw(height(), "random", 0, SIZES)
    assert training.one_answer(parts)["validation"] == pytest.approx(0, abs=0.1)
    parts = draw(hemispheres(), "random", 0, SIZES)
    assert 0.3 < training.one_answer(parts)["test"] < 0.7


def test_scores_are_accuracy_and_explained_variance() -> None:
    classes = Task(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 2)
    assert training.score(torch.tensor([[1.0, 0], [0, 1], [1, 0]]), classes) == pytest.approx(2 / 3)
    numbers = Task(torch.zeros(3, 2), torch.tensor([1.0, 2.0, 3.0]), 0)
    assert training.score(torch.tensor([[1.0], [2.0], [3.0]]), numbers) == 1
    assert training.score(torch.full((3, 1), 2.0), numbers) == 0


def test_every_training_leaves_a_line_and_learns_what_can_be_learned(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "scores.jsonl").read_text().splitlines()]
    cells = len(TASKS) * len(SPLITS) * SIZES["seeds"]
    assert len(lines) == cells * (len(run.FLOORS) + 3 * 2)
    xyz = [r for r in lines if r["of"]["encoder"] == "XYZ" and r["of"]["split"] == "random"]
    assert statistics.mean(record["test"] for record in xyz) > 0.8
    chosen = {
        record["chosen"]["min_radius"] for record in lines if record["of"]["encoder"] == "grid"
    }
    assert chosen <= {1.0, 20.0}
    described = (finished / "settings.jsonl").read_text()
    assert all(record["of"]["settings"] in described for record in lines)


def test_a_second_run_measures_nothing_and_a_changed_setting_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in finished.iterdir():
        (tmp_path / file.name).write_text(file.read_text())

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", forbidden)
    study = run.Study(settings(), tmp_path, TASKS)
    study.floors()
    study.encoder(study.settings["encoders"][1], print)
    changed = settings()
    changed["training"]["steps"] += 1
    with pytest.raises(AssertionError, match="trained again"):
        run.Study(changed, tmp_path, TASKS).encoder(changed["encoders"][0])


def test_tables_hold_the_means_and_leave_out_what_is_not_complete(finished: Path) -> None:
    made = settings()
    lines = run.Records(finished / "scores.jsonl")
    scores = table.read(made, lines, TASKS)
    assert scores.encoders == ["XYZ", "grid", "tiles"]
    shown = table.accuracy(scores, "random")
    mean = statistics.mean(scores.best("XYZ", ("hemisphere", "random")))
    assert f"{100 * mean:.1f}" in shown.splitlines()[2]
    assert "**" in shown
    assert "k nearest" in shown
    blocked = table.networks(scores, "blocked")
    for text in (blocked, table.full(scores), table.chosen(made, scores)):
        assert "nan" not in text
    costs = {c["encoder"]: c for c in cost.measure(made["encoders"], places=500, rounds=1)}
    assert f"| {6 * 12 * 4} |" in table.summary(made, costs)  # numbers in the tiles
    assert "2 seeds" in table.how(made, lines, lines)

    del lines.found[next(key for key in lines.found if '"XYZ"' in key)]
    assert table.read(made, lines, TASKS).encoders == ["grid", "tiles"]


def test_the_error_of_a_difference_leaves_out_what_all_rows_share() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, seeds = 400, 4
    noise = torch.randn(rows, seeds, generator=generator, dtype=torch.float64)
    shared = 100 * torch.randn(seeds, generator=generator, dtype=torch.float64)
    levels = 10 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    found = table.difference_error((noise + shared + levels).tolist())
    assert found == pytest.approx((2 / seeds) ** 0.5, rel=0.05)


def test_names_that_are_not_known_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    text = run.SETTINGS.read_text()
    path.write_text(text.replace('position = { name = "XYZ" }', 'position = { name = "XYX" }'))
    with pytest.raises(SystemExit, match="XYX"):
        run.read_settings(path)
    path.write_text(text.replace('name = "XYZ"\n', 'name = "Wrap"\n'))
    with pytest.raises(SystemExit, match="different names"):
        run.read_settings(path)


def test_pictures_are_small() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    from benchmarks.choose import pictures

    for drawn in (pictures.linear_map, pictures.kernel_map):
        picture = pictures.figure(settings()["encoders"], drawn, height=12)
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 100_000
