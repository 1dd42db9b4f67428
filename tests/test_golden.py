"""Numbers made by running the published codes: every one is reproduced or left out by name.

``RUN`` says how a family of cases is reached through the public classes, for any
hyperparameters; ``LEFT_OUT`` says why another is not. A family is "file/case" without its number.
"""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import geoenc
from geoenc.coordinates import equal_earth

pytestmark = pytest.mark.real_data

Outputs = dict[str, Tensor]


class Case:
    """One entry of ``index.json`` with its arrays as tensors."""

    def __init__(self, folder: Path, entry: dict[str, Any]) -> None:
        self.folder, self.entry = folder, entry
        self.file = entry["file"].removesuffix(".npz")
        self.settings: dict[str, Any] = entry["hyperparameters"]

    def array(self, key: str) -> Tensor:
        with np.load(self.folder / self.entry["file"]) as arrays:
            return torch.from_numpy(arrays[key])

    def input(self, name: str) -> Tensor:
        return self.array(self.entry["inputs"][name]["key"])

    @property
    def lonlat(self) -> Tensor:
        return self.array("lonlat")

    def weights(self, *renames: tuple[str, str]) -> dict[str, Tensor]:
        """State of one of our modules: the first pattern that matches renames or drops a key."""
        state = {}
        for key, value in self.entry["weights"].items():
            for pattern, replacement in renames:
                if re.match(pattern, key):
                    if replacement:
                        state[re.sub(pattern, replacement, key)] = self.array(value["key"])
                    break
            else:
                raise KeyError(f"no rename for {key}")
        return state


# --- how each family is reached -----------------------------------------------------------------


def scales(settings: dict[str, Any], unit: float = 1.0) -> dict[str, Any]:
    return {
        "num_frequencies": settings["frequency_num"],
        "min_radius": settings["min_radius"] * unit,
        "max_radius": settings["max_radius"] * unit,
    }


POSITIONS: dict[str, Callable[[dict[str, Any]], geoenc.PositionEncoder]] = {
    "cartesian3d": lambda settings: geoenc.XYZ(),
    "wrap": lambda settings: geoenc.Wrap(),
    "grid": lambda settings: geoenc.Space2VecGrid(**scales(settings)),
    "csp": lambda settings: geoenc.Space2VecGrid(**scales(settings)),
    "theory": lambda settings: geoenc.Space2VecTheory(**scales(settings)),
    "spherec": lambda settings: geoenc.Sphere2VecC(**scales(settings)),
    "spherecplus": lambda settings: geoenc.Sphere2VecCPlus(**scales(settings)),
    "spherem": lambda settings: geoenc.Sphere2VecM(**scales(settings)),
    "spheremplus": lambda settings: geoenc.Sphere2VecMPlus(**scales(settings)),
}
ACTIVATIONS = {"leakyrelu": "leaky_relu"}
FFN_KEYS = (r"(?:loc_enc\.|spa_enc\.)*ffn\.(.*)", r"network.\1")


def code(encoder: geoenc.PositionEncoder, lonlat: Tensor) -> Tensor:
    return encoder.double()(lonlat)


def position(case: Case) -> Outputs:
    encoder = POSITIONS[case.file](case.settings)
    return {"pe": code(encoder, case.lonlat), **frequencies(case, encoder)}


def frequencies(case: Case, encoder: geoenc.PositionEncoder) -> Outputs:
    if "freq_list" not in case.entry["outputs"]:
        return {}
    turn = 360 if "Sphere2Vec" in type(encoder).__name__ else 2 * math.pi
    return {"freq_list": turn / encoder.wavelengths}


def direct(case: Case) -> Outputs:
    extent = case.settings.get("extent", [-180, 180, -90, 90])
    if "lon_min" in case.settings:
        extent = [
            case.settings[f"{axis}_{end}"] for axis in ("lon", "lat") for end in ("min", "max")
        ]
    return {"pe": code(geoenc.Direct(extent), case.lonlat)}


def direct_radians(case: Case) -> Outputs:
    """deg2rad(x) - pi = 2 (x - w) / (e - w) - 1 with e - w = 360 / pi and w = 180 - 180 / pi."""
    west = 180 - 180 / math.pi
    extent = (west, west + 360 / math.pi) * 2
    return {"pe": code(geoenc.Direct(extent), case.lonlat)}


def doubled_latitude(case: Case) -> Outputs:
    """The geographic prior's encode_3D is the point at twice the latitude."""
    return {"pe": code(geoenc.XYZ(), case.lonlat * torch.tensor([1.0, 2.0]))}


def wrap_radians(case: Case) -> Outputs:
    """Latitude period 360; columns cos, sin, cos, sin there and cos, cos, sin, sin in wilds."""
    columns = [2, 0, 3, 1] if case.settings["variant"] == "locationencoder" else [2, 3, 0, 1]
    return {"pe": code(geoenc.Wrap(latitude_period=360.0), case.lonlat)[:, columns]}


def wrap_extent(case: Case) -> Outputs:
    """Places scaled from the extent to the globe, then Wrap."""
    extent = case.settings.get("extent", (-180, 180, -90, 90))
    scaled = code(geoenc.Direct(extent), case.lonlat) * torch.tensor([180.0, 90.0])
    return {"pe": code(geoenc.Wrap(), scaled)}


def wrap_date(case: Case) -> Outputs:
    assert case.settings["date_encode"] == "encode_cos_sin"
    encoder = geoenc.LocationEncoder(
        geoenc.Wrap(), geoenc.ResidualNet(6, 8), time=geoenc.CyclicTime()
    ).double()
    return {"pe": encoder.code(case.lonlat, case.input("date01"))}


def theory_radians(case: Case) -> Outputs:
    """Radians over r are degrees over 180 r / pi."""
    encoder = geoenc.Space2VecTheory(**scales(case.settings, 180 / math.pi))
    radians = geoenc.Space2VecTheory(**scales(case.settings))
    return {"pe": code(encoder, case.lonlat), **frequencies(case, radians)}


def theory_port(case: Case) -> Outputs:
    """Odd F: sines and cosines trade places in the second half of the vector."""
    encoder = geoenc.Space2VecTheory(**scales(case.settings))
    columns = torch.arange(encoder.out_features)
    if case.settings["frequency_num"] % 2:
        columns = columns.where(columns < len(columns) // 2, columns ^ 1)
    return {"pe": code(encoder, case.lonlat)[:, columns], **frequencies(case, encoder)}


def sphere_legacy(case: Case) -> Outputs:
    """TorchSpatial's copy ignores min_radius: it is 1 (and larger than a max_radius below 1)."""
    settings = {**case.settings, "min_radius": 1.0}
    encoder = geoenc.Sphere2VecMPlus(**scales(settings))
    return {"pe": code(encoder, case.lonlat), **frequencies(case, encoder)}


def sphere_port(case: Case) -> Outputs:
    """Degrees where radians belong, and every column of the sphere encoders twice."""
    name = case.settings["name"]
    encoder = POSITIONS[name](case.settings)
    if name == "grid":
        return {"pe": code(encoder, case.lonlat), **frequencies(case, encoder)}
    doubled = code(encoder, case.lonlat.rad2deg()).repeat_interleave(2, -1)
    return {"pe": doubled, **frequencies(case, encoder)}


def ffn(in_features: int, settings: dict[str, Any]) -> geoenc.FFN:
    names = {
        "ffn_num_hidden_layers": "num_hidden_layers",
        "ffn_hidden_dim": "hidden_dim",
        "ffn_act": "activation",
        "ffn_use_layernormalize": "use_layernormalize",
        "ffn_skip_connection": "skip_connection",
        "spa_embed_dim": "output_dim",
    }
    plain = {names.get(key, key): value for key, value in settings.items()}
    depth = max(plain["num_hidden_layers"], 0)
    return geoenc.FFN(
        in_features,
        plain["output_dim"],
        depth=depth,
        hidden_features=plain["hidden_dim"] if depth else 1,
        activation=ACTIVATIONS.get(plain["activation"], plain["activation"]),
        residual=plain["skip_connection"],
        layer_norm=plain["use_layernormalize"],
    )


def location_encoder(case: Case) -> geoenc.LocationEncoder:
    encoder = POSITIONS[case.file](case.settings)
    return geoenc.LocationEncoder(encoder, ffn(encoder.out_features, case.settings)).eval()


def full(case: Case) -> Outputs:
    encoder = location_encoder(case)
    encoder.load_state_dict(case.weights(FFN_KEYS))
    return {"out32": encoder(case.lonlat), "out64": encoder.double()(case.lonlat)}


def head(case: Case) -> Outputs:
    model = geoenc.LocationClassifier(location_encoder(case), case.settings["num_classes"]).eval()
    renames = (FFN_KEYS[0], r"encoder.network.\1"), ("class_emb", "head"), ("user_emb", "")
    model.load_state_dict(case.weights(*renames))
    lonlat = case.lonlat.float()
    probabilities = model.probabilities(lonlat)
    return {
        "class_probs": probabilities,
        "feats": model.encoder(lonlat),
        "class4": probabilities[:, 4],
    }


def network(case: Case) -> Outputs:
    module = ffn(case.settings["input_dim"], case.settings).eval()
    module.load_state_dict(case.weights((r"(.*)", r"\1")))
    x = case.array(case.entry["input"]["array"])
    return {"out32": module(x), "out64": module.double()(x.double())}


def shared_mlp(case: Case) -> Outputs:
    """SatCLIP's MLP: the hidden layers share one weight; here it is repeated."""
    settings = case.settings
    module = geoenc.FFN(
        settings["input_dim"],
        settings["out_dims"],
        hidden_features=settings["dim_hidden"],
        depth=settings["num_layers"] + 1,
        residual=False,
        layer_norm=False,
        final_activation=False,
    ).double()
    state = {
        f"layers.{int(index) // 2}.linear.{name}": value
        for key, value in case.weights((r"features\.(.*)", r"\1")).items()
        for index, name in [key.split(".")]
    }
    module.load_state_dict(state)
    return {"out64": module.eval()(case.input("x"))}


RESIDUAL_KEYS = (r"(?:fcnet\.)?feats\.0\.(.*)", r"network.input.\1")


def residual_state(case: Case, prefix: str = "encoder.") -> dict[str, Tensor]:
    """``feats.0`` is the first layer, ``feats.2`` the first block (1 is an activation)."""
    state = case.weights(
        RESIDUAL_KEYS,
        (r"(?:fcnet\.)?feats\.(.*)", r"network.blocks.\1"),
        ("class_emb", "head"),
        ("user_emb", ""),
    )
    result = {}
    for key, value in state.items():
        key = re.sub(r"blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) - 2}", key)
        result[key if key.startswith("head") else prefix + key] = value
    return result


def prior(case: Case) -> Outputs:
    """Geographic prior and SINR: Wrap, ResidualNet, class head; two precisions."""
    settings = case.settings
    dated = settings.get("use_date_feats", False)
    net = geoenc.ResidualNet(
        6 if dated else 4,
        settings["num_filts"],
        depth=settings.get("res_layers", settings.get("depth")),
    )
    encoder = geoenc.LocationEncoder(geoenc.Wrap(), net, geoenc.CyclicTime() if dated else None)
    model = geoenc.LocationClassifier(encoder, settings["num_classes"]).eval()
    model.load_state_dict(residual_state(case))
    result = {}
    for suffix, dtype in (("32", torch.float32), ("64", torch.float64)):
        model.to(dtype)
        lonlat = case.lonlat.to(dtype)
        time = case.input("date01").to(dtype) if dated else None
        result[f"feats{suffix}"] = model.encoder(lonlat, time)
        result[f"class_probs{suffix}"] = model.probabilities(lonlat, time)
    if "class1_32" in case.entry["outputs"]:
        result["class1_32"] = result["class_probs32"][:, 1]
    return result


def wilds_wrap(case: Case) -> Outputs:
    """The other order of the columns is folded into the first layer."""
    net = geoenc.ResidualNet(4, case.settings["num_filts"], depth=4)
    encoder = geoenc.LocationEncoder(geoenc.Wrap(latitude_period=360.0), net).eval()
    state = residual_state(case, prefix="")
    state["network.input.weight"] = state["network.input.weight"][:, [2, 3, 0, 1]]
    encoder.load_state_dict(state)
    return {"feats32": encoder(case.lonlat)}


def linear_prior(case: Case) -> Outputs:
    weight = case.array(case.entry["weights"]["class_emb.weight"]["key"])
    net = geoenc.FFN(4, len(weight), depth=0, final_activation=False).double()
    net.load_state_dict(
        {"layers.0.linear.weight": weight, "layers.0.linear.bias": weight.new_zeros(len(weight))}
    )
    encoder = geoenc.LocationEncoder(geoenc.Wrap().double(), net).eval()
    return {"class_probs64": encoder(case.lonlat).sigmoid()}


def block_diagonal(case: Case) -> Outputs:
    """theorydiag: one small matrix per scale is a block-diagonal first layer."""
    settings = case.settings
    encoder = geoenc.Space2VecTheory(**scales(settings))
    weights = case.weights((r"(post_mat|post_linear\..*)$", r"\1"), (".*", ""))
    weight = torch.block_diag(*weights["post_mat"]).T
    bias = weight.new_zeros(len(weight))
    if settings["use_post_mat"]:
        weight = weights["post_linear.weight"] @ weight
        bias = weights["post_linear.bias"]
    net = geoenc.FFN(
        encoder.out_features,
        settings["spa_embed_dim"],
        depth=0,
        activation=ACTIVATIONS.get(settings["f_act"], settings["f_act"]),
    )
    net.load_state_dict({"layers.0.linear.weight": weight, "layers.0.linear.bias": bias})
    return {"out32": geoenc.LocationEncoder(encoder, net).eval()(case.lonlat)}


def contrastive(case: Case) -> Outputs:
    """CSP: the location encoder and one linear layer for the image."""
    location = location_encoder(case)
    features = case.input("img_feats")
    image = geoenc.FFN(features.shape[1], location.out_features, depth=0, final_activation=False)
    model = geoenc.DualEncoder(location, image).eval()
    model.load_state_dict(
        case.weights(
            (FFN_KEYS[0], r"location.network.\1"),
            (r"img_dec\.(.*)", r"image.layers.0.linear.\1"),
            (r".*_emb", ""),
        )
    )
    place, picture = model(case.lonlat.float(), features)
    return {"feats": place, "img_proj": picture}


def projection(case: Case) -> Outputs:
    """GeoCLIP scales the plane by 66.50336 / 180."""
    plane = equal_earth(case.lonlat) * (66.50336 / 180)
    return {"xy64": plane, "xy32": equal_earth(case.lonlat.float()) * (66.50336 / 180)}


RUN: dict[str, Callable[[Case], Outputs]] = {
    "direct/naive": direct,
    "direct/global": direct,
    "direct/climplicit": direct,
    "direct/rad": direct_radians,
    "cartesian3d/xyz": position,
    "cartesian3d/locenc": position,
    "cartesian3d/geoprior3d": doubled_latitude,
    "wrap/locenc": wrap_radians,
    "wrap/wilds": wrap_radians,
    "wrap/aodha": wrap_extent,
    "wrap/aodha_extent": wrap_extent,
    "wrap/date": wrap_date,
    "theory/norm": theory_radians,
    "theory/locenc": theory_port,
    "spheremplus/tslegacy": sphere_legacy,
    **{f"{name}/pe": position for name in POSITIONS if name not in ("cartesian3d", "wrap", "csp")},
    **{f"{name}/full": full for name in POSITIONS if name != "csp"},
    **{f"grid_and_sphere/{name}": sphere_port for name in POSITIONS if name[:2] in ("gr", "sp")},
    "grid/head": head,
    "ffn/c": network,
    "siren/mlp": shared_mlp,
    "fcnet/c": prior,
    "sinr/c": prior,
    "sinr/linnet": linear_prior,
    "wilds_geoshift/wrap": wilds_wrap,
    "theorydiag/full": block_diagonal,
    "csp/c": contrastive,
    "geoclip/ee": projection,
}

LEFT_OUT = {
    "wrap/date1": "not implemented: a date as one linear number; CyclicTime is the circle",
    "hexagrid/pe": "not implemented: hexagridcell",
    **dict.fromkeys(("dfs/pe", "dfs/full", "dfs/tslegacy"), "not implemented: Sphere2VecDFS"),
    **dict.fromkeys(("nerf/pe", "nerf/full"), "not implemented: NeRF"),
    **dict.fromkeys(("rbf/pe", "rbf/full"), "not implemented: RBF"),
    **dict.fromkeys(("tile/pe", "tile/full"), "not implemented: Tile"),
    **dict.fromkeys(
        ("rff/pe", "rff/full", "wilds_geoshift/rff", "geoclip/gauss", "geoclip/posenc"),
        "not implemented: RFF",
    ),
    **dict.fromkeys(("geoclip/small", "geoclip_fullsize/full"), "not implemented: GeoCLIP"),
    **dict.fromkeys(
        (
            "sh_analytic_satclip/L",
            "sh_analytic/L",
            "sh_analytic/f32_L",
            "sh_closed_form/L",
            "sh_spherical_inr/n",
        ),
        "not implemented: SphericalHarmonics",
    ),
    "sh_discretized/L": "not implemented: discretised harmonics, a faulty interpolation",
    "siren/c": "not implemented: Siren",
    **dict.fromkeys(("satclip/c", "satclip_fullsize/L"), "not implemented: SatCLIP"),
    **dict.fromkeys(("climplicit/c", "climplicit_fullsize/full"), "not implemented: Climplicit"),
    **dict.fromkeys(("sinr/env", "sinr/sin_cos_env"), "not implemented: environmental rasters"),
    "herglotz/c": "not implemented: Herglotz-NET",
    "gps2vec/pe": "not implemented: GPS2Vec",
    "tte/c": "not implemented: TTE",
    "range/c": "not implemented: RANGE",
}


# --- the tests ----------------------------------------------------------------------------------

GOLDEN = Path(os.environ.get("GEOENC_SHARED", Path(__file__).parents[2] / "shared")) / "golden"


def entries() -> list[dict[str, Any]]:
    index = GOLDEN / "index.json"
    return json.loads(index.read_text())["entries"] if index.is_file() else []


def name(entry: dict[str, Any]) -> str:
    return f"{entry['file'].removesuffix('.npz')}/{entry['case']}"


def family(entry: dict[str, Any]) -> str:
    return name(entry).rstrip("0123456789")


def runs(entry: dict[str, Any]) -> bool:
    return name(entry) not in LEFT_OUT and family(entry) in RUN


@pytest.mark.parametrize("entry", [e for e in entries() if runs(e)], ids=name)
def test_entry_equals_the_published_code(shared: Path, entry: dict[str, Any]) -> None:
    with torch.no_grad():
        got = RUN[family(entry)](Case(shared / "golden", entry))
    assert got.keys() == entry["outputs"].keys()
    case = Case(shared / "golden", entry)
    for output, value in got.items():
        wanted = case.array(entry["outputs"][output]["key"]).double()
        tolerance = entry["tolerance"]
        if "atol" not in tolerance:
            tolerance = tolerance.get(output, {"atol": 2e-5, "rtol": 0.0})
        assert value.shape == wanted.shape, output
        excess = (value.double() - wanted).abs() - tolerance["rtol"] * wanted.abs()
        assert excess.max().item() <= tolerance["atol"], f"{output}: {excess.max().item():.2g}"


def test_every_entry_is_run_or_left_out_with_a_reason(shared: Path) -> None:
    known = entries()
    assert known, f"expected golden numbers in {shared / 'golden'}"
    left_out = {name(e) for e in known if {name(e), family(e)} & LEFT_OUT.keys()}
    unknown = [name(e) for e in known if not runs(e) and name(e) not in left_out]
    assert not unknown, f"neither in RUN nor in LEFT_OUT: {unknown}"
    both = RUN.keys() & LEFT_OUT.keys()
    assert not both, f"in RUN and in LEFT_OUT: {both}"
    used = {family(e) for e in known} | {name(e) for e in known}
    stale = (RUN.keys() | LEFT_OUT.keys()) - used
    assert not stale, f"without any entry: {stale}"


def test_left_out_classes_are_indeed_missing() -> None:
    """A class that arrives must come with its golden numbers."""
    for reason in LEFT_OUT.values():
        missing = reason.removeprefix("not implemented: ").partition(",")[0]
        assert not hasattr(geoenc, missing), f"{missing} exists: move its entries to RUN"
