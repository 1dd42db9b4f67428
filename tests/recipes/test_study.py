"""The whole experiment, end to end, on a small part of the embedded globe."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import torch

from geoenc.data import GeotaggedImages, load_globe
from geoenc.recipes import report, sources, study
from geoenc.recipes.config import load_config

SMALL = [
    "table.seeds=2",
    "table.fractions=[0.1, 1.0]",
    "pretrain.epochs=2",
    "finetune.epochs=2",
    "finetune.min_steps=4",
    "features.arguments.num_features=32",
    "features.components=0",
    "image.max_iterations=10",
    "hardware.accelerator=cpu",
]


@pytest.fixture(scope="module")
def images() -> GeotaggedImages:
    return sources.frequent(load_globe(num_points=400), 10)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = load_config(overrides=SMALL)
    return config, folder, study.run(config, folder, images=images)


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_every_cell_of_the_table_has_a_score(finished) -> None:
    config, _, results = finished
    assert len(results["scores"]) == 2 * 2 * 2 * len(config.methods)
    assert {row["method"] for row in results["scores"]} == set(config.methods)
    assert all(0 <= row["top1"] <= 1 for row in results["scores"])
    assert results["config"]["table"]["seeds"] == 2
    assert {"geoenc", "torch", "python", "threads"} <= set(results["environment"])


def test_methods_of_one_cell_share_labels_and_image_classifier(finished) -> None:
    rows = finished[2]["scores"]
    cells = {}
    for row in rows:
        key = row["split"], row["seed"], row["fraction"]
        cells.setdefault(key, set()).add((row["labels"], row["image_top1"]))
    assert all(len(values) == 1 for values in cells.values())


def test_the_image_alone_is_not_helped_by_the_place(finished) -> None:
    for row in finished[2]["scores"]:
        if row["method"] == "Image only":
            assert row["top1"] == row["image_top1"]


def test_files_and_pictures_are_there(finished) -> None:
    config, folder, _ = finished
    for name in ("results.json", "table.md", "location.md", "config.json", "scores.jsonl"):
        assert (folder / name).stat().st_size > 0
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"few-shot.png", "learning-curves.png"} <= names
    for split in config.table.splits:
        assert {f"embedding-{split}.png", f"classes-{split}.png"} <= names
    for path in (folder / "figures").iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_table_shows_means_and_deviations(finished) -> None:
    config, folder, results = finished
    table = (folder / "table.md").read_text()
    values = [
        row["top1"]
        for row in results["scores"]
        if (row["split"], row["method"], row["fraction"]) == ("random", "MSE", 0.1)
    ]
    mean = 100 * sum(values) / 2
    deviation = 100 * abs(values[0] - values[1]) / 2**0.5
    line = next(line for line in table.splitlines() if line.startswith("| MSE"))
    cell = line.split("|")[2].replace("*", "")
    assert cell.strip() == f"{mean:.2f} ({deviation:.2f})"
    assert "CSP-MC-BLD minus Sup. Only (grid)" in table
    assert table.count("| Image only") == len(config.table.splits)
    location = (folder / "location.md").read_text()
    assert "| Image only" not in location
    assert location.count("| MSE") == len(config.table.splits)


def test_differences_are_paired_by_seed() -> None:
    config = load_config(
        overrides=["table.seeds=3", "table.fractions=[1.0]", 'table.splits=["random"]']
    )
    rows = [
        {"split": "random", "seed": seed, "fraction": 1.0, "method": method, "top1": top1}
        for seed, pair in enumerate([(0.5, 0.6), (0.1, 0.3), (0.2, 0.5)])
        for method, top1 in zip(("Sup. Only (grid)", "CSP-MC-BLD"), pair, strict=True)
    ]
    found = report.differences(config, rows)
    assert found[0]["mean"] == pytest.approx(0.2)
    assert found[0]["standard_error"] == pytest.approx(0.1 / 3**0.5)


def test_a_finished_run_is_not_run_again(finished, images) -> None:
    config, folder, results = finished
    again = study.run(config, folder, images=images)
    assert again["scores"] == results["scores"], "with the times of the first run"


def test_a_torn_line_is_dropped_and_its_score_computed_again(finished, images, tmp_path) -> None:
    import shutil

    config, folder, results = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "scores.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:25])
    again = study.run(config, copy, images=images)
    assert without_times(again["scores"]) == without_times(results["scores"])


def test_a_folder_with_other_settings_is_refused_unless_forced(finished, images, tmp_path) -> None:
    config = load_config(overrides=[*SMALL, "pretrain.epochs=3"])
    before = (finished[1] / "results.json").read_bytes()
    with pytest.raises(FileExistsError, match="other settings"):
        study.run(config, finished[1], images=images)
    assert (finished[1] / "results.json").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        study.run(config, tmp_path, images=images)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_started_command_goes_on_after_a_kill_and_ends_with_the_same_numbers(
    finished, images, tmp_path
) -> None:
    """kill -9 in the middle of a real process; the same call then finishes the run."""
    _, _, results = finished
    folder = tmp_path / "killed"
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from geoenc.data import load_globe\n"
        "from geoenc.recipes import sources, study\n"
        "from geoenc.recipes.config import load_config\n"
        "images = sources.frequent(load_globe(num_points=400), 10)\n"
        f"study.run(load_config(overrides={SMALL!r}), sys.argv[1], images=images)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stderr=subprocess.DEVNULL
    )
    try:
        scores = folder / "scores.jsonl"
        deadline = time.monotonic() + 120
        while not (scores.is_file() and len(scores.read_text().splitlines()) >= 5):
            assert process.poll() is None, "ended too early"
            assert time.monotonic() < deadline, "too slow"
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    torch.set_num_threads(1)
    done = len((folder / "scores.jsonl").read_text().splitlines())
    assert done < len(results["scores"])
    again = study.run(load_config(overrides=SMALL), folder, images=images)
    assert without_times(again["scores"]) == without_times(results["scores"])


def test_rare_classes_are_left_out_and_unlabelled_samples_stay() -> None:
    images = GeotaggedImages(
        lonlat=torch.zeros(7, 2, dtype=torch.float64),
        target=torch.tensor([0, 0, 1, 2, 2, 2, -1]),
        classes=("a", "b", "c"),
        features=torch.arange(7.0)[:, None],
    )
    kept = sources.frequent(images, 2)
    assert kept.classes == ("a", "c")
    assert kept.target.tolist() == [0, 0, 1, 1, 1, -1]
    assert kept.features[:, 0].tolist() == [0, 1, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="at least two classes"):
        sources.frequent(images, 3)


def test_standardised_features_have_the_asked_spectrum() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator)
    features = torch.randn(4000, 6, generator=generator) @ mixing + 5
    train = torch.arange(4000) < 3000
    plain = sources.standardised(features, train, 0, 0.5)
    assert plain[train].mean(0).abs().max() < 1e-5
    assert (plain[train].std(0) - 1).abs().max() < 1e-4
    white = sources.standardised(features, train, 4, 1.0)
    covariance = white[train].mT @ white[train] / 3000
    assert (covariance - torch.eye(4)).abs().max() < 1e-3
    half = sources.standardised(features, train, 6, 0.5)[train].var(0)
    variance = sources.standardised(features, train, 6, 0.0)[train].var(0)
    ratio = half / variance.sqrt()
    assert torch.allclose(ratio, ratio[0].expand(6), rtol=1e-3)
    assert half.mean() == pytest.approx(1, abs=1e-3)


def test_file_names() -> None:
    assert study.file_name("Sup. Only (grid)") == "sup-only-grid"
    assert study.file_name("CSP-MC-BLD") == "csp-mc-bld"


def test_results_are_plain_json(finished) -> None:
    text = (finished[1] / "results.json").read_text()
    assert json.loads(text)["scores"] == finished[2]["scores"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pretrain.negatives=sea", "in the row 'Image only': expected random places.*'sea'"),
        ("finetune.background=sea.geojson", "expected random places"),
        ("encoder.position.name=Space3Vec", "Space3Vec"),
        ("encoder.network.widht=3", "widht"),
        ('methods={x={prior={name="Oracle"}}}', "in the row 'x': expected prior.name among"),
        ('methods={x={prior={name="ClassFrequency", k=1}}}', "in the row 'x'"),
        ("methods={x={pretrain={speed=1}}}", "speed"),
    ],
)
def test_no_row_is_run_if_one_of_them_cannot(images, tmp_path, setting, words) -> None:
    config = load_config(overrides=SMALL)
    if setting.startswith("methods="):
        config = dataclasses.replace(config, methods=tomllib.loads(setting)["methods"])
    else:
        config = load_config(overrides=[*SMALL, setting])
    with pytest.raises(ValueError, match=words):
        study.run(config, tmp_path / "run", images=images)
    assert not (tmp_path / "run").exists()
