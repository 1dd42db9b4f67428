"""Paired tests over blocks: against tests that are known, and against how often they are wrong."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from geoenc.bench.paired import auc_parts, block_tests, holm
from geoenc.bench.ranking import diagram, rank
from geoenc.compare import bootstrap, mcnemar


def test_with_a_block_for_each_sample_it_is_the_exact_test_of_mcnemar():
    differences = np.array([1.0] * 9 + [-1.0] * 2 + [0.0])  # few enough for all signs
    found = block_tests(differences, np.arange(12))[0]
    assert found.p == pytest.approx(mcnemar(2, 9)[0])
    assert found.difference == pytest.approx(7 / 12)
    assert found.blocks == 12
    many = np.array([1.0] * 30 + [-1.0] * 18)  # too many: signs are drawn
    p, exact = block_tests(many, np.arange(48))[0].p, mcnemar(18, 30)[0]
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9999))


def test_the_interval_of_single_samples_is_that_of_the_bootstrap_of_samples():
    values = torch.from_numpy(np.random.default_rng(0).normal(0.2, 1, 400))
    found = block_tests(values.numpy(), np.arange(400), resamples=4000)[0]
    low, high = bootstrap(values, resamples=4000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)


@pytest.mark.parametrize("rows", [1, 3])
def test_all_signs_are_those_of_a_loop(rows):
    rng = np.random.default_rng(1)
    differences, block = rng.normal(size=(rows, 40)), rng.integers(5, 12, 40)
    for row, found in zip(differences, block_tests(differences, block), strict=True):
        sums = [row[block == one].sum() for one in np.unique(block)]
        flipped = [
            abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=len(sums))
        ]
        assert found.p == pytest.approx(np.mean(np.array(flipped) >= abs(sum(sums)) - 1e-9))
        assert found.difference == pytest.approx(row.mean())
        assert found.low < found.difference < found.high


def test_neighbours_that_err_together_are_not_taken_for_many_samples():
    """Under the null, 5 % of tests find something: with blocks, and not without."""
    rng = np.random.default_rng(2)
    block = np.repeat(np.arange(20), 30)
    null = rng.normal(size=(400, 20))[:, block] + 0.3 * rng.normal(size=(400, 600))
    by_block = np.mean([t.p < 0.05 for t in block_tests(null, block, flips=999, resamples=10)])
    alone = [t.p < 0.05 for t in block_tests(null, np.arange(600), flips=999, resamples=10)]
    assert 0.02 < by_block < 0.09
    assert np.mean(alone) > 0.5


def test_what_cannot_be_told():
    one = block_tests(np.ones((1, 5)), np.zeros(5))[0]
    assert one.p == 1
    assert math.isnan(one.low)
    same = block_tests(np.zeros((1, 500)), np.arange(500))[0]
    assert (same.p, same.difference) == (1.0, 0.0)
    with pytest.raises(ValueError, match="number the block of each row"):
        block_tests(np.ones((2, 5)), np.zeros(4))


def test_the_area_is_that_of_pairs_and_its_variance_that_of_delong():
    rng = np.random.default_rng(3)
    target = (rng.random(80) < 0.3).astype(int)
    score = (target + rng.normal(size=80)).round(1)  # with ties
    pairs = np.sign(score[target == 1][:, None] - score[target == 0]) / 2 + 0.5
    parts = auc_parts(score, target)
    assert parts.mean() == pytest.approx(pairs.mean())
    delong = pairs.mean(1).var() / target.sum() + pairs.mean(0).var() / (1 - target).sum()
    assert parts.var() / len(parts) == pytest.approx(delong)
    with pytest.raises(ValueError, match="both classes"):
        auc_parts(score, np.ones(80))


def test_holm_is_that_of_a_loop():
    p = np.array([0.04, np.nan, 0.001, 0.02, 0.5])
    adjusted, least = {}, 0.0
    for step, index in enumerate([2, 3, 0, 4]):
        least = max(least, min(1.0, (4 - step) * p[index]))
        adjusted[index] = least
    found = holm(p)
    assert math.isnan(found[1])
    assert {i: found[i] for i in adjusted} == pytest.approx(adjusted)


def test_ranks_are_those_of_scipy_and_bars_join_what_does_not_differ():
    rng = np.random.default_rng(4)
    base = rng.normal(size=(12, 1))
    scores = base + np.array([3.0, 0.0, 0.02, 3.02]) + 0.1 * rng.normal(size=(12, 4))
    names = ["a", "b", "c", "d"]
    found = rank(scores, names)
    ranks = stats.rankdata(-scores, axis=1).mean(0)
    assert dict(zip(found.names, found.mean_ranks, strict=True)) == pytest.approx(
        dict(zip(names, ranks, strict=True))
    )
    assert list(found.mean_ranks) == sorted(found.mean_ranks)
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert {frozenset(found.names[a : b + 1]) for a, b in found.groups} == {
        frozenset("ad"),
        frozenset("bc"),
    }
    far = found.pairs[found.names[0], found.names[-1]]
    first, last = (scores[:, names.index(found.names[i])] for i in (0, -1))
    assert far == pytest.approx(6 * stats.wilcoxon(first, last).pvalue, rel=1)  # Holm: up to 6
    drawn = diagram(found)
    assert drawn.count('class="group"') == 2
    assert drawn.count('class="lead"') == 4


def test_ranks_need_every_score():
    with pytest.raises(ValueError, match="leave out tasks that lack a row"):
        rank(np.array([[1.0, np.nan]]), ["a", "b"])
    equal = rank(np.ones((3, 3)), ["a", "b", "c"])
    assert equal.mean_ranks == (2.0, 2.0, 2.0)
    assert math.isnan(equal.friedman_p)
    assert equal.groups == ((0, 2),)
