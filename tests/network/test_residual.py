"""ResidualNet against a layer-by-layer transcription."""

import numpy as np
import pytest
import torch

import geoenc


def slow_residual(net: geoenc.ResidualNet, x: np.ndarray) -> np.ndarray:
    state = {key: value.numpy() for key, value in net.state_dict().items()}

    def layer(name: str, value: np.ndarray) -> np.ndarray:
        return np.maximum(value @ state[f"{name}.weight"].T + state[f"{name}.bias"], 0)

    x = layer("input", x)
    for block in range(net.depth):
        x = x + layer(f"blocks.{block}.w2", layer(f"blocks.{block}.w1", x))
    return x if net.hidden_features is None else x @ state["output.weight"].T


@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("widths", [(4, 9), (5, 5)])
@pytest.mark.parametrize("hidden", [None, 7, 9])
def test_formula(depth: int, widths: tuple[int, int], hidden: int | None) -> None:
    net = geoenc.ResidualNet(*widths, hidden_features=hidden, depth=depth).double().eval()
    x = torch.randn(3, 2, widths[0], dtype=torch.float64)
    assert net(x).detach().numpy() == pytest.approx(slow_residual(net, x.numpy()), abs=1e-12)


def test_defaults_are_those_of_the_papers() -> None:
    net = geoenc.ResidualNet(4)
    assert (net.out_features, net.depth, net.dropout) == (256, 4, 0.5)
    assert sum(p.numel() for p in net.parameters()) == 527_616


def test_embedding_is_not_negative_and_dropout_is_inside_the_blocks() -> None:
    net, x = geoenc.ResidualNet(4, 16, depth=2).train(), torch.randn(50, 4)
    assert (net(x) >= 0).all()
    assert not net(x).equal(net(x))
    assert geoenc.ResidualNet(4, 16, depth=0).train()(x).shape == (50, 16)
    plain = geoenc.ResidualNet(4, 16, dropout=0.0).train()
    assert plain(x).equal(plain(x))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"in_features": 0}, "in_features of at least 1, got 0"),
        ({"out_features": 0}, "out_features of at least 1, got 0"),
        ({"hidden_features": 0}, "hidden_features of at least 1, got 0"),
        ({"depth": -2}, "depth of at least 0 hidden layers, got -2"),
        ({"dropout": 1.5}, r"dropout in \[0, 1\), got 1.5"),
    ],
)
def test_refuses(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        geoenc.ResidualNet(**{"in_features": 4, **arguments})
