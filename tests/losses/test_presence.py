"""PresenceAbsenceLoss against loops over samples and classes."""

import pairs
import pytest
import torch

import geoenc


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 9)])
@pytest.mark.parametrize("positive", [None, 1.0, 7.5])
@pytest.mark.parametrize("weight", [1.0, 0.0, 0.25])
@pytest.mark.parametrize("background", [1, 3, 8])
def test_loss_is_loops(
    shape: tuple[int, int], positive: float | None, weight: float, background: int
) -> None:
    logits = 2 * torch.randn(shape, dtype=torch.float64)
    absent = 2 * torch.randn(background, shape[1], dtype=torch.float64)
    target = torch.randint(shape[1], shape[:1])
    loss = geoenc.PresenceAbsenceLoss(positive, background_weight=weight)
    wanted = pairs.presence_absence(logits, target, absent, positive, weight)
    assert loss(logits, target, absent).item() == pytest.approx(wanted, rel=1e-12)
    if weight == 0:
        assert loss(logits, target).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("classes", "value"), [(62, 2.06820), (8142, 2.07930)])
def test_value_of_the_published_loss(classes: int, value: float) -> None:
    """All logits 0; the published number contains log(p + 1e-5)."""
    zeros = torch.zeros(3, classes)
    loss = geoenc.PresenceAbsenceLoss()(zeros, torch.arange(3), zeros)
    assert loss.item() == pytest.approx(value, abs=1e-4)


def test_confident_logits_stay_finite_and_keep_their_gradient() -> None:
    """log(p + 1e-5) stops at 11.5 and its gradient vanishes."""
    logits = torch.tensor([[-300.0, 400.0, 0.0]], requires_grad=True)
    loss = geoenc.PresenceAbsenceLoss(background_weight=0)(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx((3 * 300 + 400 + 0.6931) / 3, rel=1e-5)
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-1, 1 / 3, 1 / 6], abs=1e-6)


def test_gradient_is_that_of_binary_cross_entropy() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 2, 2, 4])
    truth = torch.nn.functional.one_hot(target, 5).double()
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, truth, weight=1 + 4 * truth
    )
    loss = geoenc.PresenceAbsenceLoss(background_weight=0)(logits, target)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-12)
    ours, theirs = torch.autograd.grad(loss, logits)[0], torch.autograd.grad(wanted, logits)[0]
    assert torch.allclose(ours, theirs, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits(dtype: torch.dtype) -> None:
    """Sums over many classes must be taken wide."""
    logits = torch.randn(64, 2000).to(dtype)
    target = torch.randint(2000, (64,))
    loss = geoenc.PresenceAbsenceLoss()
    wanted = loss(logits.double(), target, logits.double()).item()
    assert loss(logits, target, logits).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"positive_weight": 0.0}, "positive_weight above 0 or None, got 0.0"),
        ({"positive_weight": -3}, "positive_weight above 0 or None, got -3"),
        ({"background_weight": -1.0}, "background_weight of at least 0, got -1.0"),
    ],
)
def test_refuses_settings(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        geoenc.PresenceAbsenceLoss(**arguments)


def test_refuses_shapes_and_missing_background() -> None:
    loss = geoenc.PresenceAbsenceLoss()
    for logits, target in (((4, 3), (3,)), ((4,), (4,)), ((4, 3), (4, 1))):
        with pytest.raises(ValueError, match=r"logits \(B, Q\) and target \(B,\), got") as caught:
            loss(torch.zeros(logits), torch.zeros(target, dtype=torch.long))
        assert f"{logits} and {target}" in str(caught.value)
    with pytest.raises(ValueError, match=r"background_logits at random places, got None.*=0"):
        loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    assert repr(loss) == "PresenceAbsenceLoss(positive_weight=None, background_weight=1.0)"
