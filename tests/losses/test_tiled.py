"""Losses that never hold all logits against plain torch, which does: values, gradients, memory."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc.losses import in_batch, multiclass, nce, rowwise, sampled, tiled
from geoenc.losses.criteria import unit

CHUNKS = [(256, 2**19, 2**24), (1, 0, 0), (3, 0, 0), (3, 0, 2**24), (4, 7, 0)]
TOLERANCE = {"multiclass": 1e-11, "nce": 1e-9}  # softplus rounds to its argument beyond 20
TEMPERATURES = [0.01, 1 / 64, 0.07, 1.0, 20.0]


@pytest.fixture(params=CHUNKS, ids=str)
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, few, kept = request.param
    monkeypatch.setattr(tiled, "_ROWS", {"cpu": rows})
    monkeypatch.setattr(tiled, "_FEW_LOGITS", few)
    monkeypatch.setattr(tiled, "_KEPT_LOGITS", kept)
    monkeypatch.setattr(rowwise, "_NUMBERS_AT_ONCE", few)


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def cosines(anchor: Tensor, columns: Tensor) -> Tensor:
    return unit(anchor) @ unit(columns).mT


def plain_symmetric(anchor: Tensor, columns: Tensor, temperature: float | Tensor) -> Tensor:
    own, logits = torch.arange(len(anchor)), cosines(anchor, columns)
    reverse = multiclass(logits[:, : len(anchor)].mT, own, temperature)
    return (multiclass(logits, own, temperature) + reverse) / 2


def expect_same(ours: Tensor, theirs: Tensor, inputs: list[Tensor], tolerance: float) -> None:
    assert ours.item() == pytest.approx(theirs.item(), rel=tolerance, abs=tolerance)
    wanted = torch.autograd.grad(3 * theirs, inputs)
    for got, gradient in zip(torch.autograd.grad(3 * ours, inputs), wanted, strict=True):
        assert got.shape == gradient.shape
        size = max([1.0, *gradient.abs().flatten().tolist()])
        assert torch.allclose(got, gradient, rtol=0, atol=tolerance * size)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("name", ["multiclass", "nce"])
def test_one_way(name: str, first: int, temperature: float) -> None:
    anchor, columns = inputs = leaves((5, 4), (8, 4))
    inputs = [*inputs, torch.tensor(temperature, dtype=torch.float64, requires_grad=True)]
    ours = {"multiclass": tiled.multiclass_in_batch, "nce": tiled.nce_in_batch}[name]
    theirs = {"multiclass": multiclass, "nce": nce}[name]
    target = first + torch.arange(5)
    wanted = theirs(cosines(anchor, columns), target, inputs[2])
    expect_same(ours(anchor, columns, first, inputs[2]), wanted, inputs, TOLERANCE[name])


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("extra", [0, 2])
def test_symmetric(extra: int, temperature: float) -> None:
    anchor, columns = inputs = leaves((7, 4), (7 + extra, 4))
    inputs = [*inputs, torch.tensor(temperature, dtype=torch.float64, requires_grad=True)]
    ours = tiled.symmetric_in_batch(anchor, columns, inputs[2])
    expect_same(ours, plain_symmetric(anchor, columns, inputs[2]), inputs, 1e-11)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_sampled(negatives: int, temperature: float) -> None:
    anchor, positive, negative = inputs = leaves((5, 4), (5, 4), (5, negatives, 4))
    ours = rowwise.multiclass_of_sampled(anchor, positive, negative, temperature)
    expect_same(ours, multiclass(*sampled(anchor, positive, negative), temperature), inputs, 1e-11)
    ours = rowwise.nce_of_sampled(anchor, negative, temperature)
    logits, _ = sampled(anchor, None, negative)
    wanted = nce(logits, None, temperature)
    expect_same(ours, wanted, [anchor, negative], TOLERANCE["nce"])


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("weight", [1.0, 62.0])
def test_presence_absence(weight: float) -> None:
    (logits,) = inputs = leaves((7, 5))
    target = torch.randint(5, (7,))
    truth = torch.nn.functional.one_hot(target, 5)
    absent = torch.nn.functional.softplus(logits)
    plain = torch.where(truth > 0, weight * torch.nn.functional.softplus(-logits), absent)
    expect_same(rowwise.presence_absence(logits, target, weight), plain.sum(), inputs, 1e-12)
    absent = torch.nn.functional.softplus(logits)
    expect_same(rowwise.presence_absence(logits, None, weight), absent.sum(), inputs, 1e-12)


def plain_csp(loss: geoenc.CSPLoss, views: list[Tensor]) -> Tensor:
    location, image, random, again = views
    criterion = {"multiclass": multiclass, "nce": nce}[loss.criterion]
    total = criterion(*in_batch(location, image), loss.temperature)
    if loss.symmetric:
        total = (total + criterion(*in_batch(image, location), loss.temperature)) / 2
    logits, target = sampled(image, None if loss.criterion == "nce" else location, random)
    right = None if loss.criterion == "nce" else target
    total = total + loss.location_weight * criterion(logits, right, loss.location_temperature)
    dropout = criterion(*in_batch(location, again), loss.dropout_temperature)
    return total + loss.dropout_weight * dropout


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("temperature", [0.01, 1 / 64, 0.1, 1.0])
def test_float32_agrees_with_float64_autograd(
    criterion: str, symmetric: bool, temperature: float
) -> None:
    """All terms, several chunks, by the largest entry: what float32 autograd itself is off."""
    loss = geoenc.CSPLoss(
        criterion,
        temperature=temperature,
        location_temperature=temperature,
        dropout_temperature=temperature,
        symmetric=symmetric,
        location_weight=0.7,
    )
    shapes = [(600, 32), (600, 32), (600, 2, 32), (600, 32)]
    views = leaves(*shapes, dtype=torch.float32)
    wide = [view.detach().double().requires_grad_() for view in views]
    wanted, value = plain_csp(loss, wide), loss(*views)
    tolerance = 3e-6 * max(1.0, 0.03 / temperature)
    assert value.item() == pytest.approx(wanted.item(), rel=tolerance)
    truth = torch.autograd.grad(wanted, wide)
    for got, gradient in zip(torch.autograd.grad(value, views), truth, strict=True):
        assert (got - gradient).abs().max() < tolerance * gradient.abs().max()


@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_opposite_pairs_do_not_underflow(temperature: float) -> None:
    """Where the right column is the least likely of all, and where it is the only one."""
    for batch in (1, 3):
        anchor = torch.randn(batch, 4, requires_grad=True)
        loss = geoenc.InfoNCELoss(temperature)(anchor, -anchor.detach())
        (gradient,) = torch.autograd.grad(loss, anchor)
        assert loss.isfinite()
        assert gradient.isfinite().all()
    single = geoenc.InfoNCELoss(temperature)(torch.ones(1, 4), -torch.ones(1, 4))
    assert single.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        geoenc.InfoNCELoss(),
        geoenc.InfoNCELoss(symmetric=False),
        geoenc.InfoNCELoss(0.01),
        geoenc.CSPLoss("nce", location_weight=0, dropout_weight=0),
    ],
    ids=["symmetric", "one-way", "sharp", "nce"],
)
def test_second_derivatives_are_refused(loss: torch.nn.Module) -> None:
    """Rather than being zero, as a gradient penalty would find them."""
    anchor, candidate = leaves((5, 4), (5, 4))
    (first,) = torch.autograd.grad(loss(anchor, candidate), anchor, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate this loss once, got a second"):
        first.square().sum().backward()


def test_second_derivatives_of_the_other_terms_are_refused() -> None:
    anchor, positive, negative, logits = leaves((5, 4), (5, 4), (5, 2, 4), (5, 4))
    for value, leaf in (
        (rowwise.multiclass_of_sampled(anchor, positive, negative, 1.0), negative),
        (rowwise.presence_absence(logits, torch.arange(4).repeat(2)[:5], 2.0), logits),
    ):
        (first,) = torch.autograd.grad(value, leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="got a second derivative; make it from"):
            first.square().sum().backward()


def test_function_transforms_take_the_gradient() -> None:
    anchor, candidate = leaves((5, 4), (5, 4))
    loss = geoenc.InfoNCELoss()
    got = torch.func.grad(loss)(anchor.detach(), candidate.detach())
    assert got.equal(torch.autograd.grad(loss(anchor, candidate), anchor)[0])


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_backward_twice_through_one_graph(criterion: str) -> None:
    views = leaves((5, 4), (5, 4), (5, 1, 4), (5, 4))
    value = geoenc.CSPLoss(criterion, symmetric=True)(*views)
    first = torch.autograd.grad(value, views, retain_graph=True)
    for one, again in zip(first, torch.autograd.grad(value, views), strict=True):
        assert one.equal(again)


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_bfloat16_under_autocast_loses_nothing_but_the_rounding_of_inputs(criterion: str) -> None:
    views = leaves((300, 16), (300, 16), (300, 2, 16), (300, 16), dtype=torch.bfloat16)
    wide = [view.detach().float().requires_grad_() for view in views]
    loss = geoenc.CSPLoss(criterion, temperature=0.1, symmetric=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*views)
        value.backward()
    wanted = loss(*wide)
    wanted.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
    for narrow, exact in zip(views, wide, strict=True):
        assert narrow.grad is not None
        assert exact.grad is not None
        assert narrow.grad.dtype == torch.bfloat16
        largest_entry = exact.grad.abs().max().item()
        assert torch.allclose(narrow.grad.float(), exact.grad, atol=2**-7 * largest_entry)


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, (tuple, list)) else [result]
        sizes = [one.untyped_storage().nbytes() for one in made if isinstance(one, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return result


def largest(function: Callable[[], Tensor]) -> int:
    with Largest() as mode:
        function().backward()
    return mode.numbers


@pytest.mark.parametrize(
    "loss",
    [
        geoenc.InfoNCELoss(),
        geoenc.InfoNCELoss(0.01),
        geoenc.InfoNCELoss(symmetric=False),
        geoenc.CSPLoss(),
        geoenc.CSPLoss("nce"),
        geoenc.CSPLoss(symmetric=True),
    ],
    ids=["symmetric", "sharp", "one-way", "multiclass", "nce", "csp-symmetric"],
)
def test_memory_grows_as_the_batch_not_as_its_square(
    loss: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "_FEW_LOGITS", 0)
    monkeypatch.setattr(tiled, "_ROWS", {"cpu": 16})
    monkeypatch.setattr(tiled, "_KEPT_LOGITS", 2**12)

    def of(batch: int) -> int:
        views = leaves((batch, 4), (batch, 4), (batch, 1, 4), (batch, 4), dtype=torch.float32)
        few = views[:2] if isinstance(loss, geoenc.InfoNCELoss) else views
        return largest(lambda: loss(*few))

    assert of(1024) <= 2.2 * of(512)
    assert of(1024) < 1024 * 1024 * 4 / 16


def test_logits_are_made_once_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept or made twice: the same, to the last bit but for rounding."""
    anchor, candidate = inputs = leaves((20, 4), (20, 4))
    results = []
    for kept in (0, 2**24):
        monkeypatch.setattr(tiled, "_KEPT_LOGITS", kept)
        loss = geoenc.InfoNCELoss()(anchor, candidate)
        results.append(torch.autograd.grad(loss, inputs))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-14)


def test_no_gradient_no_second_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation needs the loss alone: one product of matrices a chunk."""
    products = []
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: products.append(1) or mm(*a, **k))
    views = torch.randn(2, 20, 4).unbind()
    loss = geoenc.InfoNCELoss(symmetric=False)
    with torch.no_grad():
        value = loss(*views)
    assert len(products) == 1
    assert value.item() == pytest.approx(loss(*views).item())
    assert not math.isnan(value.item())


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
def test_compiled_in_one_graph_the_gradient_is_the_same(criterion: str) -> None:
    """Where the compiler cannot ask for the temperature, each direction has its own maximum."""
    views = leaves((6, 4), (6, 4), (6, 2, 4), (6, 4))
    loss = geoenc.CSPLoss(criterion, symmetric=True, temperature=0.2)
    learnable = geoenc.InfoNCELoss(0.3, learnable=True)
    for module, given in ((loss, views), (learnable, views[:2])):
        torch.compiler.reset()
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        inputs = [*given, *module.parameters()]
        wanted = torch.autograd.grad(module(*given), inputs)
        for got, gradient in zip(
            torch.autograd.grad(compiled(*given), inputs), wanted, strict=True
        ):
            assert torch.allclose(got, gradient, atol=1e-7)
