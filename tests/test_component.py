"""Registration by definition, configurations there and back, and what errors say."""

import json
from typing import Any

import pytest
import torch
from torch import nn

import geoenc
from geoenc.component import Component


@pytest.fixture(autouse=True)
def _registry_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Component, "registry", dict(Component.registry))


def test_defining_a_class_registers_it() -> None:
    class Mine(geoenc.Network):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__(in_features, out_features)

    class _Hidden(geoenc.Network):
        pass

    class Root(Component, root=True):
        pass

    assert Component.registry["Mine"] is Mine
    assert {"_Hidden", "Root", "Network", "PositionEncoder"}.isdisjoint(Component.registry)
    made = geoenc.Network.from_config({"name": "Mine", "in_features": 2, "out_features": 3})
    assert isinstance(made, Mine)
    assert made.config == {"name": "Mine", "in_features": 2, "out_features": 3}


def test_one_name_in_two_modules_is_an_error_but_a_cell_run_again_is_not() -> None:
    def define(module: str) -> type:
        return type("Twice", (geoenc.Network,), {"__module__": module})

    define("notebook")
    again = define("notebook")
    assert Component.registry["Twice"] is again
    with pytest.raises(ValueError, match="one class named 'Twice', got a second one in other"):
        define("other")
    assert Component.registry["Twice"] is again


def encoder() -> geoenc.LocationEncoder:
    position = geoenc.Space2VecGrid(2, max_radius=180.0)
    return geoenc.LocationEncoder(
        position, geoenc.FFN(10, 4, activation="gelu"), time=geoenc.CyclicTime()
    )


def test_config_is_the_signature_recursively() -> None:
    assert encoder().config == {
        "name": "LocationEncoder",
        "position": {
            "name": "Space2VecGrid",
            "num_frequencies": 2,
            "min_radius": 0.1,
            "max_radius": 180.0,
        },
        "network": {
            "name": "FFN",
            "in_features": 10,
            "out_features": 4,
            "hidden_features": 512,
            "depth": 1,
            "activation": "gelu",
            "dropout": 0.5,
            "residual": True,
            "layer_norm": True,
            "final_activation": True,
        },
        "time": {"name": "CyclicTime", "offset": 0.5},
    }


def test_config_survives_json_and_is_not_changed_by_building() -> None:
    model = geoenc.LocationClassifier(geoenc.SumEncoder([encoder(), encoder()]), 3)
    config = json.loads(json.dumps(model.config))
    before = json.dumps(config)
    assert geoenc.LocationClassifier.from_config(config).config == model.config
    assert json.dumps(config) == before


def test_in_features_follows_from_the_position_encoder() -> None:
    network: dict[str, Any] = {"name": "FFN", "out_features": 4}
    config = {"position": {"name": "Space2VecGrid", "num_frequencies": 3}, "network": network}
    made = geoenc.LocationEncoder.from_config(config)
    assert made.network.in_features == 12
    timed = geoenc.LocationEncoder.from_config({**config, "time": {"name": "CyclicTime"}})
    assert timed.network.in_features == 14
    assert "in_features" not in network
    nested = {"name": "LocationClassifier", "encoder": {"name": "LocationEncoder", **config}}
    assert Component.from_config({**nested, "num_classes": 2}).encoder.network.in_features == 12
    ready = geoenc.LocationEncoder.from_config({"position": geoenc.XYZ(), "network": network})
    assert ready.network.in_features == 3


@pytest.mark.parametrize(
    ("root", "config", "error", "words"),
    [
        (Component, {"name": "Space2VecGird"}, ValueError, ["did you mean Space2VecGrid"]),
        (
            geoenc.Network,
            {"name": "q#9"},
            ValueError,
            ["registered Network", "there are FFN, Linear, Res"],
        ),
        (geoenc.Network, {"name": "XYZ"}, ValueError, ["expected a Network, got 'XYZ'"]),
        (Component, {"name": "builtins.print"}, ValueError, ["imported first"]),
        (Component, {"name": "Wrap", "x": 1}, TypeError, ["['latitude_period']", "got ['x']"]),
        (Component, {"name": "Wrap", "latitude_period": -1}, ValueError, ["above 0", "got -1"]),
        (Component, {"name": "FFN", "in_features": 2}, TypeError, ["out_features"]),
    ],
)  # fmt: skip
def test_from_config_refuses(
    root: type[Component], config: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        root.from_config(config)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (nn.Linear(2, 2), "got Linear; derive it from geoenc.Network"),
        (torch.float32, "got dtype; store the constructor's argument unchanged"),
        (torch.zeros(2), "got Tensor; store the constructor's argument unchanged"),
        ([{}], "got dict"),
    ],
)
def test_config_refuses_what_json_cannot_hold(value: Any, words: str) -> None:
    class Holder(Component):
        def __init__(self, held: Any) -> None:
            super().__init__()
            self.held = held

    with pytest.raises(TypeError, match=r"Holder\.held") as caught:
        _ = Holder(value).config
    assert words in str(caught.value)


def test_printing_shows_the_hyperparameters() -> None:
    shown = repr(geoenc.LocationEncoder(geoenc.Wrap(360.0), geoenc.ResidualNet(4, 8, depth=2)))
    assert "Wrap(latitude_period=360.0)" in shown
    assert "in_features=4, out_features=8, hidden_features=None, depth=2, dropout=0.5" in shown
    assert "extent=(-180.0, 180.0, -90.0, 90.0)" in repr(geoenc.Direct())
