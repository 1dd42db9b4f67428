"""Dropout: the fast CPU mask is a Bernoulli mask in every respect that training relies on."""

import pytest
import torch

from geoenc.network.dropout import Dropout

RATES = [0.5, 0.25, 1 / 256, 255 / 256, 0.1, 0.3]  # the last two take torch's own path


@pytest.mark.parametrize("p", RATES)
def test_rate_mean_and_scaling(p: float) -> None:
    x = torch.ones(1000, 400)
    y = Dropout(p).train()(x)
    kept = y != 0
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * deviation
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - p)))
    assert abs(y.double().mean().item() - 1) < 5 * deviation / (1 - p)


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_elements_rows_and_calls_are_independent(p: float) -> None:
    layer, x = Dropout(p).train(), torch.ones(2000, 64)
    masks = [(layer(x) != 0).double() - (1 - p) for _ in range(2)]
    variance = p * (1 - p)
    limit = 5 * variance / 2000**0.5
    between_columns = masks[0].T @ masks[0] / 2000
    assert (between_columns - variance * torch.eye(64)).abs().fill_diagonal_(0).max() < limit
    assert (masks[0] * masks[1]).mean(0).abs().max() < limit
    assert (masks[0][1:] * masks[0][:-1]).mean(0).abs().max() < limit
    lengths = masks[0].mean(0).abs()  # every position of the eight bytes of a word is used alike
    assert lengths.max() < 5 * (variance / 2000) ** 0.5


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_repeats_with_the_seed(p: float) -> None:
    layer, x = Dropout(p).train(), torch.randn(7, 13)
    torch.manual_seed(5)
    first = layer(x)
    second = layer(x)
    torch.manual_seed(5)
    assert layer(x).equal(first)
    assert layer(x).equal(second)
    assert not first.equal(second)


@pytest.mark.parametrize("p", [0.5, 0.3, 0.0])
def test_evaluation_is_the_identity(p: float) -> None:
    x = torch.randn(3, 5)
    assert Dropout(p).eval()(x).equal(x)


def test_zero_rate_is_the_identity_in_training() -> None:
    x = torch.randn(3, 5)
    assert Dropout(0.0).train()(x).equal(x)


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_gradient_passes_where_the_value_does(p: float) -> None:
    x = torch.randn(40, 9, requires_grad=True)
    y = Dropout(p).train()(x)
    y.backward(torch.full_like(y, 3.0))
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.where(y != 0, 3 / (1 - p), 0.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 4), (3, 5, 2)])
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    y = Dropout(0.5).train()(torch.ones(shape, dtype=dtype))
    assert y.shape == shape
    assert y.dtype == dtype
    assert set(y.flatten().tolist()) <= {0.0, 2.0}


def test_argument_is_not_modified() -> None:
    x = torch.ones(64)
    Dropout(0.5).train()(x)
    assert (x == 1).all()


def test_views_and_transposes() -> None:
    x = torch.ones(31, 17).T
    y = Dropout(0.5).train()(x)
    assert y.shape == x.shape
    assert 0.3 < (y == 0).double().mean() < 0.7


def test_vmap_draws_another_mask_for_each_row() -> None:
    layer = Dropout(0.5).train()
    y = torch.func.vmap(layer, randomness="different")(torch.ones(4, 1000))
    assert not y[0].equal(y[1])
    assert abs((y == 0).double().mean().item() - 0.5) < 0.05


def test_compiles() -> None:
    layer = Dropout(0.5).train()
    y = torch.compile(layer, fullgraph=True, backend="eager")(torch.ones(10_000))
    assert abs((y == 0).double().mean().item() - 0.5) < 0.05


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_refuses(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(p)
