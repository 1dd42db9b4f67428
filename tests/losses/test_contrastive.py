"""InfoNCELoss and its parts against loops over pairs."""

import math

import pairs
import pytest
import torch

import geoenc
from geoenc.losses import in_batch, multiclass, nce


@pytest.mark.parametrize("batch", [1, 2, 6])
@pytest.mark.parametrize("temperature", [0.07, 1.0, 5.0])
@pytest.mark.parametrize("queue", [None, 0, 3])
@pytest.mark.parametrize("symmetric", [True, False])
def test_loss_is_loops_over_pairs(
    batch: int, temperature: float, queue: int | None, symmetric: bool
) -> None:
    anchor, candidate = torch.randn(2, batch, 4, dtype=torch.float64).unbind()
    extra = None if queue is None else torch.randn(queue, 4, dtype=torch.float64)
    loss = geoenc.InfoNCELoss(temperature, symmetric=symmetric)
    a, c = pairs.vectors(anchor), pairs.vectors(candidate)
    more = [] if extra is None else pairs.vectors(extra)
    right = list(range(batch))
    wanted = pairs.softmax_loss(a, [c + more] * batch, right, temperature)
    if symmetric:
        wanted = (wanted + pairs.softmax_loss(c, [a] * batch, right, temperature)) / 2
    assert loss(anchor, candidate, extra).item() == pytest.approx(wanted, rel=2e-7)


def test_temperature_is_fixed_or_learnt() -> None:
    fixed, learnt = geoenc.InfoNCELoss(0.5), geoenc.InfoNCELoss(0.5, learnable=True)
    assert list(fixed.parameters()) == []
    assert [name for name, _ in learnt.named_parameters()] == ["log_temperature"]
    assert fixed.temperature.item() == pytest.approx(0.5)
    anchor = torch.randn(5, 3)
    value = learnt(anchor, anchor + 0.1 * torch.randn(5, 3))
    value.backward()
    assert learnt.log_temperature.grad is not None
    assert learnt.log_temperature.grad.item() != 0
    assert "temperature=0.5, symmetric=True, learnable=True" in repr(learnt)


def test_temperature_travels_with_the_state() -> None:
    first, second = geoenc.InfoNCELoss(0.03, learnable=True), geoenc.InfoNCELoss(learnable=True)
    second.load_state_dict(first.state_dict())
    assert second.temperature.item() == pytest.approx(0.03)


def test_perfect_pairs_reach_the_floor() -> None:
    loss = geoenc.InfoNCELoss(0.01)
    assert loss(torch.eye(8), 3 * torch.eye(8)).item() < 1e-6
    assert geoenc.InfoNCELoss(1.0)(torch.ones(8, 2), torch.ones(8, 2)).item() == pytest.approx(
        math.log(8), abs=1e-6
    )


# --- the intermediate: logits and target --------------------------------------------------------


@pytest.mark.parametrize("queue", [None, 2])
def test_in_batch_is_cosines(queue: int | None) -> None:
    anchor, candidate = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    extra = None if queue is None else torch.randn(queue, 4, dtype=torch.float64)
    logits, target = in_batch(anchor, candidate, extra)
    columns = pairs.vectors(candidate) + ([] if extra is None else pairs.vectors(extra))
    assert logits.shape == (3, len(columns))
    assert target.tolist() == [0, 1, 2]
    for row, question in enumerate(pairs.vectors(anchor)):
        for column, answer in enumerate(columns):
            assert logits[row, column].item() == pytest.approx(pairs.cosine(question, answer))


@pytest.mark.parametrize("shape", [(3, 7), (1, 1), (4, 2)])
@pytest.mark.parametrize("temperature", [0.2, 3.0])
@pytest.mark.parametrize("none", [True, False])
def test_criteria_on_any_logits(shape: tuple[int, int], temperature: float, none: bool) -> None:
    """Columns need not be similarities, targets need not be a diagonal."""
    logits = 3 * torch.randn(shape, dtype=torch.float64)
    target = torch.randint(shape[1], shape[:1])
    softmax, positive, negative = [], [], []
    for row, right in zip(logits.tolist(), target.tolist(), strict=True):
        scores = [math.exp(value / temperature) for value in row]
        softmax.append(-math.log(scores[right] / sum(scores)))
        for column, value in enumerate(row):
            p = pairs.sigmoid(value / temperature)
            if column == right and not none:
                positive.append(-math.log(p))
            else:
                negative.append(-math.log(1 - p))
    if none:
        assert nce(logits, None, temperature).item() == pytest.approx(pairs.mean(negative))
        return
    assert multiclass(logits, target, temperature).item() == pytest.approx(pairs.mean(softmax))
    wanted = pairs.mean(positive) + pairs.mean(negative)
    assert nce(logits, target, temperature).item() == pytest.approx(wanted)


@pytest.mark.parametrize("temperature", [0.0, -0.07, math.nan])
def test_refuses_temperatures(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature above 0, got {temperature}"):
        geoenc.InfoNCELoss(temperature)


@pytest.mark.parametrize(
    ("candidate", "extra", "words"),
    [
        ((3, 4), None, ["anchor and candidate", "got (2, 4) and (3, 4)"]),
        ((2, 5), None, ["anchor and candidate", "got (2, 4) and (2, 5)"]),
        ((2, 4), (3, 5), ["extra of shape (Q, 4), got (3, 5)"]),
        ((2, 4), (4,), ["extra of shape (Q, 4), got (4,)"]),
    ],
)
def test_refuses_shapes(
    candidate: tuple[int, ...], extra: tuple[int, ...] | None, words: list[str]
) -> None:
    more = None if extra is None else torch.zeros(extra)
    with pytest.raises(ValueError, match="expected ") as caught:
        geoenc.InfoNCELoss()(torch.zeros(2, 4), torch.zeros(candidate), more)
    for word in words:
        assert word in str(caught.value)
