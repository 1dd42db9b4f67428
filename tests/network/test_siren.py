"""Siren against a layer-by-layer transcription; its first weights; its settings."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import geoenc
from geoenc import native


def slow_siren(net: geoenc.Siren, x: np.ndarray) -> np.ndarray:
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        h, before = row, None
        for layer in range(net.depth):
            g = state[f"layers.{layer}.weight"] @ h + state[f"layers.{layer}.bias"]
            if layer and net.residual:
                g = (g + before) / 2
            if layer:
                h = np.sin(net.frequency * g)
            elif net.hyperbolic:
                h = np.sin(net.first_frequency * (np.exp(2 * g) - np.exp(-2 * g)) / 2)
            else:
                h = np.sin(net.first_frequency * g)
            before = g
        rows.append(state["last_layer.weight"] @ h + state["last_layer.bias"])
    return np.array(rows).reshape(*x.shape[:-1], -1)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("widths", [(4, 7, 3), (6, 6, 6)])
@pytest.mark.parametrize("frequencies", [(30.0, 1.0), (5.0, 2.5)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("hyperbolic", [False, True])
def test_formula(
    depth: int,
    widths: tuple[int, int, int],
    frequencies: tuple[float, float],
    residual: bool,
    hyperbolic: bool,
) -> None:
    net = geoenc.Siren(
        widths[0],
        widths[2],
        hidden_features=widths[1],
        depth=depth,
        first_frequency=frequencies[0],
        frequency=frequencies[1],
        dropout=0.5,
        residual=residual,
        hyperbolic=hyperbolic,
    )
    net = net.double().eval()
    x = torch.randn(3, 2, widths[0], dtype=torch.float64)
    assert net(x).detach().numpy() == pytest.approx(slow_siren(net, x.numpy()), abs=1e-11)


@pytest.mark.parametrize("frequency", [1.0, 30.0])
def test_first_weights(frequency: float) -> None:
    """U(-1 / n, 1 / n) in the first layer, then U(-b, b) with b = sqrt(6 / n) / w; biases too."""
    net = geoenc.Siren(40, 300, hidden_features=200, depth=3, frequency=frequency)
    later = math.sqrt(6 / 200) / frequency
    bounds = [1 / 40, later, later, later]
    for layer, bound in zip([*net.layers, net.last_layer], bounds, strict=True):
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
            assert parameter.abs().max() > 0.9 * bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_waves_keep_their_spread_through_many_layers() -> None:
    """What the initialisation is for: arguments of the later sines stay at unit variance."""
    net = geoenc.Siren(3, 256, hidden_features=256, depth=8).eval()
    x = 2 * torch.rand(2000, 3) - 1
    assert 0.8 < net(x).std().item() < 1.2


def test_dropout_is_before_the_sine_and_not_on_the_output() -> None:
    """With p close to 1 nearly every sine sees 0, so only the last bias is left."""
    net = geoenc.Siren(3, 4, hidden_features=8, depth=2, dropout=0.999999).train()
    assert torch.allclose(net(torch.randn(5, 3)), net.last_layer.bias.expand(5, 4))
    x = torch.randn(6, 3)
    half = geoenc.Siren(3, 4, dropout=0.5).train()
    assert not half(x).equal(half(x))
    assert half.eval()(x).equal(half(x))
    none = geoenc.Siren(3, 4).train()
    assert none(x).equal(none(x))


def test_second_derivatives_exist() -> None:
    net = geoenc.Siren(2, 1, hidden_features=8, residual=True, hyperbolic=True).double()
    x = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(net, x)


def test_keys_are_those_of_the_published_checkpoints() -> None:
    assert list(geoenc.Siren(4, 3, dropout=0.5).state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "last_layer.weight",
        "last_layer.bias",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"in_features": 0}, "in_features of at least 1, got 0"),
        ({"out_features": 0}, "out_features of at least 1, got 0"),
        ({"hidden_features": 0}, "hidden_features of at least 1, got 0"),
        ({"depth": 0}, "depth of at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
        ({"first_frequency": 0.0}, "first_frequency above 0 and finite, got 0.0"),
        ({"frequency": math.inf}, "frequency above 0 and finite, got inf"),
        ({"frequency": math.nan}, "frequency above 0 and finite, got nan"),
    ],
)
def test_refuses(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        geoenc.Siren(**{"in_features": 4, "out_features": 3, **arguments})


@pytest.fixture
def wide() -> geoenc.Siren:
    torch.manual_seed(0)
    return geoenc.Siren(20, 8, hidden_features=64, depth=3, dropout=0.5).eval()


@pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
def test_many_rows_take_a_kernel_and_give_the_same_numbers(wide: geoenc.Siren) -> None:
    x = torch.randn(3, 700, 20)
    wanted = wide.double()(x.double())
    wide.float()
    with torch.no_grad(), mock.patch.object(nn.Linear, "forward", side_effect=AssertionError):
        got = wide(x)
    assert got.shape == (3, 700, 8)
    assert (got - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("why", ["gradient", "dropout", "hook", "another layer", "few", "float64"])
def test_where_the_kernel_would_change_what_happens_it_is_not_used(
    why: str, wide: geoenc.Siren
) -> None:
    x = torch.randn(3 if why == "few" else 2100, 20)
    seen: list[torch.Tensor] = []
    if why == "dropout":
        wide.train()
    if why == "hook":
        wide.layers[1].register_forward_hook(lambda module, given, result: seen.append(result))
    if why == "another layer":
        wide.layers[0] = nn.Sequential(wide.layers[0])
    if why == "float64":
        wide, x = wide.double(), x.double()
    with (
        torch.set_grad_enabled(why == "gradient"),
        mock.patch("geoenc.network.fused.load_kernels", side_effect=AssertionError),
    ):
        wide(x)
    assert len(seen) == (why == "hook")
