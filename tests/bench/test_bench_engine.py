"""The whole benchmark on two invented tasks: rows, resumption, failures, and the command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_tasks import SIZES, load, write_tasks

from geoenc import FFN, LocationEncoder, SphericalHarmonics, bench, cli
from geoenc.bench import engine, protocols, results
from geoenc.bench.entries import Entry
from geoenc.bench.rows import Table, table_rows

ENTRIES = [
    *bench.entries("XYZ"),
    bench.Entry(
        "grid", {"name": "Space2VecGrid", "num_frequencies": 4}, {"min_radius": [5.0, 50.0]}
    ),
    *bench.entries("Tile(out_features=4, cell_size=30.0)"),
]


def todo(tasks: list[str], out: Path, **more) -> bench.Plan:
    made = bench.plan(tasks, entries=ENTRIES, out=out)
    return replace(made, **{"settings": SIZES, **more})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    write_tasks(folder)
    return folder


@pytest.fixture(scope="module")
def tasks(data: Path) -> list[str]:
    return [str(data / "side.toml"), str(data / "height.toml")]


@pytest.fixture(scope="module")
def finished(tasks: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert bench.run(todo(tasks, out)) == {}
    return out


def found(out: Path, task: str, split: str, row: str) -> dict:
    return load(results.path(out, task, split, row))


def test_every_table_has_the_floors_and_every_encoder(finished: Path) -> None:
    records = results.read(finished)
    tables = {(one["task"], one["split"]) for one in records}
    assert tables == {(task, split) for task in ("side", "height") for split in engine.ALWAYS}
    for table in tables:
        own = [one for one in records if (one["task"], one["split"]) == table]
        floors = {(one["row"], one["protocol"]) for one in own if one["kind"] == "floor"}
        first = "majority" if table[0] == "side" else "mean"
        assert floors == {
            (first, "majority"),
            ("nearest neighbours on the sphere", "neighbours"),
            ("Wrap", "probe"),
        }
        entered = {(one["row"], one["protocol"]) for one in own if one["kind"] == "encoder"}
        assert entered == {
            *(("XYZ", one) for one in ("probe", "neighbours")),
            *(("grid", one) for one in ("probe", "neighbours")),
            *((f"{one} + FFN", "trained") for one in ("XYZ", "grid", ENTRIES[2].name)),
        }


def test_what_can_be_learned_is_learned(finished: Path) -> None:
    """Height is linear in XYZ; the near side is a half space."""
    assert found(finished, "height", "blocked", "xyz-probe")["test"][0] > 0.999
    assert np.mean(found(finished, "side", "blocked", "xyz-ffn-trained")["test"]) > 0.93
    assert found(finished, "height", "random", "mean-majority")["test"][0] < 0.01


def test_a_record_holds_what_it_takes_to_believe_it(finished: Path, data: Path) -> None:
    record = found(finished, "side", "random", "grid-ffn-trained")
    assert record["seeds"] == [0, 1]
    assert len(record["test"]) == len(record["validation"]) == 2
    assert record["test"][0] != record["test"][1]
    task = bench.load_task(str(data / "side.toml"))
    split = bench.split_of(task, "random")
    assert record["split_hash"] == split.hash
    counts = [record[f"num_{name}"] for name in ("train", "validation", "test")]
    assert counts == [int((split.folds[0] == i).sum()) for i in range(3)]
    assert set(record["versions"]) >= {"geoenc", "torch", "numpy", "python"}
    assert record["hardware"]["threads"] == 1
    assert record["about"]["licence"] == "CC0-1.0"
    assert record["about"]["classes"] == 2
    assert record["error"] is None


def test_validation_chooses_and_the_search_is_kept(finished: Path) -> None:
    record = found(finished, "side", "random", "grid-ffn-trained")
    tried = {tuple(sorted(one["settings"].items())): one for one in record["search"]}
    assert len(tried) == 3  # two scales at the first rate, then the second rate
    best = max(record["search"], key=lambda one: one["validation"])
    assert best["settings"] == record["chosen"]
    assert record["validation"][0] == best["validation"]
    assert all(one["seconds"] >= 0 for one in record["search"])
    probe = found(finished, "side", "random", "grid-probe")
    assert {one["settings"]["min_radius"] for one in probe["search"]} == {5.0, 50.0}
    assert probe["validation"][0] == max(one["validation"] for one in probe["search"])


def test_samples_lie_beside_and_agree(finished: Path, data: Path) -> None:
    for task, row in (("side", "xyz-ffn-trained"), ("height", "xyz-neighbours")):
        path = results.path(finished, task, "blocked", row)
        record, kept = load(path), np.load(path.with_suffix(".npz"))
        whole = bench.load_task(str(data / f"{task}.toml"))
        assert np.array_equal(kept["lonlat"], whole.lonlat.numpy()[kept["row"]])
        assert len(np.unique(kept["block"])) > 10
        if task == "side":
            assert kept["correct"].shape == (2, record["num_test"])
            assert kept["correct"].mean(1) == pytest.approx(record["test"], abs=1e-6)
        else:
            target = whole.target.numpy()[kept["row"]]
            r2 = 1 - kept["error"].mean(1) / target.var()
            assert r2 == pytest.approx(record["test"], abs=1e-5)


def test_what_has_no_chance_is_computed_once(finished: Path) -> None:
    for row in ("wrap-probe", "grid-probe", "nearest-neighbours-on-the-sphere-neighbours"):
        record = found(finished, "height", "random", row)
        assert record["deterministic"]
        assert record["test"][0] == record["test"][1]
    assert not found(finished, "height", "random", "grid-ffn-trained")["deterministic"]


def test_random_features_are_drawn_for_each_seed(tasks: list[str], tmp_path: Path) -> None:
    plan = replace(todo(tasks[:1], tmp_path), entries=tuple(bench.entries("RFF(num_features=8)")))
    bench.run(replace(plan, protocols=("probe",)))
    record = found(tmp_path, "side", "random", "rff-num-features-8-probe")
    assert not record["deterministic"]
    assert record["test"][0] != record["test"][1]


def test_a_second_run_computes_nothing_and_other_settings_all(
    finished: Path, tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "out")

    def forbidden(*_: object) -> None:
        raise AssertionError("computed again")

    for name in protocols.PROTOCOLS:
        monkeypatch.setitem(protocols.PROTOCOLS, name, forbidden)
    assert bench.run(todo(tasks, tmp_path / "out")) == {}
    failed = bench.run(todo(tasks, tmp_path / "out", settings=replace(SIZES, steps=61)))
    assert set(failed.values()) == {"AssertionError: computed again"}


def test_an_interrupted_run_goes_on(
    finished: Path, tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the fifth row: four are kept, and the second run makes the others, alike."""
    fill, told = protocols.PROTOCOLS["probe"], []

    def stopped(*arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setitem(protocols.PROTOCOLS, "probe", stopped)
    with pytest.raises(KeyboardInterrupt):
        bench.run(todo(tasks[:1], tmp_path))
    kept = {one["row"]: one for one in results.read(tmp_path)}
    assert set(kept) == {"majority", "nearest neighbours on the sphere"}

    def counted(*arguments: object) -> object:
        told.append(arguments)
        return fill(*arguments)

    monkeypatch.setitem(protocols.PROTOCOLS, "probe", counted)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert bench.run(todo(tasks[:1], tmp_path)) == {}
    assert told
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
    for one in results.read(tmp_path):
        path = next(
            file for file in (finished / "results/side" / one["split"]).glob("*.json")
            if (load(file)["row"], load(file)["protocol"]) == (one["row"], one["protocol"])
        )  # fmt: skip
        assert load(path)["test"] == one["test"], one["row"]


def test_a_command_that_is_killed_loses_its_rows_only(data: Path, tmp_path: Path) -> None:
    """Its processes end with it."""
    tasks = [str(data / "side.toml"), str(data / "height.toml")]
    names = [*tasks, "--quick", "--seeds", "3", "--jobs", "2"]
    command = [sys.executable, "-m", "geoenc", "bench", *names, "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list(tmp_path.rglob("*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)
    left = set(tmp_path.rglob("*.json"))
    time.sleep(3)
    assert set(tmp_path.rglob("*.json")) == left
    whole = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert len(whole) >= 3
    assert all(one["error"] is None for one in whole)


def test_one_failing_row_and_one_failing_task_do_not_lose_the_others(
    tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent.toml"
    absent.write_text('about = "x"\nfile = "none.csv"\ntarget = "a"\nmetric = "r2"\n')
    broken = protocols.PROTOCOLS["trained"]

    def sometimes(parts, entry, *rest):
        if entry.name == "grid":
            raise RuntimeError("no convergence\nand more")
        return broken(parts, entry, *rest)

    monkeypatch.setitem(protocols.PROTOCOLS, "trained", sometimes)
    plan = todo([str(absent), tasks[0]], tmp_path / "out")
    failed = bench.run(plan)
    assert failed["absent"].startswith("DatasetNotFoundError: expected none.csv")
    for split in engine.ALWAYS:
        assert failed[f"side, {split}, grid + FFN (trained)"] == "RuntimeError: no convergence"
    assert len(failed) == 3
    good = [one for one in results.read(tmp_path / "out") if one["error"] is None]
    assert len([one for one in good if one["kind"] != "hybrid"]) == 2 * 9
    monkeypatch.setitem(protocols.PROTOCOLS, "trained", broken)
    assert bench.run(todo([tasks[0]], tmp_path / "out")) == {}


def test_results_of_other_rows_are_not_compared(finished: Path) -> None:
    records = results.read(finished)
    results.comparable(records)
    results.tables(records)
    for key in ("split_hash", "data_hash"):
        other = [*records, {**records[0], "row": "other", key: "0" * 16}]
        with pytest.raises(ValueError, match=f"expected one {key} .* run them again"):
            results.tables(other)


def test_tables_show_both_splits_and_floors(finished: Path) -> None:
    shown = results.tables(results.read(finished))
    assert "random" in shown
    assert "blocked" in shown
    record = found(finished, "side", "random", "majority-majority")
    [line] = [one for one in shown.splitlines() if one.strip().startswith("majority ")]
    assert f"{100 * record['test'][0]:.2f}" in line
    assert line.endswith("floor")


def test_processes_give_the_same_numbers(
    data: Path, finished: Path, tasks: list[str], tmp_path: Path
) -> None:
    plan = replace(todo(tasks, tmp_path), protocols=("probe",))
    assert bench.run(plan, jobs=2) == {}
    records = results.read(tmp_path)
    assert {one["task"] for one in records} == {"side", "height"}
    known = {(o["task"], o["split"], o["row"], o["protocol"]): o for o in results.read(finished)}
    for one in records:
        assert one["test"] == known[one["task"], one["split"], one["row"], one["protocol"]]["test"]


def test_a_process_that_ends_badly_is_told(
    tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_worker", _killed)
    failed = bench.run(todo(tasks, tmp_path), jobs=2)
    assert set(failed) == {"side", "height"}
    assert all("exit code 7" in text and "--jobs" in text for text in failed.values())


def _killed(plan: bench.Plan, name: str) -> None:
    os._exit(7)


def test_a_trained_model_is_probed_as_it_is(tasks: list[str], tmp_path: Path) -> None:
    position = SphericalHarmonics(3)
    model = LocationEncoder(position, FFN(position.out_features, 8, hidden_features=8))
    model.save_pretrained(tmp_path / "mine")
    [entry] = bench.entries(str(tmp_path / "mine"))
    plan = replace(todo(tasks, tmp_path / "out"), entries=(entry,))
    assert bench.run(plan) == {}
    record = found(tmp_path / "out", "height", "random", "mine-probe")
    assert record["deterministic"]
    own = {one["protocol"] for one in results.read(tmp_path / "out") if one["row"] == "mine"}
    assert own == {"probe", "neighbours"}
    task = bench.load_task(tasks[1])
    code = model.embed(task.lonlat).double()
    split = bench.split_of(task, "random").folds[0]
    best = -np.inf
    for penalty in SIZES.penalties:
        train, test = code[split == 0], code[split == 2]
        mean, deviation = train.mean(0), train.std(0)
        a, b = (train - mean) / deviation, (test - mean) / deviation
        a, b = a[:, deviation > 0], b[:, deviation > 0]
        y = task.target[split == 0]
        inner = a.T @ a / len(a) + penalty * torch.eye(a.shape[1])
        said = b @ torch.linalg.solve(inner, a.T @ (y - y.mean()) / len(a)) + y.mean()
        wanted = task.target[split == 2]
        r2 = 1 - (said - wanted).square().mean() / wanted.var(correction=0)
        best = max(best, float(r2)) if penalty == record["chosen"]["penalty"] else best
    assert record["test"][0] == pytest.approx(best, abs=1e-4)


def with_images(rows: int = 900) -> bench.Task:
    """The image tells between classes 2 k and 2 k + 1, the place which k."""
    from geoenc import sampling

    lonlat = sampling.uniform(rows)
    half = torch.randint(0, 2, (rows,))
    target = 2 * (lonlat[:, 1] > 0).long() + half
    image = torch.full((rows, 4), 0.1)
    image[torch.arange(rows), half] = 0.4
    image[torch.arange(rows), half + 2] = 0.4
    probs = {"random": image, "blocked": image}
    return bench.Task("images", lonlat, target, 4, "top1", image_probs=probs)


def test_prior_times_image_knows_what_neither_knows(tmp_path: Path) -> None:
    task = with_images()
    split = bench.split_of(task, "random")
    table = Table(task, split, SIZES, tmp_path)
    asked = ("trained", "prior-times-image")
    rows = table_rows(task, bench.entries("XYZ"), asked, SIZES)
    found = {(one["row"], one["protocol"]): one for one, _ in table.fill(rows)}
    alone = found["image alone", "prior-times-image"]["test"][0]
    place = found["XYZ + FFN", "trained"]["test"][0]
    both = found["XYZ + FFN", "prior-times-image"]
    assert alone == pytest.approx(0.5, abs=0.12)
    assert place == pytest.approx(0.5, abs=0.12)
    assert both["test"][0] > 0.95
    assert both["more"]["product_top1"][0] > 0.95
    assert {"weight", "floor", "prior_weight", "rate"} <= set(both["chosen"])
    assert found["image alone", "prior-times-image"]["kind"] == "floor"


def test_the_judge_of_a_task_replaces_its_metric(tmp_path: Path) -> None:
    lonlat = with_images().lonlat
    seen: list[int] = []

    def judge(output: torch.Tensor, rows: torch.Tensor) -> dict[str, float]:
        seen.extend(rows.tolist())
        return {"auc": float((output.argmax(1) == (lonlat[rows, 0] > 0).long()).double().mean())}

    task = bench.Task("own", lonlat, (lonlat[:, 0] > 0).long(), 2, "auc", judge=judge)
    split = bench.split_of(task, "blocked")
    table = Table(task, split, SIZES, tmp_path)
    rows = table_rows(task, bench.entries("XYZ"), ("probe",), SIZES)
    records = [one for one, _ in table.fill(rows)]
    assert [one["error"] for one in records] == [None] * 4
    assert records[-1]["test"][0] > 0.9
    assert set(seen) == set((split.folds[0] > 0).nonzero()[:, 0].tolist())


def test_regions_are_judged_together(tasks: list[str], tmp_path: Path) -> None:
    plan = replace(todo(tasks[1:], tmp_path), protocols=("probe",), splits=("region",))
    assert bench.run(plan) == {}
    record = found(tmp_path, "height", "region", "xyz-probe")
    assert record["num_folds"] > 4
    assert record["test"][0] > 0.99
    assert len(record["chosen"]["folds"]) == record["num_folds"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-task"], "--list"),
        (["checkerbord"], "checkerboard"),
        (["SIDE", "--encoder", "Space2VecGird"], "Space2VecGrid"),
        (["SIDE", "--encoder", "XYZ(open('x'))"], "plain values"),
        (["SIDE", "--encoder", "Space2VecGrid(num_frequencies=__import__('os'))"], "plain values"),
        (["SIDE", "--encoder", "none.toml"], "not there"),
        (["SIDE", "--seeds", "0"], "at least 1 seed"),
        (["SIDE", "--jobs", "0"], "at least 1 job"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], words: str, tasks: list[str], tmp_path: Path, capsys
) -> None:
    given = [tasks[0] if one == "SIDE" else one for one in arguments]
    assert cli.main(["bench", *given, "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("geoenc: expected")
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "out").exists()


def test_the_command_runs_a_file_of_encoders_and_exits_with_1_where_one_failed(
    tasks: list[str], tmp_path: Path, capsys
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[encoders]]\nname = "good"\nposition = { name = "XYZ" }\n'
        "training = { steps = 20, evaluate_every = 10 }\n"
        '[[encoders]]\nname = "bad"\nposition = { name = "NeRF", num_frequencies = -1 }\n'
    )
    arguments = ["bench", tasks[0], "--encoder", str(file), "--quick", "--seeds", "1"]
    arguments += ["--protocol", "trained", "--jobs", "1", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 1
    shown = capsys.readouterr()
    assert "good + FFN" in shown.out
    assert "failed" in shown.out
    assert "failed: side, blocked, bad + FFN (trained)" in shown.err
    assert cli.main([*arguments, "--json"]) == 1
    assert {one["task"] for one in json.loads(capsys.readouterr().out)} == {"side"}


def test_the_report_is_made_of_what_is_there(finished: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(finished, tmp_path / "out")
    assert cli.main(["bench", "--report", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path / "out" / "report.html") in shown
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["tasks"]) == {"side", "height"}
    assert cli.main(["bench", "--report", "--out", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("geoenc: expected")


def test_a_task_may_name_its_protocols(data: Path, tmp_path: Path) -> None:
    text = (data / "side.toml").read_text() + 'protocols = ["neighbours", "nearest-of-class"]\n'
    (data / "few.toml").write_text(text)
    assert bench.run(todo([str(data / "few.toml")], tmp_path)) == {}
    rows = {(one["row"], one["protocol"]): one for one in results.read(tmp_path)}
    assert {protocol for _, protocol in rows} == {"majority", "neighbours", "nearest-of-class"}
    nearest = rows["nearest row of each class on the sphere", "nearest-of-class"]
    assert nearest["kind"] == "floor"
    assert nearest["test"][0] > 0.9


def test_the_list_says_what_is_there_and_what_is_missing(
    tasks: list[str], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEOENC_SHARED", raising=False)
    assert cli.main(["bench", "--list", "checkerboard", "fmow-class", tasks[0]]) == 0
    shown = capsys.readouterr().out
    assert "16 classes" in shown
    assert "needs data/fmow_val.parquet" in shown
    assert "GEOENC_SHARED" in shown
    assert "899 rows, 2 classes" in shown
    assert cli.main(["bench", "--list", "fmow-class", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["needs"] == "data/fmow_val.parquet"


def test_an_encoder_that_is_a_floor_anyway_stays_a_floor() -> None:
    """Entered by name, it would overwrite the floor's result; another of that name is refused."""
    task = bench.load_task("checkerboard")
    settings = bench.read_settings(quick=True)
    rows = table_rows(task, bench.entries("Wrap"), ["probe", "neighbours"], settings)
    assert [(row.name, row.kind) for row in rows if row.protocol == "probe"] == [("Wrap", "floor")]
    assert len({row.slug for row in rows}) == len(rows)
    other = Entry("wrap", {"name": "Wrap", "latitude_period": 360.0})
    with pytest.raises(ValueError, match="got 'Wrap' and 'wrap', whose results would be one file"):
        table_rows(task, [other], ["probe"], settings)
