"""Floors and probes against formulas written out."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from geoenc import sampling
from geoenc.bench import Task, load_task, parts_of, read_settings, split_of
from geoenc.bench.neighbours import answers, chosen_answers, in_space, on_sphere
from geoenc.bench.parts import Part
from geoenc.bench.probes import logistic, ridge, standardised
from geoenc.bench.protocols import PROTOCOLS
from geoenc.coordinates import great_circle_km, to_xyz


def test_neighbours_on_the_sphere_are_those_of_all_distances() -> None:
    train, places = sampling.uniform(300), sampling.uniform(40)
    places[0] = torch.tensor([180.0, 0.0])
    distance, near = on_sphere(train, places, 7)
    every = great_circle_km(places[:, None], train[None])
    assert torch.equal(near, every.argsort(1)[:, :7])
    angle = 2 * torch.asin(distance / 2)
    assert torch.allclose(angle * 6371.0088, every.sort(1).values[:, :7])


def test_neighbours_in_a_space_are_those_of_all_distances() -> None:
    train, points = torch.randn(200, 5), torch.randn(30, 5)
    distance, near = in_space(train, points, 6)
    every = torch.cdist(points.double(), train.double())
    assert torch.equal(near, every.argsort(1)[:, :6])
    assert torch.allclose(distance, every.sort(1).values[:, :6])


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_answers_are_weighted_means_and_votes(weights: str) -> None:
    distance = torch.rand(20, 4, dtype=torch.float64).sort(1).values + 0.1
    weight = torch.ones_like(distance) if weights == "uniform" else 1 / distance
    numbers = torch.randn(20, 4, dtype=torch.float64)
    expected = (weight * numbers).sum(1) / weight.sum(1)
    assert torch.allclose(answers(distance, numbers, 0, weights), expected)
    classes = torch.randint(0, 3, (20, 4))
    votes = answers(distance, classes, 3, weights)
    for row in range(20):
        for one in range(3):
            assert votes[row, one] == pytest.approx(float(weight[row][classes[row] == one].sum()))


def test_equal_votes_go_to_the_first_class_or_to_the_nearest() -> None:
    distance, classes = torch.tensor([[1.0, 2.0]]), torch.tensor([[2, 0]])
    assert answers(distance, classes, 3, "uniform").argmax() == 0
    assert answers(distance, classes, 3, "uniform", nearest_first=True).argmax() == 2


def test_neighbours_at_distance_zero_decide() -> None:
    distance = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    found = answers(distance, torch.tensor([[5.0, 0.0, 0.0]]), 0, "distance")
    assert float(found) == pytest.approx(5)


def test_validation_chooses_the_number_of_neighbours() -> None:
    """Noise that only many neighbours average out."""
    places = sampling.uniform(1200)
    target = to_xyz(places)[:, 2] + torch.randn(1200, dtype=torch.float64)
    part = [Part(places[i::3], target[i::3], 0, "r2") for i in range(3)]
    near = {
        name: on_sphere(part[0].lonlat, one.lonlat, 25)
        for name, one in (("validation", part[1]), ("test", part[2]))
    }
    outputs, tried = chosen_answers(part[0], near, part[1], counts=(1, 25))
    assert tried[0][0] == 25
    assert tried[0][2] == max(one[2] for one in tried) == part[1].score(outputs["validation"])
    assert len(tried) == 4


def codes(width: int = 6) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    raw = {
        name: 3 * torch.randn(rows, width) + 5
        for name, rows in (("train", 300), ("validation", 80), ("test", 90))
    }
    raw["train"][:, 2] = 7.0
    return raw, torch.randn(width)


def test_columns_are_standardised_by_the_training_rows() -> None:
    raw, _ = codes()
    found = standardised(raw)
    assert [one.shape[1] for one in found.values()] == [5, 5, 5]
    assert np.allclose(found["train"].mean(0), 0, atol=1e-5)
    assert np.allclose(found["train"].std(0, ddof=1), 1, atol=1e-4)
    expected = (raw["test"][:, 0] - raw["train"][:, 0].mean()) / raw["train"][:, 0].std()
    assert np.allclose(found["test"][:, 0], expected, atol=1e-5)


def test_ridge_solves_its_equation() -> None:
    raw, weight = codes()
    x = standardised(raw)
    target = raw["train"].double() @ weight.double() + torch.randn(300, dtype=torch.float64)
    wanted = raw["validation"].double() @ weight.double()
    outputs, tried = ridge(
        x, target, lambda said: -float((said - wanted).square().mean()), penalties=(0.1, 10.0)
    )
    assert tried[0]["settings"] == {"penalty": 0.1}
    train = x["train"].astype(float)
    inner = train.T @ train / 300 + 0.1 * np.eye(5)
    solved = np.linalg.solve(inner, train.T @ (target.numpy() - target.mean().item()) / 300)
    assert np.allclose(outputs["test"], x["test"] @ solved + target.mean().item(), atol=1e-6)


def test_logistic_regression_is_where_its_gradient_vanishes() -> None:
    raw, _ = codes()
    x = standardised(raw)
    target = torch.tensor(x["train"][:, :3] + np.random.randn(300, 3)).argmax(1)  # noqa: NPY002
    target[target == 2] = 4  # classes 2 and 3 are never seen
    outputs, tried = logistic(x, target, 5, lambda said: 0.0, penalties=(0.05,), iterations=500)
    assert len(tried) == 1
    logits = outputs["test"]
    assert not set(logits.argmax(1).tolist()) & {2, 3}
    again, _ = logistic({**x, "test": x["train"]}, target, 5, lambda said: 0.0, penalties=(0.05,),
                        iterations=500)  # fmt: skip
    seen = [0, 1, 4]
    shares = again["test"][:, seen].double().softmax(1)
    onehot = torch.nn.functional.one_hot(target, 5)[:, seen]
    residual = torch.tensor(x["train"]).double().T @ (shares - onehot) / 300
    weight = torch.linalg.lstsq(
        torch.cat([torch.tensor(x["train"]), torch.ones(300, 1)], 1).double(),
        again["test"][:, seen].double(),
    ).solution[:5]
    assert torch.allclose(residual, -0.05 * weight, atol=2e-3)


def small(metric: str = "top1", classes: int = 3) -> Task:
    lonlat = sampling.uniform(900)
    z = to_xyz(lonlat)[:, 2]
    target = ((z + 1) * 1.5).long().clamp(max=2) if classes else z
    return Task("small", lonlat, target, classes, metric)


def test_majority_and_mean() -> None:
    for task in (small(), small("r2", 0)):
        split = split_of(task, "random")
        parts = parts_of(task, split, split.folds[0])
        said = PROTOCOLS["majority"](parts, None, read_settings(), 0, None)
        train = parts["train"].target
        if task.classes:
            assert set(said.test.argmax(1).tolist()) == {int(train.bincount().argmax())}
        else:
            assert torch.allclose(said.test, train.mean())
        assert said.deterministic


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fmow-class", "fmow_val: label"),
        ("mosaiks-population", "mosaiks_points: population_log1p"),
        ("mosaiks-elevation", "mosaiks_points: elevation_m"),
        ("us-counties-vote", "us_counties: dem_share_2016"),
        ("nabirds-species", "nabirds_ebird_test: species"),
    ],
)
def test_floors_are_those_that_were_measured_before(name: str, line: str, shared: Path) -> None:
    readme = shared / "data" / "README.md"
    if not readme.is_file():
        pytest.skip(f"floors expected in {readme}, which is not there")
    task = load_task(name, shared)
    settings = read_settings(seeds=1)
    for split_name, shown in (("random", "random"), ("blocked", "block")):
        [row] = [
            one for one in readme.read_text().splitlines() if one.startswith(f"| {line} | {shown}")
        ]
        cells = [cell.strip() for cell in row.split("|")[3:6]]
        split = split_of(task, split_name)
        parts = parts_of(task, split, split.folds[0])
        scale = 100 if task.classes else 1
        sizes = f"{len(parts['train'].target)}/{len(parts['test'].target)}"
        assert cells[0] == sizes
        for protocol, cell in (("majority", cells[1]), ("neighbours", cells[2])):
            said = PROTOCOLS[protocol](parts, None, settings, 0, None)
            found = scale * parts["test"].score(said.test)
            wanted = float(cell.split("/")[0])
            digits = len(cell.split("/")[0].strip().partition(".")[2])
            assert found == pytest.approx(wanted, abs=0.6 * 10**-digits), (name, split_name)
        chosen = re.search(r"k=(\d+)([ud])", cells[2])
        assert chosen is not None
        assert (said.chosen["k"], said.chosen["weights"][0]) == (int(chosen[1]), chosen[2])
