"""Ranks, accuracies and the product of image and place, counted one row at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc.metrics import geo_posterior, reciprocal_rank, target_rank, top_k_accuracy


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


# --- the product --------------------------------------------------------------------------------


def distributions(rows: int = 5, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.rand(rows, classes, dtype=torch.float64).softmax(-1)
    return image, torch.rand(rows, classes, dtype=torch.float64)


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0, 2.0])
def test_product(weight: float) -> None:
    image, place = distributions()
    got = geo_posterior(image, place, weight=weight)
    for i in range(5):
        for k in range(4):
            wanted = image[i, k].item() * place[i, k].item() ** weight
            assert got[i, k].item() == pytest.approx(wanted)
    assert geo_posterior(image.float(), place.float()).dtype == torch.float64


def test_missing_places_keep_the_image_are_dropped_or_are_wrong() -> None:
    image, place = distributions()
    place[1], place[3, 2] = torch.nan, torch.nan
    kept = geo_posterior(image, place)
    assert kept[[1, 3]].equal(image[[1, 3]])
    assert kept[[0, 2, 4]].equal((image * place)[[0, 2, 4]])
    dropped = geo_posterior(image, place, missing="drop")
    assert dropped.equal(kept[[0, 2, 4]])
    wrong = geo_posterior(image, place, missing="error")
    assert wrong.isnan().any(1).tolist() == [False, True, False, True, False]


def test_published_batch_evaluation_counts_missing_places_as_wrong() -> None:
    """A perfect classifier with 10 % missing places scores 90 % there, and 100 % here."""
    target = torch.arange(10)
    image = place = torch.eye(10, dtype=torch.float64) * 0.9 + 0.01
    place = place.clone()
    place[4] = torch.nan
    for missing, accuracy in (("error", 0.9), ("image", 1.0)):
        scores = geo_posterior(image, place, missing=missing)
        assert top_k_accuracy(scores, target).item() == pytest.approx(accuracy)


def test_scale_of_either_factor_does_not_matter() -> None:
    image, place = distributions(20)
    target = torch.randint(4, (20,))
    ranks = target_rank(geo_posterior(image, place), target)
    assert ranks.equal(target_rank(geo_posterior(7 * image, 0.01 * place), target))


def test_arguments_are_left_alone() -> None:
    image, place = distributions()
    place[1] = torch.nan
    before = image.clone(), place.clone()
    for missing in ("image", "drop", "error"):
        geo_posterior(image, place, missing=missing).zero_()
    assert image.equal(before[0])
    assert place.nan_to_num(nan=9).equal(before[1].nan_to_num(nan=9))


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
    with pytest.raises(ValueError, match=r"one shape \(N, Q\), got \(3, 4\) and \(3, 5\)"):
        geo_posterior(scores, torch.rand(3, 5))
    with pytest.raises(ValueError, match="'image', 'drop' or 'error', got 'keep'"):
        geo_posterior(scores, scores, missing="keep")
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match=r"at least 0, got negative numbers or NaN.*softmax"):
            geo_posterior(torch.tensor([[0.5, wrong]]), torch.ones(1, 2))


def test_geo_posterior_divides_by_the_class_prior() -> None:
    image, place = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.6, 0.3]])
    posterior = geo_posterior(image, place, class_prior=torch.tensor([0.9, 0.1]))
    expected = torch.tensor([[0.5 * 0.6 / 0.9, 0.5 * 0.3 / 0.1]], dtype=torch.float64)
    assert torch.allclose(posterior, expected)
    with pytest.raises(ValueError, match=r"class_prior above 0 of shape \(2,\)"):
        geo_posterior(image, place, class_prior=torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="class_prior above 0"):
        geo_posterior(image, place, class_prior=torch.ones(3))
