"""FFN against a layer-by-layer transcription, and its settings."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geoenc
from geoenc import native
from geoenc.network.ffn import ACTIVATIONS

erf = np.vectorize(math.erf)
SLOW = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def slow_ffn(net: geoenc.FFN, x: np.ndarray) -> np.ndarray:
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    for layer in range(net.depth + 1):
        last = layer == net.depth
        weight, bias = (state[f"layers.{layer}.linear.{name}"] for name in ("weight", "bias"))
        y = x @ weight.T + bias
        if not last or net.final_activation:
            y = SLOW[net.activation](y)
        if not last:
            if net.residual and x.shape[-1] == y.shape[-1]:
                y = y + x
            if net.layer_norm:
                gain, shift = (state[f"layers.{layer}.layernorm.{n}"] for n in ("weight", "bias"))
                centred = y - y.mean(-1, keepdims=True)
                variance = (centred**2).mean(-1, keepdims=True)
                y = centred / np.sqrt(variance + 1e-5) * gain + shift
        x = y
    return x


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("widths", [(5, 7, 4), (6, 6, 6)])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("final", [True, False])
def test_formula(
    activation: str,
    depth: int,
    widths: tuple[int, int, int],
    residual: bool,
    layer_norm: bool,
    final: bool,
) -> None:
    net = geoenc.FFN(
        widths[0],
        widths[2],
        hidden_features=widths[1],
        depth=depth,
        activation=activation,
        residual=residual,
        layer_norm=layer_norm,
        final_activation=final,
    )
    net = net.double().eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(3, 2, widths[0], dtype=torch.float64)
    assert net(x).detach().numpy() == pytest.approx(slow_ffn(net, x.numpy()), abs=1e-12)


def test_zero_layers_without_activation_is_one_linear_layer() -> None:
    net = geoenc.FFN(2048, 256, depth=0, final_activation=False)
    assert sum(p.numel() for p in net.parameters()) == 2048 * 256 + 256
    x = torch.randn(3, 2048)
    assert net.train()(x).equal(net.eval()(x))


def test_weights_are_drawn_as_published() -> None:
    net = geoenc.FFN(128, 256)
    for block, (fan_in, fan_out) in zip(net.layers, [(128, 512), (512, 256)], strict=True):
        bound = math.sqrt(6 / (fan_in + fan_out))
        weight, bias = block.linear.weight, block.linear.bias
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert bias.abs().max() <= 1 / math.sqrt(fan_in)
        assert bias.abs().max() > 0


def test_the_last_layer_has_activation_and_dropout() -> None:
    """So the embedding itself is dropped out, which the dropout objective relies on."""
    x = torch.randn(500, 8)
    net = geoenc.FFN(8, 64, dropout=0.25).train()
    embedding = net(x)
    assert (embedding >= 0).all()
    zeros = (embedding == 0).double().mean().item()
    alive = (geoenc.FFN.eval(net)(x) > 0).double().mean().item()
    assert zeros > 1 - alive
    plain = geoenc.FFN(8, 64, dropout=0.25, final_activation=False).train()
    assert (plain(x) != 0).all()
    assert (plain(x) < 0).any()


def test_dropout_zero_is_deterministic_in_training() -> None:
    net, x = geoenc.FFN(4, 3, dropout=0.0).train(), torch.randn(5, 4)
    assert net(x).equal(net(x))


def test_keys_are_those_of_the_published_checkpoints() -> None:
    assert list(geoenc.FFN(4, 3).state_dict()) == [
        "layers.0.linear.weight",
        "layers.0.linear.bias",
        "layers.0.layernorm.weight",
        "layers.0.layernorm.bias",
        "layers.1.linear.weight",
        "layers.1.linear.bias",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"in_features": 0}, "in_features of at least 1, got 0"),
        ({"out_features": -1}, "out_features of at least 1, got -1"),
        ({"hidden_features": 0}, "hidden_features of at least 1, got 0"),
        ({"depth": -1}, "depth of at least 0 hidden layers, got -1"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout in \[0, 1\), got -0.1"),
        ({"activation": "swish"}, "one of relu, leaky_relu, gelu, sigmoid, tanh, got 'swish'"),
    ],
)
def test_refuses(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        geoenc.FFN(**{"in_features": 4, "out_features": 3, **arguments})


def test_base_class_has_no_forward() -> None:
    with pytest.raises(NotImplementedError):
        geoenc.Network(2, 2)(torch.zeros(2))


def test_gradient_of_places_reaches_the_first_layer() -> None:
    net = geoenc.FFN(4, 3).double().eval()
    x: Tensor = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("final_activation", [True, False])
def test_many_rows_take_a_kernel_and_give_the_same_numbers(
    activation: str, depth: int, layer_norm: bool, final_activation: bool
) -> None:
    """Widths that are no multiple of a register, and a skip over the first layer too."""
    torch.manual_seed(0)
    net = geoenc.FFN(
        70, 37, hidden_features=70, depth=depth, activation=activation, layer_norm=layer_norm,
        final_activation=final_activation,
    ).eval()  # fmt: skip
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(2, 1000, 70)
    wanted = net.double()(x.double())
    net.float()
    before = x.clone()
    with torch.no_grad(), mock.patch.object(nn.Linear, "forward", side_effect=AssertionError):
        got = net(x)
    assert torch.equal(x, before)
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() < 2e-5
    x[0, 3, 5] = torch.nan
    with torch.no_grad():
        assert net(x)[0, 3].isnan().any()
        assert not net(x)[0, 4].isnan().any()


@pytest.mark.parametrize("why", ["gradient", "dropout", "hook", "norm", "activation", "gelu"])
def test_where_the_kernel_would_change_what_happens_it_is_not_used(why: str) -> None:
    net = geoenc.FFN(20, 8, hidden_features=256, activation="gelu" if why == "gelu" else "relu")
    net.train(why == "dropout")
    seen: list[torch.Tensor] = []
    first = net.layers[0]
    if why == "hook":
        first.activation.register_forward_hook(lambda module, given, result: seen.append(result))
    if why == "norm":
        first.layernorm = nn.LayerNorm(256, elementwise_affine=False)
    if why == "activation":
        first.activation = nn.Tanh()
    with (
        torch.set_grad_enabled(why == "gradient"),
        mock.patch("geoenc.network.fused.load_kernels", side_effect=AssertionError),
    ):
        net(torch.randn(2100, 20))
    assert len(seen) == (why == "hook")
