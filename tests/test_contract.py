"""Every registered component keeps the public contract; so does every loss."""

import importlib
import inspect
import json
import pkgutil
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import geoenc
from geoenc import testing
from geoenc.component import Component

ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "Direct": [{}, {"extent": (-162.0, -59.0, 20.0, 56.0)}],
    "Wrap": [{}, {"latitude_period": 360.0}],
    "XYZ": [{}],
    "Space2VecGrid": [{"num_frequencies": 4}, {"num_frequencies": 3, "min_radius": 1e-6}],
    "Space2VecTheory": [{"num_frequencies": 5}, {"num_frequencies": 1}],
    "Sphere2VecC": [{"num_frequencies": 5}, {"num_frequencies": 3, "min_radius": 3e-6}],
    "Sphere2VecCPlus": [{"num_frequencies": 5}],
    "Sphere2VecM": [{"num_frequencies": 5}],
    "Sphere2VecMPlus": [{"num_frequencies": 5}],
    "FFN": [
        {"in_features": 6, "out_features": 3, "hidden_features": 8},
        {
            "in_features": 5,
            "out_features": 5,
            "hidden_features": 5,
            "depth": 2,
            "activation": "gelu",
            "final_activation": False,
        },
        {
            "in_features": 4,
            "out_features": 3,
            "hidden_features": 4,
            "activation": "tanh",
            "layer_norm": False,
            "dropout": 0.0,
        },
        {"in_features": 4, "out_features": 3, "depth": 0, "activation": "sigmoid"},
    ],
    "ResidualNet": [{"in_features": 4, "out_features": 6, "depth": 2}],
    "CyclicTime": [{}],
    "LocationEncoder": [
        {
            "position": {"name": "XYZ"},
            "network": {"name": "FFN", "in_features": 3, "out_features": 4},
        }
    ],
    "SumEncoder": [
        {
            "encoders": [
                {
                    "name": "LocationEncoder",
                    "position": {"name": "Space2VecGrid", "num_frequencies": 2, "min_radius": r},
                    "network": {"name": "FFN", "in_features": 8, "out_features": 4},
                }
                for r in (0.1, 10.0)
            ]
        }
    ],
    "DualEncoder": [
        {
            "location": {
                "name": "LocationEncoder",
                "position": {"name": "XYZ"},
                "network": {"name": "ResidualNet", "in_features": 3, "out_features": 4},
            },
            "image": {"name": "FFN", "in_features": 5, "out_features": 4},
        }
    ],
    "LocationClassifier": [
        {
            "encoder": {
                "name": "LocationEncoder",
                "position": {"name": "Wrap"},
                "network": {"name": "ResidualNet", "in_features": 4, "out_features": 4},
            },
            "num_classes": 3,
        }
    ],
}
"""Small settings for each class. A class without an entry is built without arguments."""

LOSSES = {
    "InfoNCELoss": geoenc.InfoNCELoss(),
    "InfoNCELoss-learnable-one-way": geoenc.InfoNCELoss(0.5, symmetric=False, learnable=True),
    "CSPLoss": geoenc.CSPLoss(),
    "CSPLoss-symmetric": geoenc.CSPLoss(temperature=0.1, symmetric=True),
    "CSPLoss-nce": geoenc.CSPLoss("nce", location_weight=0.3, dropout_weight=2.0),
    "PresenceAbsenceLoss": geoenc.PresenceAbsenceLoss(),
    "PresenceAbsenceLoss-weighted": geoenc.PresenceAbsenceLoss(3.0, background_weight=0.2),
}

for module in pkgutil.walk_packages(geoenc.__path__, "geoenc."):
    if not {"recipes", "cli", "__main__"} & set(module.name.split(".")):
        importlib.import_module(module.name)
REGISTERED = sorted(
    key for key, value in Component.registry.items() if value.__module__.startswith("geoenc.")
)


def built(name: str) -> list[Any]:
    known = Component.registry[name]
    try:
        return [known.from_config({"name": name, **one}) for one in ARGUMENTS.get(name, [{}])]
    except TypeError as error:
        pytest.fail(f"{name} needs arguments ({error}); add small ones to ARGUMENTS in {__file__}")


def of_kind(kind: type) -> list[str]:
    return [name for name in REGISTERED if issubclass(Component.registry[name], kind)]


@pytest.mark.parametrize("name", of_kind(geoenc.PositionEncoder))
def test_position_encoder(name: str, device: torch.device) -> None:
    for encoder in built(name):
        testing.check_position_encoder(encoder.to(device))


@pytest.mark.parametrize("name", of_kind(geoenc.Network))
def test_network(name: str, device: torch.device) -> None:
    for network in built(name):
        testing.check_network(network.to(device))


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str, device: torch.device) -> None:
    testing.check_loss(LOSSES[name].to(device))


def test_one_of_each_kind_compiles_in_one_graph() -> None:
    testing.check_position_encoder(geoenc.Space2VecGrid(4), compile=True)
    testing.check_network(geoenc.FFN(6, 3, hidden_features=8), compile=True)
    testing.check_loss(geoenc.CSPLoss(), compile=True)


@pytest.mark.parametrize("name", of_kind(geoenc.TimeEncoder))
def test_time_encoder(name: str) -> None:
    for encoder in built(name):
        for shape in ((), (5,), (0,), (3, 4)):
            time = torch.rand(shape, dtype=torch.float64)
            code = encoder(time)
            assert code.shape == (*shape, encoder.out_features)
            assert code.dtype == time.dtype
        assert encoder(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("name", REGISTERED)
def test_component_is_rebuilt_from_its_configuration(name: str) -> None:
    for component in built(name):
        config = json.loads(json.dumps(component.config, allow_nan=False))
        again = Component.from_config(config)
        assert type(again) is type(component)
        assert json.dumps(again.config) == json.dumps(component.config)
        assert again.state_dict().keys() == component.state_dict().keys()
        assert name in repr(component)


@pytest.mark.parametrize("name", REGISTERED)
def test_component_is_documented_formula_first(name: str) -> None:
    doc = inspect.getdoc(Component.registry[name])
    assert doc, f"{name} has no docstring"
    assert "Example:" in doc, f"{name} has no example that runs"
    if issubclass(Component.registry[name], geoenc.PositionEncoder | geoenc.Network):
        assert "Reference:" in doc, f"{name} names no source"
    constructor = inspect.signature(Component.registry[name]).parameters
    assert not constructor or "Args:" in doc, f"{name} does not explain its arguments"


# --- the checks find what they are for ----------------------------------------------------------


class _Encoder(geoenc.PositionEncoder):
    """A good encoder, to be broken in one way at a time."""

    wraps_antimeridian: ClassVar[bool] = True
    wraps_poles: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(out_features=3)

    def encode(self, lonlat: Tensor) -> Tensor:
        return geoenc.coordinates.to_xyz(lonlat)


class _Width(_Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.out_features = 4


class _Unchecked(_Encoder):
    def forward(self, lonlat: Tensor) -> Tensor:
        return self.encode(lonlat[..., :2].double()).to(self.dtype)


class _Narrow(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return geoenc.coordinates.to_xyz(lonlat.to(self.dtype))


class _Dtype(_Encoder):
    def forward(self, lonlat: Tensor) -> Tensor:
        super().forward(lonlat)
        return self.encode(lonlat)


class _Buffers(_Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        return nn.Module._apply(self, fn, recurse)


class _Argument(_Encoder):
    def forward(self, lonlat: Tensor) -> Tensor:
        result = super().forward(lonlat)
        if lonlat.numel():
            lonlat.mul_(0.5)
        return result


class _Chance(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return super().encode(lonlat) * (1 + 1e-4 * torch.rand(1, dtype=torch.float64))


class _Forgets(_Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.turn = torch.rand(())

    def encode(self, lonlat: Tensor) -> Tensor:
        return super().encode(lonlat + torch.stack([self.turn, torch.zeros(())]))


class _Guesses(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return super().encode(lonlat.nan_to_num())


class _Gradient(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        slope = (lonlat - lonlat.detach()).sum(-1, keepdim=True)
        return super().encode(lonlat.detach()) + slope


class _PoleGradient(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        z = super().encode(lonlat)
        return z * (1 - z[..., 2:] ** 2).clamp_min(0).sqrt()


class _Antimeridian(_Encoder):
    wraps_antimeridian = False


class _Poles(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return torch.deg2rad(torch.cat([lonlat, lonlat[..., :1]], -1)).sin()


BROKEN = {
    _Width: "out_features",
    _Unchecked: "refuse shape",
    _Narrow: "round once",
    _Dtype: "narrowing",
    _Buffers: "buffers to keep",
    _Argument: "argument alone",
    _Chance: "repeat itself",
    _Guesses: "NaN where the place is NaN",
    _Gradient: "right gradients",
    _PoleGradient: "finite gradients at the poles",
    _Antimeridian: "wraps_antimeridian = True",
    _Poles: "wraps_poles = False",
}


def registered(monkeypatch: pytest.MonkeyPatch, cls: type) -> None:
    """Names with an underscore are not registered; for the length of a test this one is."""
    monkeypatch.setitem(Component.registry, cls.__name__, cls)


@pytest.mark.parametrize("cls", [_Encoder, *BROKEN, _Forgets])
def test_check_finds_each_broken_promise(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, cls)
    if cls is _Encoder:
        testing.check_position_encoder(cls())
        return
    wanted = BROKEN.get(cls, "after saving and loading")
    with pytest.raises(AssertionError, match=wanted) as caught:
        testing.check_position_encoder(cls())
    assert str(caught.value).startswith("expected ")
    assert ", got " in str(caught.value)


class _Unused(geoenc.Network):
    def __init__(self, in_features: int = 3, out_features: int = 3) -> None:
        super().__init__(in_features, out_features)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != 3:
            raise ValueError("width")
        return x * 2


class _Unchecked2(_Unused):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., :3]


class _SeesRows(_Unused):
    def forward(self, x: Tensor) -> Tensor:
        result = super().forward(x)
        return result - result.mean(0, keepdim=True) if x.ndim == 2 and len(x) else result


@pytest.mark.parametrize(
    ("cls", "wanted"),
    [
        (_Unused, "in use"),
        (_Unchecked2, "refuse"),
        (_SeesRows, "for rows of NaN and for no others"),
    ],
)
def test_check_finds_broken_networks(
    cls: type, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(monkeypatch, cls)
    with pytest.raises(AssertionError, match=wanted):
        testing.check_network(cls())


class _Dot(nn.Module):
    def forward(self, anchor: Tensor, candidate: Tensor) -> Tensor:
        return (anchor * candidate).sum(-1).mean()


class _Rows(nn.Module):
    def forward(self, anchor: Tensor, candidate: Tensor) -> Tensor:
        return torch.cosine_similarity(anchor, candidate)


class _Infinite(nn.Module):
    def forward(self, anchor: Tensor, candidate: Tensor) -> Tensor:
        a = anchor / anchor.norm(dim=-1, keepdim=True)
        return (a * candidate / candidate.norm(dim=-1, keepdim=True)).sum(-1).mean()


class _Unknown(nn.Module):
    def forward(self, weights: Tensor) -> Tensor:
        return weights.square().mean()


@pytest.mark.parametrize(
    ("cls", "wanted"),
    [
        (_Dot, "longer embeddings"),
        (_Rows, "finite scalar"),
        (_Infinite, "embedding of anchor is zero"),
        (_Unknown, "weights=..."),
    ],
)
def test_check_finds_broken_losses(cls: type, wanted: str) -> None:
    with pytest.raises(AssertionError, match=wanted):
        testing.check_loss(cls())


def test_check_loss_takes_other_arguments() -> None:
    testing.check_loss(_Unknown(), weights=torch.ones(3, dtype=torch.float64))
