"""From a folder of results to numbers, tables and a page: what they say, and what is refused."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from fake_results import ENCODERS, FLOORS, write_results

from geoenc.bench import markdown
from geoenc.bench.html import _ticks, from_markdown
from geoenc.bench.paired import block_tests, holm
from geoenc.bench.report import write_report
from geoenc.bench.summary import summarise


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The results of four tasks."""
    return write_results(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def summary(made):
    return summarise(made)


def edit(path: Path, **values) -> None:
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | values))


def find(table, name: str, protocol: str):
    return next(r for r in table["rows"] if (r["row"], r["protocol"]) == (name, protocol))


def few(tmp_path, **options) -> Path:
    """The results of one task with few samples."""
    return write_results(tmp_path, tasks=("classes",), **{"samples": 80, **options})


def test_every_result_is_a_row(summary, made):
    assert summary["made"]["results"] == len(list(made.glob("results/*/*/*.json"))) == 88
    assert summary["made"]["machines"][0]["results"] == 88
    for task in summary["tasks"].values():
        assert list(task["splits"]) == ["random", "blocked"]
        for table in task["splits"].values():
            assert len(table["rows"]) == len(FLOORS) + 2 * len(ENCODERS)
            assert [r["kind"] for r in table["rows"]].index("encoder") == len(FLOORS)
    assert summary["tasks"]["quakes"]["control"]
    assert summary["failed"] == summary["notes"] == []


@pytest.mark.parametrize("name", ["classes", "numbers", "presence"])
def test_rows_are_compared_with_the_best_floor_block_by_block(made, summary, name):
    table = summary["tasks"][name]["splits"]["random"]
    row, floor = find(table, "Space2VecGrid", "probe"), find(table, "k-NN", "neighbours")
    folder = made / "results" / name / "random"
    ours = json.loads((folder / "space2vecgrid-probe.json").read_text())
    theirs = json.loads((folder / "k-nn-neighbours.json").read_text())
    test = np.array(ours["test"])
    assert row["mean"] == pytest.approx(test.mean())
    assert row["standard_error"] == pytest.approx(test.std(ddof=1) / math.sqrt(3))
    assert floor["standard_error"] is None  # one seed
    assert row["best_floor"] == "k-NN"
    assert row["difference"] == pytest.approx(test.mean() - theirs["test"][0])
    assert row["low"] < row["difference"] < row["high"]
    a, b = (np.load(folder / f"{stem}.npz") for stem in ("k-nn-neighbours", "space2vecgrid-probe"))
    if name == "classes":
        pairs = b["correct"].mean(0) - a["correct"].mean(0)
        assert row["difference"] == pytest.approx(pairs.mean())
    elif name == "numbers":
        pairs = a["error"].mean(0) - b["error"].mean(0)
    if name != "presence":
        expected = block_tests(pairs, a["block"])[0].p
        assert row["p_value"] == pytest.approx(expected, abs=0.02)
    adjusted = holm([math.nan if r["p_value"] is None else r["p_value"] for r in table["rows"]])
    for one, p in zip(table["rows"], adjusted, strict=True):
        assert (one["p_holm"] is None) == (one["kind"] == "floor")
        if one["kind"] != "floor":
            assert one["p_holm"] == pytest.approx(p)
            assert one["significant"] == (p < 0.05)
    best = find(table, "Herglotz", "trained")
    assert best["significant"]
    assert best["difference"] > 0


def test_the_interval_of_numbers_is_in_units_of_the_score(summary):
    """Mean squared errors become shares of the variance: 1.7 in the made-up results."""
    for split in ("random", "blocked"):
        for row in summary["tasks"]["numbers"]["splits"][split]["rows"]:
            if row["low"] is not None:
                assert row["low"] < row["difference"] < row["high"]


def test_the_floor_is_chosen_on_validation_and_images_have_their_own(tmp_path):
    folder = few(tmp_path) / "results" / "classes" / "random"
    edit(folder / "sine-cosine-probe.json", validation=[0.99])
    for stem in ("majority-majority", "xyz-probe"):
        edit(folder / f"{stem}.json", protocol="prior-times-image")
    table = summarise(tmp_path)["tasks"]["classes"]["splits"]["random"]
    assert find(table, "XYZ", "trained")["best_floor"] == "sine-cosine"
    image, floor = (find(table, n, "prior-times-image") for n in ("XYZ", "majority"))
    assert image["best_floor"] == floor["best_floor"] == "majority"
    assert image["difference"] == pytest.approx(image["mean"] - floor["mean"])
    assert find(table, "k-NN", "neighbours")["best_floor"] == "sine-cosine"
    assert markdown.reference(table)["row"] == "sine-cosine"


@pytest.mark.parametrize("key", ["split_hash", "data_hash", "metric"])
def test_results_of_other_splits_or_data_are_refused_and_both_files_named(tmp_path, key):
    folder = few(tmp_path) / "results" / "classes" / "blocked"
    edit(folder / "xyz-probe.json", **{key: "another"})
    with pytest.raises(ValueError, match=f"the same {key}") as error:
        write_report(tmp_path)
    assert "xyz-probe.json" in str(error.value)
    assert len(re.findall(r"\w[\w-]*\.json", str(error.value))) == 2
    assert not (tmp_path / "summary.json").exists()


def test_data_may_not_differ_between_splits_and_hashes_may(tmp_path):
    folder = few(tmp_path)
    summarise(folder)  # each split has a hash of its own
    for path in folder.glob("results/classes/blocked/*.json"):
        edit(path, data_hash="other")
    with pytest.raises(ValueError, match="the same data_hash in all results of task 'classes'"):
        summarise(folder)


def test_failed_rows_and_missing_samples_do_not_lose_the_others(tmp_path):
    folder = few(tmp_path) / "results" / "classes" / "random"
    edit(folder / "xyz-probe.json", error="ValueError: too much", test=[])
    (folder / "xyz-trained.npz").unlink()
    edit(folder / "herglotz-probe.json", test=[0.1, 0.2, 0.3])
    paths = write_report(tmp_path)
    found = json.loads(paths[0].read_text())
    table = found["tasks"]["classes"]["splits"]["random"]
    assert [one["row"] for one in found["failed"]] == ["XYZ"]
    assert find(table, "XYZ", "trained")["p_value"] is None
    assert find(table, "XYZ", "trained")["difference"] is not None
    assert find(table, "Herglotz", "probe")["significant"] is None
    assert found["notes"] == [
        "classes/random/herglotz-probe.npz: not the samples of the scores beside it, so no test "
        "of this row"
    ]
    assert find(table, "Herglotz", "trained")["significant"] is not None
    page = (tmp_path / "report.html").read_text()
    assert "too much" in page
    assert "herglotz-probe.npz" in page
    assert "too much" in (tmp_path / "tables" / "overview.md").read_text()


def test_rows_that_diverged_are_failures_and_seeds_that_repeat_are_one(tmp_path):
    folder = few(tmp_path) / "results" / "classes" / "random"
    tried = [{"settings": {"rate": 9.0}, "validation": math.nan, "seconds": 1.0}]
    edit(folder / "xyz-probe.json", test=[math.nan, 0.1, 0.1])
    edit(folder / "xyz-trained.json", validation=[math.nan] * 3, search=tried)
    floor = folder / "k-nn-neighbours.json"
    same = json.loads(floor.read_text())["test"] * 3
    edit(floor, test=same, deterministic=True)
    (tmp_path / "results" / "lost").mkdir()
    (tmp_path / "results" / "lost" / "error.json").write_text(
        '{"task": "lost", "error": "no file"}'
    )
    found = json.loads(write_report(tmp_path)[0].read_text())
    assert [(one["task"], one["row"]) for one in found["failed"]] == [
        ("classes", "XYZ"),
        ("lost", None),
    ]
    table = found["tasks"]["classes"]["splits"]["random"]
    diverged, single = find(table, "XYZ", "trained"), find(table, "k-NN", "neighbours")
    assert diverged["validation"] is diverged["search"][0]["validation"] is None
    assert (single["seeds"], single["standard_error"]) == (1, None)
    assert find(table, "Herglotz", "probe")["p_value"] is not None  # its samples still count
    assert "- failed: lost: no file" in (tmp_path / "tables" / "overview.md").read_text()


def test_folders_that_cannot_be_read_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="geoenc bench --out FOLDER first"):
        write_report(tmp_path)
    folder = few(tmp_path) / "results" / "classes" / "random"
    with pytest.raises(FileNotFoundError, match="leave it out"):
        write_report(tmp_path, speed=tmp_path / "none")
    edit(folder / "xyz-probe.json", test=[])
    with pytest.raises(ValueError, match=r"xyz-probe\.json.*no test scores; run that row again"):
        write_report(tmp_path)
    (folder / "xyz-probe.json").write_text("{")
    with pytest.raises(ValueError, match=r"xyz-probe\.json.*damaged"):
        write_report(tmp_path)


def test_tables_have_floors_first_and_the_best_number_of_each_split_bold(summary):
    task = summary["tasks"]["classes"]
    lines = markdown.task_table(task).splitlines()
    assert lines[0] == "| row | protocol | random | − floor | blocked | − floor |"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:13]]
    assert all(row[0].endswith("(floor)") for row in rows[:3])
    assert not any(row[0].endswith("(floor)") for row in rows[3:])
    for column, split in ((2, "random"), (4, "blocked")):
        table = task["splits"][split]
        best = max(table["rows"], key=lambda row: row["mean"])
        bold = [row for row in rows if "**" in row[column]]
        assert [(row[0].strip("`"), row[1]) for row in bold] == [(best["row"], best["protocol"])]
        assert bold[0][column].startswith(f"**{100 * best['mean']:.2f} ± ")
        for row in rows[3:]:
            one = find(table, row[0].strip("`"), row[1])
            assert row[column + 1].endswith("*") == one["significant"]
            assert row[column + 1].startswith(f"{100 * one['difference']:+.2f}")
    scores = [float(row[2].strip("*").split(" ")[0]) for row in rows[3:]]
    assert scores == sorted(scores, reverse=True)
    assert "Warning" not in markdown.task_table(task)


def test_a_control_that_is_beaten_is_a_warning(summary):
    control = summary["tasks"]["quakes"]
    assert "> **Warning:** Herglotz (trained) beats the floor" in markdown.task_table(control)
    assert "quakes: Herglotz" in markdown.overview(summary)
    tame = json.loads(json.dumps(control))
    for table in tame["splits"].values():
        for row in table["rows"]:
            row["difference"] = -abs(row["difference"] or 0.0)  # significantly worse is fine
    assert "Warning" not in markdown.task_table(tame)
    assert all("quakes" not in one["tasks"] for one in summary["ranks"])


def test_the_overview_shows_what_validation_chose(tmp_path):
    folder = few(tmp_path) / "results" / "classes" / "random"
    edit(folder / "xyz-probe.json", validation=[0.999] * 3)
    text = markdown.overview(summarise(tmp_path))
    line = next(line for line in text.splitlines() if line.startswith("| classes |"))
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[4].endswith("`XYZ`, probe")
    assert cells[7].endswith("`Herglotz`, trained")


def test_ranks_are_over_tasks_that_have_all_rows(summary, tmp_path):
    assert {(one["split"], one["protocol"]) for one in summary["ranks"]} == {
        (split, protocol) for split in ("random", "blocked") for protocol in ("probe", "trained")
    }
    for one in summary["ranks"]:
        assert one["tasks"] == ["classes", "numbers", "presence"]
        assert len(one["names"]) == len(FLOORS) + len(ENCODERS)
        assert one["names"][0] == "Herglotz"
    assert summarise(few(tmp_path))["ranks"] == []


def test_the_page_is_whole_and_asks_for_nothing(made, tmp_path):
    speed = tmp_path / "speed"
    speed.mkdir()
    (speed / "encoder.md").write_text(
        "2 cores.\n\n| a `b` | ns |\n| --- | ---: |\n| x<y | 1,203 |\n"
    )
    paths = write_report(made, out=tmp_path / "out", speed=speed)
    assert {str(p.relative_to(tmp_path / "out")) for p in paths} == {
        "summary.json",
        "report.html",
        *(f"tables/{n}.md" for n in ("overview", "classes", "numbers", "presence", "quakes")),
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "{{" not in page
    assert not re.search(r'(src|href|action)="(?!#|data:)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "Sphere2VecC &lt;x&gt;" in page
    assert "<x>" not in page
    assert 'data-value="1203"' in page
    assert page.count("<figure data-split") == 4
    assert "rate: 0.001, 0.01; width: 256" in page
    without = write_report(few(tmp_path / "few"), speed=None)
    assert "<h2>Speed</h2>" not in without[-1].read_text()


def test_maps_are_of_the_encoder_that_validation_chose(made, summary):
    pytest.importorskip("matplotlib")
    from geoenc.bench import maps

    found = maps.task_maps(made, summary["tasks"]["classes"])
    assert found[0][0].startswith("Herglotz, trained: share that is right, blocked split")
    assert [png[:4] for _, png in found] == [b"\x89PNG"] * 2
    assert maps.task_maps(made, summary["tasks"]["presence"]) == []  # one area, not one per place
    row = markdown.best(summary["tasks"]["classes"]["splits"]["blocked"])
    means = maps._means(made, row)
    assert 0 <= np.nanmin(means) <= np.nanmax(means) <= 1
    arrays = np.load((made / row["file"]).with_suffix(".npz"))
    lonlat = arrays["lonlat"]
    import torch

    from geoenc.data.splits import spatial_blocks

    block = spatial_blocks(torch.from_numpy(lonlat), degrees=5.0)
    inside = (block == block[0]).numpy()
    assert means[block[0]].item() == pytest.approx(arrays["correct"][:, inside].mean())


def test_markdown_becomes_html_that_says_the_same():
    html = from_markdown(
        "A **b** of `c_d`\nand e & f.\n\n| x |  |\n|---|--:|\n| -1,5 | 3.2e-05 |", "t"
    )
    assert "<p>A <strong>b</strong> of <code>c_d</code> and e &amp; f.</p>" in html
    assert 'data-value="3.2e-05"' in html
    assert html.count("<tr>") == 2


@pytest.mark.parametrize("low", [-0.5, 0.0, 12.3, 99.9])
@pytest.mark.parametrize("span", [0.0, 0.0031, 0.91, 0.99, 1.0, 7.9, 83.0])
def test_ticks_enclose_and_are_few(low, span):
    ticks = _ticks(low, low + span)
    assert ticks[0] <= low <= low + span <= ticks[-1]
    assert 2 <= len(ticks) <= 11
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])
