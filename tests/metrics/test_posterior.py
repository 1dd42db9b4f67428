"""The product of image and place, and its logarithm, one class at a time."""

import math

import pytest
import torch

from geoenc.metrics import geo_posterior, log_posterior, target_rank, top_k_accuracy


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


def test_geo_posterior_divides_by_the_class_prior() -> None:
    image, place = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.6, 0.3]])
    posterior = geo_posterior(image, place, class_prior=torch.tensor([0.9, 0.1]))
    expected = torch.tensor([[0.5 * 0.6 / 0.9, 0.5 * 0.3 / 0.1]], dtype=torch.float64)
    assert torch.allclose(posterior, expected)
    with pytest.raises(ValueError, match=r"class_prior above 0 of shape \(2,\)"):
        geo_posterior(image, place, class_prior=torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="class_prior above 0"):
        geo_posterior(image, place, class_prior=torch.ones(3))


# --- in log space -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["image", "drop", "error"])
@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_the_logarithm_is_that_of_the_product(weight: float, missing: str) -> None:
    image, place = distributions(12, 5)
    place[1], image[2, 3], place[3, 3] = torch.nan, 0.0, 0.0
    prior = torch.rand(5) + 0.1
    for class_prior in (None, prior):
        options = {"weight": weight, "class_prior": class_prior, "missing": missing}
        got = log_posterior(image, place, **options)
        wanted = geo_posterior(image, place, **options).log()
        assert got.dtype == torch.float64
        assert torch.allclose(got, wanted, equal_nan=True)
    assert log_posterior(image, place, weight=0.0)[2, 3] == -math.inf


def test_small_products_do_not_vanish() -> None:
    image = torch.tensor([[1e-250, 1e-240, 1.0]], dtype=torch.float64)
    place = torch.tensor([[1e-100, 1e-90, 1e-300]], dtype=torch.float64)
    assert geo_posterior(image, place)[0, :2].tolist() == [0.0, 0.0]
    assert log_posterior(image, place).argsort(descending=True).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.5, 1.0])
def test_a_floor_keeps_every_class_that_the_image_sees(floor: float) -> None:
    image, place = distributions(30)
    place[:, 0] = 0.0
    got = log_posterior(image, place, floor=floor, weight=0.5)
    for i in range(30):
        for k in range(4):
            probability = image[i, k].item() * max(place[i, k].item(), floor) ** 0.5
            assert got[i, k].exp().item() == pytest.approx(probability)
    assert got.isfinite().all() == (floor > 0)
    if floor == 1.0:
        assert torch.allclose(got, image.log())


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("combined", [geo_posterior, log_posterior])
def test_refuses(combined) -> None:
    scores = torch.rand(3, 4)
    with pytest.raises(ValueError, match=r"one shape \(N, Q\), got \(3, 4\) and \(3, 5\)"):
        combined(scores, torch.rand(3, 5))
    with pytest.raises(ValueError, match="'image', 'drop' or 'error', got 'keep'"):
        combined(scores, scores, missing="keep")
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match=r"at least 0, got negative numbers or NaN.*softmax"):
            combined(torch.tensor([[0.5, wrong]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"location_probs of at least 0, got negative.*softmax"):
        combined(torch.ones(1, 2), torch.tensor([[-3.0, 1.0]]))
    with pytest.raises(ValueError, match=r"class_prior above 0 of shape \(4,\)"):
        combined(scores, scores, class_prior=torch.zeros(4))


def test_log_posterior_refuses_a_floor_below_0() -> None:
    with pytest.raises(ValueError, match="floor of at least 0, got -1"):
        log_posterior(torch.ones(1, 2), torch.ones(1, 2), floor=-1.0)
