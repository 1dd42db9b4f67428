"""Ranks, accuracies and the product of image and place, counted one row at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc.metrics import (
    class_accuracy,
    class_means,
    macro_accuracy,
    reciprocal_rank,
    target_rank,
    top_k_accuracy,
)


def slow_rank(row: list[float], right: int) -> int:
    """How many classes score at least as high, the right one among them; NaN ranks last."""
    if any(math.isnan(score) for score in row):
        return len(row)
    return sum(score >= row[right] for score in row)


scores_and_targets = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.tuples(
            st.lists(
                st.sampled_from([0.0, 0.1, 0.5, 1.0, -3.0, math.nan]),
                min_size=classes,
                max_size=classes,
            ),
            st.integers(0, classes - 1),
        ),
        min_size=1,
        max_size=8,
    )
)


@given(scores_and_targets, st.integers(1, 7))
def test_rank_and_what_follows_from_it(rows: list[tuple[list[float], int]], k: int) -> None:
    scores = torch.tensor([row for row, _ in rows])
    target = torch.tensor([right for _, right in rows])
    ranks = [slow_rank(*row) for row in rows]
    assert target_rank(scores, target).tolist() == ranks
    assert reciprocal_rank(scores, target).tolist() == pytest.approx([1 / r for r in ranks])
    known = [not any(math.isnan(score) for score in row) for row, _ in rows]
    hits = [rank <= k and whole for rank, whole in zip(ranks, known, strict=True)]
    assert top_k_accuracy(scores, target, k).item() == pytest.approx(sum(hits) / len(hits))


def test_constant_scores_are_no_success() -> None:
    scores, target = torch.ones(10, 5), torch.arange(10) % 5
    assert top_k_accuracy(scores, target).item() == 0
    assert top_k_accuracy(scores, target, k=5).item() == 1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_accuracy_agrees_with_sorting(k: int) -> None:
    scores, target = torch.randn(200, 8), torch.randint(8, (200,))
    best = scores.topk(k).indices
    wanted = (best == target[:, None]).any(1).double().mean()
    got = top_k_accuracy(scores, target, k)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(wanted.item())


def test_ranks_of_any_leading_shape() -> None:
    assert target_rank(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3)
    assert target_rank(torch.tensor([0.1, 0.9]), torch.tensor(0)).item() == 2


def test_monotone_functions_change_nothing() -> None:
    scores, target = torch.randn(50, 6).double(), torch.randint(6, (50,))
    assert target_rank(scores, target).equal(target_rank(scores.sigmoid() * 9 - 4, target))


# --- what is refused ----------------------------------------------------------------------------


def test_refuses() -> None:
    scores = torch.rand(3, 4)
    for shape in ((2,), (3, 1), ()):
        with pytest.raises(
            ValueError, match=r"scores \(\.\.\., Q\) and target \(\.\.\.\), got"
        ) as e:
            target_rank(scores, torch.zeros(shape, dtype=torch.long))
        assert f"(3, 4) and {shape}" in str(e.value)
    with pytest.raises(ValueError, match="k of at least 1, got 0"):
        top_k_accuracy(scores, torch.zeros(3, dtype=torch.long), k=0)


# --- class by class -----------------------------------------------------------------------------


@given(scores_and_targets, st.integers(1, 7))
def test_accuracy_of_each_class_and_their_mean(rows: list[tuple[list[float], int]], k: int) -> None:
    scores = torch.tensor([row for row, _ in rows])
    target = torch.tensor([right for _, right in rows])
    wanted = []
    for one in range(scores.shape[1]):
        of_class = [row for row in rows if row[1] == one]
        hits = [slow_rank(*row) <= k and not any(map(math.isnan, row[0])) for row in of_class]
        wanted.append(sum(hits) / len(hits) if hits else math.nan)
    assert class_accuracy(scores, target, k).tolist() == pytest.approx(wanted, nan_ok=True)
    known = [value for value in wanted if not math.isnan(value)]
    assert macro_accuracy(scores, target, k).item() == pytest.approx(sum(known) / len(known))


def test_macro_accuracy_weighs_rare_classes_as_much() -> None:
    """99 of 100 samples are of one class, and that class is always guessed."""
    target = torch.tensor([0] * 99 + [1])
    scores = torch.tensor([[1.0, 0.0, 0.0]]).expand(100, -1)
    assert top_k_accuracy(scores, target).item() == pytest.approx(0.99)
    assert macro_accuracy(scores, target).item() == 0.5
    assert class_accuracy(scores, target)[2].isnan()


def test_class_means_of_reciprocal_ranks() -> None:
    scores, target = torch.randn(50, 4), torch.randint(3, (50,))
    ranks = reciprocal_rank(scores, target)
    got = class_means(ranks, target, 4)
    for one in range(3):
        assert got[one].item() == pytest.approx(ranks[target == one].mean().item())
    assert got[3].isnan()
