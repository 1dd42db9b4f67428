"""Every registered component keeps the public contract; so does every loss."""

import importlib
import inspect
import json
import logging
import pkgutil
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import geoenc
from geoenc import testing
from geoenc.component import Component
from geoenc.testing.export import check_portable

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec:FutureWarning"),
]
logging.getLogger("torch.__trace").disabled = True  # it would tell pytest every step

ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "Direct": [{}, {"extent": (-162.0, -59.0, 20.0, 56.0)}],
    "Wrap": [{}, {"latitude_period": 360.0}],
    "XYZ": [{}],
    "Space2VecGrid": [{"num_frequencies": 4}, {"num_frequencies": 3, "min_radius": 1e-6}],
    "Space2VecTheory": [{"num_frequencies": 5}, {"num_frequencies": 1}],
    "Sphere2VecC": [
        {"num_frequencies": 5},
        {"num_frequencies": 3, "min_radius": 3e-6},
        {"num_frequencies": 7, "min_radius": 1 / 64},
        {"num_frequencies": 3, "min_radius": 1 / 9},
    ],
    "Sphere2VecCPlus": [{"num_frequencies": 5}],
    "Sphere2VecM": [{"num_frequencies": 5}],
    "Sphere2VecMPlus": [{"num_frequencies": 5}],
    "Sphere2VecDFS": [{"num_frequencies": 3}, {"num_frequencies": 4, "min_radius": 0.125}],
    "SphericalHarmonics": [{"degree": 4}, {"degree": 0}, {"degree": 12}],
    "NeRF": [{"num_frequencies": 4}, {"num_frequencies": 16}],
    "RFF": [
        {"num_features": 8},
        {"num_features": 6, "scale": 16.0, "plane": "xyz", "shifted": True},
        {"num_features": 6, "scale": 256.0, "plane": "equal_earth"},
    ],
    "Tile": [
        {"out_features": 5, "cell_size": 13.0},
        {"out_features": 3, "cell_size": 1e6},
        {"out_features": 3, "cell_size": 7.0, "extent": (-162, -59, 20, 56)},
    ],
    "RBF": [
        {"num_anchors": 6, "bandwidth": 40.0},
        {"num_anchors": 5, "bandwidth": 25.0, "distance": "great_circle"},
    ],
    "Herglotz": [{"num_atoms": 6, "degree": 5}, {"num_atoms": 4, "degree": 15, "rotation": True}],
    "SoftVoronoi": [
        {"out_features": 8, "num_sites": 20, "site_features": 6, "num_tokens": 5},
        {
            "out_features": 6,
            "num_sites": 12,
            "site_features": 6,
            "num_tokens": 8,
            "gate": 0.25,
            "attention": "cosine",
        },
    ],
    "GPS2VecCells": [{"num_columns": 4, "num_rows": 3, "sigma_km": 300.0}],
    "HashGrid": [
        {"num_levels": 4, "base_resolution": 4, "table_size": 256},
        {"num_levels": 2, "base_resolution": 4, "table_size": 128, "takes_time": True},
    ],
    "Raster": [{"out_features": 3, "height": 8, "width": 18}],
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
    "Linear": [
        {"in_features": 4, "out_features": 3},
        {"in_features": 3, "out_features": 5, "bias": False},
    ],
    "ResidualNet": [
        {"in_features": 4, "out_features": 6, "depth": 2},
        {"in_features": 4, "out_features": 3, "hidden_features": 5, "depth": 1},
    ],
    "Siren": [
        {"in_features": 4, "out_features": 3, "hidden_features": 8, "dropout": 0.5},
        {
            "in_features": 3,
            "out_features": 5,
            "hidden_features": 6,
            "depth": 4,
            "residual": True,
            "hyperbolic": True,
        },
        {"in_features": 5, "out_features": 2, "hidden_features": 4, "depth": 1, "frequency": 3.0},
    ],
    "CyclicTime": [{}, {"offset": -1 / 24}],
    "LinearTime": [{}],
    "LocationEncoder": [
        {
            "position": {"name": "XYZ"},
            "network": {"name": "FFN", "in_features": 5, "out_features": 4},
            "time": {"name": "CyclicTime"},
        },
        {
            "position": {"name": "XYZ"},
            "network": {"name": "FFN", "in_features": 3, "out_features": 4},
        },
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
    "ImageLocationClassifier": [
        {
            "encoder": {
                "name": "LocationEncoder",
                "position": {"name": "Direct"},
                "network": {"name": "Linear", "in_features": 2, "out_features": 4},
            },
            "in_features": 5,
            "num_classes": 3,
        },
    ],
    "RetrievalDatabase": [{"num_entries": 5, "in_features": 4, "out_features": 3}],
    "RetrievalAugmented": [
        {
            "encoder": {
                "name": "LocationEncoder",
                "position": {"name": "XYZ"},
                "network": {"name": "ResidualNet", "in_features": 3, "out_features": 4},
            },
            "database": {
                "name": "RetrievalDatabase",
                "num_entries": 5,
                "in_features": 4,
                "out_features": 3,
            },
            "place_weight": 0.5,
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


PARTS = (geoenc.PositionEncoder, geoenc.Network, geoenc.TimeEncoder)
IMAGE_FEATURES = ["RandomConvFeatures"]
TABLES = ["RetrievalDatabase"]
"""Data that a model looks up; they have no forward of their own."""
MODELS = [
    name
    for name in REGISTERED
    if not issubclass(Component.registry[name], PARTS) and name not in IMAGE_FEATURES + TABLES
]


def built(name: str) -> list[Any]:
    known = Component.registry[name]
    try:
        return [known.from_config({"name": name, **one}) for one in ARGUMENTS.get(name, [{}])]
    except TypeError as error:
        pytest.fail(f"{name} needs arguments ({error}); add small ones to ARGUMENTS in {__file__}")


def of_kind(kind: type) -> list[str]:
    return [name for name in REGISTERED if issubclass(Component.registry[name], kind)]


def compiled_and_exported(check: Any, name: str, device: torch.device) -> None:
    """Every setting is checked; the first, and any with time, also compiled and exported."""
    for index, component in enumerate(built(name)):
        outside = index == 0 or getattr(component, "takes_time", False)
        check(component.to(device), compile=outside, export=outside)


@pytest.mark.parametrize("name", of_kind(geoenc.PositionEncoder))
def test_position_encoder(name: str, device: torch.device) -> None:
    compiled_and_exported(testing.check_position_encoder, name, device)


@pytest.mark.parametrize("name", of_kind(geoenc.Network))
def test_network(name: str, device: torch.device) -> None:
    compiled_and_exported(testing.check_network, name, device)


@pytest.mark.parametrize("name", of_kind(geoenc.TimeEncoder))
def test_time_encoder(name: str, device: torch.device) -> None:
    compiled_and_exported(testing.check_time_encoder, name, device)


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, device: torch.device) -> None:
    compiled_and_exported(testing.check_model, name, device)


@pytest.mark.parametrize("name", IMAGE_FEATURES)
def test_image_features(name: str, device: torch.device) -> None:
    images = torch.rand(5, 3, 8, 8, device=device)
    for component in built(name):
        check_portable(component.to(device).eval(), (images,), compile=True, export=True)


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str, device: torch.device) -> None:
    testing.check_loss(LOSSES[name].to(device), compile=True)


def test_one_of_each_kind_compiles_to_machine_code() -> None:
    testing.check_position_encoder(geoenc.Space2VecGrid(4), compile="inductor")
    testing.check_network(geoenc.FFN(6, 3, hidden_features=8), compile="inductor")
    testing.check_loss(geoenc.CSPLoss(), compile="inductor")


@pytest.mark.parametrize(
    "encoder",
    [
        geoenc.Space2VecTheory(3, min_radius=1e-6),
        geoenc.NeRF(20),
        geoenc.RFF(6, scale=256.0, plane="equal_earth"),
    ],
    ids=lambda encoder: type(encoder).__name__,
)
def test_onnx_keeps_fine_scales(encoder: geoenc.PositionEncoder) -> None:
    """Numbers that scale a long phase reach ONNX in float64."""
    testing.check_position_encoder(encoder, export=True)


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


class _Written(_Encoder):
    def write(self, lonlat: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().write(lonlat.round(), *args, **kwargs)


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
    _Forgets: "after saving and loading",
    _Guesses: "NaN where the place is NaN",
    _Written: "write to equal",
    _Gradient: "right gradients",
    _PoleGradient: "finite gradients at the poles",
    _Antimeridian: "wraps_antimeridian = True",
    _Poles: "wraps_poles = False",
}


class _ForwardMode(_Encoder):
    class Double(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> Tensor:
            return 2 * slope

    def encode(self, lonlat: Tensor) -> Tensor:
        return self.Double.apply(super().encode(lonlat))


class _ParameterGradient(_Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def encode(self, lonlat: Tensor) -> Tensor:
        return super().encode(lonlat) * (1 + self.weight - self.weight.detach())


class _Branches(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return super().encode(lonlat) * (2 if (lonlat > 0).all() else 1)


class _Breaks(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().encode(lonlat)


class _Batch(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return super().encode(lonlat) * 1 if len(lonlat) == 9 else super().encode(lonlat)


class _Kernel(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        return (super().encode(lonlat) / 2).asin()


class _Python(_Encoder):
    def encode(self, lonlat: Tensor) -> Tensor:
        turns = super().encode(lonlat) * 12345.6789
        return (2 * torch.pi * (turns - turns.round())).sin()


NOT_PORTABLE = {
    _ForwardMode: "slopes by torch.func.jacfwd",
    _ParameterGradient: "right gradients",
    _Branches: "run in torch.func.vmap",
    _Breaks: "compile in one graph",
    _Batch: "exported with a batch of any size",
    _Kernel: "run in onnxruntime",
    _Python: "ONNX to equal",
}


def registered(monkeypatch: pytest.MonkeyPatch, cls: type) -> None:
    """Names with an underscore are not registered; for the length of a test this one is."""
    monkeypatch.setitem(Component.registry, cls.__name__, cls)


def test_check_passes_a_good_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, _Encoder)
    testing.check_position_encoder(_Encoder())


@pytest.mark.parametrize(("cls", "wanted"), [*BROKEN.items(), *NOT_PORTABLE.items()])
def test_check_finds_each_broken_promise(
    cls: type, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(monkeypatch, cls)
    outside = cls in NOT_PORTABLE
    with pytest.raises(AssertionError, match=wanted) as caught:
        testing.check_position_encoder(cls(), compile=outside, export=outside)
    assert str(caught.value).startswith("expected ")
    assert ", got " in str(caught.value)


class _Clock(geoenc.TimeEncoder):
    def __init__(self) -> None:
        super().__init__(out_features=1)

    def forward(self, time: Tensor) -> Tensor:
        return time[..., None].double()


class _Still(_Clock):
    def forward(self, time: Tensor) -> Tensor:
        return torch.ones_like(time)[..., None]


@pytest.mark.parametrize(("cls", "wanted"), [(_Clock, "follow torch.float32"), (_Still, "NaN")])
def test_check_finds_broken_time_encoders(cls: type, wanted: str) -> None:
    with pytest.raises(AssertionError, match=wanted):
        testing.check_time_encoder(cls())


class _Wide(geoenc.LocationEncoder):
    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        return super().forward(lonlat, time).double()


class _Centred(geoenc.LocationEncoder):
    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        result = super().forward(lonlat, time)
        return result - result.nanmean(0)


class _Strange(geoenc.LocationEncoder):
    def forward(self, lonlat: Tensor, weather: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(lonlat) * weather


@pytest.mark.parametrize(
    ("cls", "wanted"),
    [(_Wide, "float32 after"), (_Centred, "other rows"), (_Strange, "weather=...")],
)
def test_check_finds_broken_models(cls: type, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, cls)
    with pytest.raises(AssertionError, match=wanted):
        testing.check_model(cls(geoenc.XYZ(), geoenc.FFN(3, 4, hidden_features=4)))


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
