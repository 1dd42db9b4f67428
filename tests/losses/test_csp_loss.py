"""CSPLoss against loops over pairs, closed forms, and its limits."""

import math
from typing import Any

import pairs
import pytest
import torch
from torch import Tensor

import geoenc
from geoenc.losses import multiclass, nce, sampled


def embeddings(batch: int, negatives: int = 2, width: int = 5) -> tuple[Tensor, ...]:
    location, image, again = torch.randn(3, batch, width, dtype=torch.float64).unbind()
    return location, image, torch.randn(batch, negatives, width, dtype=torch.float64), again


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("negatives", [0, 1, 3])
@pytest.mark.parametrize("temperatures", [(1.0, 1.0, 1.0), (20.0, 0.5, 0.1), (0.05, 2.0, 1.0)])
def test_terms_are_loops_over_pairs(
    criterion: str, batch: int, negatives: int, temperatures: tuple[float, float, float]
) -> None:
    location, image, random, again = embeddings(batch, negatives)
    first, second, third = temperatures
    loss = geoenc.CSPLoss(
        criterion,
        location_weight=0.7,
        dropout_weight=0.3,
        temperature=first,
        location_temperature=second,
        dropout_temperature=third,
    )
    wanted = {
        "in_batch": pairs.in_batch(location, image, criterion, first),
        "location": pairs.random_location(image, location, random, criterion, second),
        "dropout": pairs.in_batch(location, again, criterion, third),
    }
    terms = loss.terms(location, image, random, again)
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-9, abs=1e-12)
    total = wanted["in_batch"] + 0.7 * wanted["location"] + 0.3 * wanted["dropout"]
    assert loss(location, image, random, again).item() == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_symmetric_averages_the_two_directions_of_the_first_term(criterion: str) -> None:
    location, image, random, again = embeddings(4)
    terms = geoenc.CSPLoss(criterion, symmetric=True, temperature=0.3).terms(
        location, image, random, again
    )
    there = pairs.in_batch(location, image, criterion, 0.3)
    back = pairs.in_batch(image, location, criterion, 0.3)
    assert terms["in_batch"].item() == pytest.approx((there + back) / 2, rel=1e-9)
    one_way = geoenc.CSPLoss(criterion, temperature=0.3).terms(location, image, random, again)
    assert terms["location"].equal(one_way["location"])
    assert terms["dropout"].equal(one_way["dropout"])


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ((0, 0), {"in_batch"}),
        ((1, 0), {"in_batch", "location"}),
        ((0, 1), {"in_batch", "dropout"}),
        ((1, 1), {"in_batch", "location", "dropout"}),
    ],
)
def test_ablations_are_weights_and_need_no_unused_argument(
    weights: tuple[float, float], names: set[str]
) -> None:
    location, image, random, again = embeddings(4)
    loss = geoenc.CSPLoss(location_weight=weights[0], dropout_weight=weights[1])
    given: dict[str, Any] = {}
    if weights[0]:
        given["sampled"] = random
    if weights[1]:
        given["dropout"] = again
    terms = loss.terms(location, image, **given)
    assert terms.keys() == names
    assert loss(location, image, **given).item() == pytest.approx(
        sum(value.item() for value in terms.values())
    )


# --- closed forms ------------------------------------------------------------------------------

EYE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "value"), [(1.0, 0.743668), (20.0, 1.349031)])
def test_multiclass_in_batch_of_the_identity(temperature: float, value: float) -> None:
    loss = geoenc.CSPLoss(location_weight=0, dropout_weight=0, temperature=temperature)
    assert loss(EYE, EYE).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("negatives", "value"), [(1, 0.313262), (3, 0.743668)])
def test_multiclass_random_location_of_orthogonal_places(negatives: int, value: float) -> None:
    others = EYE.roll(1, 0)[:, None].expand(-1, negatives, -1)
    terms = geoenc.CSPLoss(dropout_weight=0).terms(EYE, EYE, others)
    assert terms["location"].item() == pytest.approx(value, abs=1e-6)


def test_nce_closed_forms() -> None:
    """The published values contain log(p + 1e-5); ours do not."""
    in_batch = geoenc.CSPLoss("nce", location_weight=0, dropout_weight=0)(EYE, EYE).item()
    assert in_batch == pytest.approx(1.006375, abs=5e-5)
    assert in_batch == pytest.approx(math.log(1 + math.exp(-1)) + math.log(2), abs=1e-12)
    for others, published in ((EYE.roll(1, 0), 0.693127), (-EYE, 0.313248)):
        terms = geoenc.CSPLoss("nce", dropout_weight=0).terms(EYE, EYE, others[:, None])
        assert terms["location"].item() == pytest.approx(published, abs=5e-5)


def test_floors_of_the_multiclass_and_nce_losses() -> None:
    """N = 1024 at temperature 20: 6.8316 if perfect, 6.9315 at chance; 4.9377 at temperature 1."""
    for temperature, perfect in ((20.0, 6.8316), (1.0, 4.9377)):
        similar = torch.full((1024, 1024), -1.0).fill_diagonal_(1.0)
        value = multiclass(similar, torch.arange(1024), temperature).item()
        assert value == pytest.approx(perfect, abs=1e-4)
    chance = multiclass(torch.zeros(1024, 1024), torch.arange(1024), 20.0).item()
    assert chance == pytest.approx(6.9315, abs=1e-4)
    perfect = nce(torch.full((64, 64), -1.0).fill_diagonal_(1.0), torch.arange(64)).item()
    assert perfect == pytest.approx(0.62650, abs=5e-5)


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_one_pair_is_finite(criterion: str) -> None:
    """The published NCE code divides by zero here."""
    location, image, random, again = (t.requires_grad_() for t in embeddings(1))
    loss = geoenc.CSPLoss(criterion)(location, image, random, again)
    loss.backward()
    assert loss.isfinite()
    for tensor in (location, image, random, again):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_no_random_places(criterion: str) -> None:
    location, image, random, _ = embeddings(3, negatives=0)
    terms = geoenc.CSPLoss(criterion, dropout_weight=0).terms(location, image, random)
    assert terms["location"].isfinite()
    assert terms["location"].item() == 0


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_zero_embeddings_are_harmless(criterion: str, which: int) -> None:
    """The published code divides by their length. F.normalize gives gradients of 1e12."""
    tensors = list(embeddings(3))
    tensors[which][0] = 0
    tensors = [tensor.requires_grad_() for tensor in tensors]
    loss = geoenc.CSPLoss(criterion, temperature=0.1)(*tensors)
    loss.backward()
    assert loss.isfinite()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.abs().max() < 100


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_confident_mistakes_keep_their_gradient(criterion: str) -> None:
    """log(p + 1e-5) stops at 11.5; here the loss grows and so does what it teaches."""
    wrong = torch.tensor([[-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([[1.0, 0.1]], dtype=torch.float64)
    loss = geoenc.CSPLoss(criterion, dropout_weight=0, temperature=0.01, location_temperature=0.01)(
        wrong, right, right[:, None]
    )
    loss.backward()
    assert loss.item() > 50
    assert wrong.grad is not None
    assert wrong.grad.norm() > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_narrow_embeddings_give_a_wide_loss(criterion: str, dtype: torch.dtype) -> None:
    location, image, random, again = embeddings(300, width=16)
    narrow = [tensor.to(dtype) for tensor in (location, image, random, again)]
    loss = geoenc.CSPLoss(criterion, temperature=0.1)
    wanted = loss(*(tensor.double() for tensor in narrow)).item()
    assert loss(*narrow).dtype == torch.float32
    assert loss(*narrow).item() == pytest.approx(wanted, rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(*narrow).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_a_step_against_the_gradient_helps(criterion: str) -> None:
    tensors = [tensor.requires_grad_() for tensor in embeddings(6)]
    loss = geoenc.CSPLoss(criterion)
    before = loss(*tensors)
    before.backward()
    after = loss(*(tensor - 0.05 * tensor.grad for tensor in tensors))
    assert after < before


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"criterion": "mse"}, "one of multiclass, nce, got 'mse'"),
        ({"temperature": 0.0}, "temperature above 0, got 0.0"),
        ({"location_temperature": -1}, "location_temperature above 0, got -1"),
        ({"dropout_temperature": math.nan}, "dropout_temperature above 0, got nan"),
        ({"location_weight": -1}, "location_weight of at least 0, got -1"),
        ({"dropout_weight": -0.1}, "dropout_weight of at least 0, got -0.1"),
    ],
)
def test_refuses_settings(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        geoenc.CSPLoss(**arguments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sampled": None}, ["sampled embeddings, got None", "location_weight=0"]),
        ({"dropout": None}, ["dropout embeddings, got None", "dropout_weight=0"]),
        ({"image": torch.zeros(3, 5)}, ["(B, D)", "got (4, 5) and (3, 5)"]),
        ({"image": torch.zeros(4, 6)}, ["(B, D)", "got (4, 5) and (4, 6)"]),
        ({"dropout": torch.zeros(4)}, ["(B, D)", "got (4, 5) and (4,)"]),
        ({"sampled": torch.zeros(4, 5)}, ["negative (B, C, D)", "got (4, 5) and (4, 5)"]),
        ({"sampled": torch.zeros(3, 2, 5)}, ["negative (B, C, D)", "and (3, 2, 5)"]),
    ],
)
def test_refuses_shapes(given: dict[str, Tensor | None], words: list[str]) -> None:
    names = ("location", "image", "sampled", "dropout")
    arguments = {**dict(zip(names, embeddings(4), strict=True)), **given}
    with pytest.raises(ValueError, match="expected ") as caught:
        geoenc.CSPLoss()(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_sampled_without_a_positive_has_only_negatives() -> None:
    _, image, random, _ = embeddings(4, negatives=3)
    logits, target = sampled(image, None, random)
    assert logits.shape == (4, 3)
    assert target.tolist() == [0, 0, 0, 0]
    for row in range(4):
        for column in range(3):
            wanted = pairs.cosine(image[row].tolist(), random[row, column].tolist())
            assert logits[row, column].item() == pytest.approx(wanted)


def test_printing_names_the_settings() -> None:
    shown = repr(geoenc.CSPLoss("nce", location_weight=0.5, gather=True))
    assert "criterion='nce', location_weight=0.5" in shown
    assert shown.endswith("symmetric=False, gather=True)")


def test_sharp_temperatures_do_not_overflow() -> None:
    location, image, random, again = (t.float() for t in embeddings(20))
    loss = geoenc.CSPLoss(temperature=1e-3, location_temperature=1e-3, dropout_temperature=1e-3)
    assert loss(location.requires_grad_(), image, random, again).isfinite()
    loss(location, image, random, again).backward()
    assert location.grad is not None
    assert location.grad.isfinite().all()
