"""Kriging and pools against formulas written out; nothing of the test rows gets in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoenc import sampling
from geoenc.bench import Task, parts_of, read_settings, split_of
from geoenc.bench import hybrids as module
from geoenc.bench.entries import Entry
from geoenc.bench.hybrids import HYBRIDS, kriging_weights, pool
from geoenc.bench.parts import Part, Parts
from geoenc.bench.protocols import Said
from geoenc.coordinates import to_xyz


def _parts(classes: int, split: str = "random") -> Parts:
    generator = torch.Generator().manual_seed(0)
    lonlat = sampling.uniform(600, generator=generator)
    height = to_xyz(lonlat) @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    target = (height > 0).long() if classes else height
    metric = "top1" if classes else "r2"
    task = Task("fake", lonlat, target, classes, metric, block_degrees=20.0)
    found = split_of(task, split)
    return parts_of(task, found, found.folds[0])


def _told(parts: Parts, name: str, monkeypatch: pytest.MonkeyPatch) -> Said:
    """A hybrid whose encoder says nothing: chance for classes, 0 for numbers."""

    def silent(parts: Parts, *_: object) -> Said:
        one = parts["train"]
        outputs = [
            torch.zeros(len(parts[n].target), *([one.classes] if one.classes else []))
            for n in ("validation", "test")
        ]
        return Said(*outputs, chosen={"rate": 1.0})

    monkeypatch.setattr(module, "trained", silent)
    entry = Entry("any", {"name": "XYZ"}, pooled=True)
    return HYBRIDS[name](parts, entry, read_settings(quick=True), 0, None)


def test_weights_solve_the_equations_of_ordinary_kriging() -> None:
    places = to_xyz(sampling.uniform(6))
    here = to_xyz(sampling.uniform(1))[0]
    distance = (places - here).norm(dim=1)
    weight = kriging_weights(distance[None], places[None], 0.7, 0.2)[0].numpy()
    gap = np.linalg.norm(places.numpy()[:, None] - places.numpy()[None], axis=-1)
    system = np.ones((7, 7))
    system[:6, :6] = np.exp(-gap / 0.7) + 0.2 * np.eye(6)
    system[6, 6] = 0
    expected = np.linalg.solve(system, [*np.exp(-distance.numpy() / 0.7), 1.0])[:6]
    assert weight == pytest.approx(expected, rel=1e-9)


def test_without_noise_a_neighbour_at_the_place_decides() -> None:
    places = to_xyz(sampling.uniform(5))
    distance = (places - places[2]).norm(dim=1)
    weight = kriging_weights(distance[None], places[None], 1.0, 1e-12)[0]
    assert torch.allclose(weight, torch.eye(5, dtype=torch.float64)[2], atol=1e-6)


def test_pool_has_the_encoder_and_the_neighbours_at_its_ends() -> None:
    scores, votes = torch.randn(4, 3), torch.tensor([[2.0, 1.0, -1.0]]).expand(4, 3)
    assert torch.allclose(pool(scores, votes, 0.0, 0.1, 3).exp(), scores.softmax(-1).double())
    expected = torch.tensor([0.9 * 2 / 3 + 0.1 / 3, 0.9 / 3 + 0.1 / 3, 0.1 / 3])
    assert torch.allclose(pool(scores, votes, 1.0, 0.1, 3).exp(), expected.double())


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("name", list(HYBRIDS))
def test_hybrids_know_a_smooth_answer(
    name: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = _parts(classes)
    said = _told(parts, name, monkeypatch)
    assert parts["test"].score(said.test) > 0.9
    assert parts["validation"].score(said.validation) == pytest.approx(
        max(one["validation"] for one in said.search)
    )


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("name", list(HYBRIDS))
def test_answers_of_test_rows_do_not_matter(
    name: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = _parts(classes)
    before = _told(parts, name, monkeypatch)
    test = parts["test"]
    changed = Parts({**parts, "test": replace(test, target=test.target.flip(0))})
    after = _told(changed, name, monkeypatch)
    assert before.chosen == after.chosen
    assert torch.equal(before.test, after.test)


@pytest.mark.parametrize("split", ["random", "blocked"])
@pytest.mark.parametrize("name", list(HYBRIDS))
def test_no_row_is_its_own_neighbour(
    name: str, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise cannot be told from place: a row that saw its own answer would know it."""
    parts = _parts(0, split)
    noisy = {
        n: replace(p, target=torch.randn(len(p.target), dtype=torch.float64))
        for n, p in parts.items()
    }
    said = _told(Parts(noisy), name, monkeypatch)
    test: Part = noisy["test"]
    assert test.score(said.test) < 0.2
    assert noisy["validation"].score(said.validation) < 0.2
    train = noisy["train"]
    known = replace(
        train,
        lonlat=torch.cat([train.lonlat, test.lonlat]),
        target=torch.cat([train.target, test.target]),
    )
    leaking = _told(Parts({**noisy, "train": known, "validation": test}), name, monkeypatch)
    assert test.score(leaking.test) > 0.5
