"""Paired tests against counting, against simulation, and the two ways from files to a table."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from geoenc import cli
from geoenc.compare import (
    as_json,
    as_text,
    bootstrap,
    compare_files,
    compare_predictions,
    compare_results,
    mcnemar,
)
from geoenc.predictions import Predictions

CLASSES = 4


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (3, 3), (2, 9), (9, 2), (1, 0)])
def test_mcnemar_counts_all_ways_to_fall(b: int, c: int) -> None:
    """All 2^n ways in which n coins fall: as far from the middle as b, or farther."""
    n = b + c
    falls = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
    far = abs(b - n / 2)
    beyond = sum(abs(heads - n / 2) > far for heads in falls) / 2**n
    exactly = sum(abs(heads - n / 2) == far for heads in falls) / 2**n
    exact, mid = mcnemar(b, c)
    assert exact == pytest.approx(beyond + exactly)
    assert mid == pytest.approx(beyond + exactly / 2 if b != c else 1.0)
    assert mid <= exact


def test_bootstrap_is_the_interval_of_the_mean() -> None:
    values = torch.randint(-1, 2, (4000,))
    low, high = bootstrap(values)
    mean, error = values.double().mean().item(), values.double().std().item() / math.sqrt(4000)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)
    assert (low, high) == bootstrap(values)
    assert (low, high) != bootstrap(values, seed=1)
    assert all(math.isnan(end) for end in bootstrap(values[:1]))


def predicted(quality: float, target: Tensor, sample: Any = None) -> Predictions:
    scores = torch.randn(len(target), CLASSES)
    scores[torch.arange(len(target)), target] += quality
    return Predictions.of(scores, target, sample=sample)


def test_samples_are_paired_by_name() -> None:
    target = torch.randint(CLASSES, (500,))
    first, second = predicted(0.5, target), predicted(1.5, target)
    order = torch.randperm(500)
    shuffled = Predictions(
        **{
            name: column[order] if isinstance(column, Tensor) else column
            for name, column in vars(second).items()
        }
    )
    result = compare_predictions(first, shuffled)
    a, b = first.rank == 1, second.rank == 1
    assert (result.only_first, result.only_second) == (int((a & ~b).sum()), int((~a & b).sum()))
    assert (result.p_exact, result.p_mid) == mcnemar(result.only_first, result.only_second)
    assert result == compare_predictions(first, second)
    top1, mrr = result.differences
    assert top1.first == pytest.approx(first.metrics()["top1"])
    assert top1.difference == pytest.approx(second.metrics()["top1"] - first.metrics()["top1"])
    assert mrr.second == pytest.approx(second.metrics()["mrr"])
    assert 0 < top1.low < top1.difference < top1.high
    assert result.p_exact < 1e-6


def test_top_k_and_names_as_strings() -> None:
    target = torch.randint(CLASSES, (60,))
    names = [f"image-{i}" for i in range(60)]
    first, second = predicted(0.0, target, names), predicted(0.0, target, names[::1])
    result = compare_predictions(first, second, k=3)
    assert result.differences[0].metric == "top3"
    assert result.differences[0].first == pytest.approx(first.metrics((3,))["top3"])
    same = compare_predictions(first, first)
    assert (same.only_first, same.only_second, same.p_exact, same.p_mid) == (0, 0, 1.0, 1.0)
    assert same.differences[0].low == same.differences[0].high == 0.0


def test_other_samples_and_other_classes_are_refused() -> None:
    target = torch.tensor([0, 1, 2])
    first = predicted(1.0, target)
    for sample in (torch.tensor([0, 1, 3]), ["0", "1", "2"]):
        with pytest.raises(ValueError, match=r"the same samples, got 3 and 3, of which [02] are"):
            compare_predictions(first, predicted(1.0, target, sample))
    with pytest.raises(ValueError, match=r"same class of each sample .* got 2 samples of 3"):
        compare_predictions(first, predicted(1.0, torch.tensor([0, 2, 1])))


# --- results of runs ----------------------------------------------------------------------------


def results(shift: float = 0.0, seeds: int = 4, **config: Any) -> dict[str, Any]:
    scores = [
        {
            "split": split,
            "seed": seed,
            "fraction": fraction,
            "method": method,
            "top1": 0.5 + 0.01 * seed + 0.1 * (method == "B") + shift * (1 + 0.1 * seed),
            "mrr": 0.6,
        }
        for split in ("random", "blocked")
        for seed in range(seeds)
        for fraction in (0.05, 1.0)
        for method in ("A", "B")
    ]
    data = {"data": {"path": "birds.csv"}, "seed": 0, **config}
    return {"config": data, "classes": ["x", "y"], "scores": scores}


def test_every_cell_is_tested_over_its_seeds() -> None:
    found = compare_results(results(), results(0.02))
    assert [(c.split, c.fraction, c.first_method) for c in found] == [
        (split, fraction, method)
        for split in ("random", "blocked")
        for fraction in (0.05, 1.0)
        for method in ("A", "B")
    ]
    gains = torch.tensor([0.02 * (1 + 0.1 * seed) for seed in range(4)]).double()
    mean, error = gains.mean(), gains.std() / 2
    for cell in found:
        assert cell.seeds == 4
        assert cell.difference.difference == pytest.approx(mean.item())
        assert cell.p == pytest.approx(2 * stats.t.sf(mean / error, 3))
        half = stats.t.ppf(0.975, 3) * error.item()
        assert cell.difference.low == pytest.approx(mean.item() - half)
        assert cell.difference.high == pytest.approx(mean.item() + half)


def test_two_rows_of_one_table() -> None:
    table = results()
    found = compare_results(table, table, methods=("A", "B"))
    assert len(found) == 4
    for cell in found:
        assert (cell.first_method, cell.second_method) == ("A", "B")
        assert cell.difference.difference == pytest.approx(0.1)
    same = compare_results(table, table)[0]
    assert (same.difference.difference, same.p) == (0.0, 1.0)
    assert (same.difference.low, same.difference.high) == (0.0, 0.0)


def test_seeds_that_only_one_table_has_are_left_out() -> None:
    assert {cell.seeds for cell in compare_results(results(seeds=5), results(seeds=3))} == {3}
    single = compare_results(results(seeds=1), results(0.1, seeds=4))[0]
    assert single.seeds == 1
    assert math.isnan(single.p)
    assert math.isnan(single.difference.low)


def test_runs_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same samples, got path 'birds\.csv' and 'fish\.csv'"):
        compare_results(results(), results(data={"path": "fish.csv"}))
    with pytest.raises(ValueError, match="same samples, got seed 0 and 1"):
        compare_results(results(), results(seed=1))
    with pytest.raises(ValueError, match="same classes, got 2 and 1 that differ"):
        compare_results(results(), results() | {"classes": ["x"]})
    with pytest.raises(ValueError, match=r"'top1' of 'A' and 'C' in both.*there are A, B"):
        compare_results(results(), results(), methods=("A", "C"))
    with pytest.raises(ValueError, match=r"'top9' of a method.*no scores of that name"):
        compare_results(results(), results(), metric="top9")


# --- from files, and on the command line --------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    target = torch.randint(CLASSES, (80,))
    for name, quality in (("a", 0.3), ("b", 1.5)):
        predicted(quality, target).save(tmp_path / f"{name}.parquet")
    for name, shift in (("run-a", 0.0), ("run-b", 0.03)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results(shift)))
    return tmp_path


def test_files_say_what_objects_say(files: Path) -> None:
    paths = files / "a.parquet", files / "b.parquet"
    assert compare_files(*paths) == compare_predictions(*map(Predictions.load, paths))
    assert compare_files(*paths, metric="top3").k == 3
    assert compare_files(files / "run-a", files / "run-b" / "results.json") == compare_results(
        results(), results(0.03)
    )


def test_command_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(files / "a.parquet"), str(files / "b.parquet")
    assert cli.main(["compare", a, b]) == 0
    shown = capsys.readouterr().out
    result = compare_files(a, b)
    assert shown == as_text(result) + "\n"
    assert "80 samples" in shown
    assert f"{100 * result.differences[0].difference:+.2f}" in shown
    assert cli.main(["compare", a, b, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(as_json(result))
    assert document["p_exact"] == result.p_exact
    run = str(files / "run-a")
    assert cli.main(["compare", run, str(files / "run-b")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("[+") == 8
    assert "8 tests" in shown
    assert cli.main(["compare", run, "--methods", "A", "B", "--metric", "mrr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["difference"]["metric"] == "mrr"


def test_one_seed_is_shown_without_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare_results(results(seeds=1), results(0.1, seeds=1))
    assert "too few seeds" in as_text(found)
    assert json.loads(as_json(found))[0]["p"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run-a"], "expected two files, or one with --methods A B, got one file"),
        (["a.parquet", "run-b"], "of one kind"),
        (["a.parquet", "b.parquet", "--methods", "A", "B"], "expected --methods with results"),
        (["a.parquet", "b.parquet", "--metric", "mrr"], "metric top1, top5, ... for predictions"),
        (["a.parquet", "c.parquet"], "'c.parquet', which does not exist"),
        (["wrong.json", "run-a"], "expected JSON in"),
        (["other.json", "run-a"], "expected the results.json of a run in"),
    ],
)
def test_mistakes_are_one_line(
    files: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    Path("wrong.json").write_text("{")
    Path("other.json").write_text("[1]")
    assert cli.main(["compare", *arguments]) == 1
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out
