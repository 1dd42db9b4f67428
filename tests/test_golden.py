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
from geoenc.position.direct import unit_extent
from geoenc.temporal import year_fraction_of_months

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
        recipe = {one["key"]: one for one in self.entry.get("weight_recipe", [])}
        for key in (*self.entry["weights"], *recipe):
            for pattern, replacement in renames:
                if re.match(pattern, key):
                    if replacement:
                        state[re.sub(pattern, replacement, key)] = (
                            splitmix(recipe[key])
                            if key in recipe
                            else self.array(self.entry["weights"][key]["key"])
                        )
                    break
            else:
                raise KeyError(f"no rename for {key}")
        return state


def splitmix(recipe: dict[str, Any]) -> Tensor:
    """Weights that are not stored: hashed counters, uniform in [-amp, amp), float64."""
    count = math.prod(recipe["shape"])
    z = np.arange(count, dtype=np.uint64) + np.uint64((recipe["stream"] << 32) + 1)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy((2 * unit - 1) * recipe["amp"]).reshape(recipe["shape"])


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
    "dfs": lambda settings: geoenc.Sphere2VecDFS(**scales(settings)),
    "nerf": lambda settings: geoenc.NeRF(settings["frequency_num"]),
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
    if isinstance(encoder, geoenc.NeRF):
        return {"freq_list": math.radians(360) / encoder.wavelengths.deg2rad()}
    turn = 360 if "Sphere2Vec" in type(encoder).__name__ else 2 * math.pi
    return {"freq_list": turn / encoder.wavelengths}


def direct(case: Case) -> Outputs:
    extent = case.settings.get("extent", [-180, 180, -90, 90])
    if "lon_min" in case.settings:
        extent = [
            case.settings[f"{axis}_{end}"] for axis in ("lon", "lat") for end in ("min", "max")
        ]
    return {"pe": code(geoenc.Direct(extent), case.lonlat)}


WEST = 180 - 180 / math.pi
RADIANS = (WEST, WEST + 360 / math.pi) * 2
"""deg2rad(x) - pi = 2 (x - w) / (e - w) - 1 with e - w = 360 / pi and w = 180 - 180 / pi."""


def direct_radians(case: Case) -> Outputs:
    return {"pe": code(geoenc.Direct(RADIANS), case.lonlat)}


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
    cyclic = case.settings["date_encode"] == "encode_cos_sin"
    time = geoenc.CyclicTime() if cyclic else geoenc.LinearTime()
    net = geoenc.Linear(4 + time.out_features, 8)
    encoder = geoenc.LocationEncoder(geoenc.Wrap(), net, time).double()
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
    """TorchSpatial's copies ignore min_radius: it is 1. Below 1 the scales run backwards."""
    low, high = sorted((1.0, case.settings["max_radius"]))
    num = case.settings["frequency_num"]
    kind = geoenc.Sphere2VecDFS if case.file == "dfs" else geoenc.Sphere2VecMPlus
    encoder = kind(num, min_radius=low, max_radius=high)
    columns = torch.arange(encoder.out_features)
    backwards = high == 1.0
    if backwards and case.file == "dfs":
        products, grid = columns[: 4 * num**2], columns[4 * num**2 :]
        products = products.view(2, num, 2, num).flip(1, 3).flatten()
        columns = torch.cat([products, grid.view(num, 4).flip(0).flatten()])
    elif backwards:
        columns = columns.view(num, 8).flip(0).flatten()
    wavelengths = encoder.wavelengths.flip(0) if backwards else encoder.wavelengths
    result = {"pe": code(encoder, case.lonlat)[:, columns]}
    if "freq_list" in case.entry["outputs"]:
        result["freq_list"] = 360 / wavelengths
    return result


def hexagonal(case: Case) -> Outputs:
    """sin(a + d) = sin a cos d + cos a sin d: three phases are a linear map of the grid's two."""
    num, high = case.settings["frequency_num"], case.settings["max_radius"]
    low, high = sorted((1.0, float(high)))
    grid = code(geoenc.Space2VecGrid(num, min_radius=low, max_radius=high), case.lonlat)
    shift = torch.tensor([0, 2, 4], dtype=torch.float64) * math.pi / 3
    three = grid.view(-1, 2, num, 2) @ torch.stack([shift.cos(), shift.sin()])
    return {"pe": (three.flip(2) if high == 1.0 else three).flatten(1)}


def random_features(case: Case, state: dict[str, Tensor]) -> geoenc.RFF:
    """omega in radians per unit is B in turns; both are given."""
    encoder = geoenc.RFF(
        case.settings["frequency_num"],
        scale=math.sqrt(case.settings["rbf_kernel_size"]) / (2 * math.pi),
        shifted=True,
        extent=case.settings["extent"],
    )
    frequency = state["dirvec"].T.double() / (2 * math.pi)
    encoder.load_state_dict({"frequency": frequency, "shift": state["shift"].double()})
    return encoder


def random_fourier(case: Case) -> Outputs:
    state = {name: case.input(name) for name in ("dirvec", "shift")}
    return {"pe": code(random_features(case, state), case.lonlat)}


def random_fourier_full(case: Case) -> Outputs:
    state = case.weights((r"position_encoder\.(.*)", r"\1"), (".*", ""))
    encoder = random_features(case, state)
    model = geoenc.LocationEncoder(encoder, ffn(encoder.out_features, case.settings)).eval()
    network = case.weights(FFN_KEYS, ("position_encoder", ""))
    position = {f"position.{key}": value for key, value in encoder.state_dict().items()}
    model.load_state_dict(network | position)
    return {"out32": model(case.lonlat)}


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
        ("user_emb|domain_predictor", ""),
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


def gaussian_encoding(case: Case) -> Outputs:
    """The matrix is given, and so are the coordinates, as places on the extent [-1, 1]."""
    encoder = geoenc.RFF(case.settings["encoded_size"], extent=(-1, 1, -1, 1))
    encoder.frequency.copy_(case.input("b"))
    return {"pe": code(encoder, case.input("v"))}


def positional_encoding(case: Case) -> Outputs:
    """Frequencies sigma^(j/m) along each axis; cosines and sines of one axis stand together."""
    m = case.settings["m"]
    coefficient = case.settings["sigma"] ** (torch.arange(m, dtype=torch.float64) / m)
    encoder = geoenc.RFF(2 * m, extent=(-1, 1, -1, 1))
    encoder.frequency.copy_(torch.block_diag(*[coefficient[None]] * 2).T)
    pe = code(encoder, case.array(case.entry["input"]["array"]))
    return {"pe": pe.unflatten(-1, (2, 2, m)).transpose(-3, -2).flatten(-3)}


def geoclip(case: Case) -> Outputs:
    settings = case.settings
    size, hidden = settings["encoded_size"], settings["hidden"]
    encoders = [
        geoenc.LocationEncoder(
            geoenc.RFF(size, scale=sigma, plane="equal_earth"),
            geoenc.FFN(
                2 * size,
                settings["dim_out"],
                hidden_features=hidden,
                depth=3,
                residual=False,
                layer_norm=False,
                final_activation=False,
            ),
        )
        for sigma in settings["sigma"]
    ]
    model = geoenc.SumEncoder(encoders).eval()
    layer = r"encoders.\1.network.layers.{}.linear.\2"
    renames = [(rf"LocEnc(\d+)\.capsule\.{2 * i + 1}\.(.*)", layer.format(i)) for i in range(3)]
    state = case.weights(
        (r"LocEnc(\d+)\.capsule\.0\.b", r"encoders.\1.position.frequency"),
        (r"LocEnc(\d+)\.head\.0\.(.*)", layer.format(3)),
        *renames,
    )
    model.load_state_dict({key: value.float() for key, value in state.items()})
    lonlat = case.lonlat.float()
    return {"out32": model(lonlat), "out64": model.double()(lonlat)}


def wilds_rff(case: Case) -> Outputs:
    """Radians, latitude first, sines before cosines; then the network and a domain predictor."""
    settings = case.settings
    encoder = geoenc.RFF(settings["mapping_size"])
    per_degree = torch.tensor([[math.pi], [math.pi / 2]], dtype=torch.float64)
    encoder.frequency.copy_((case.input("B").double().flip(0) * per_degree).T)
    net = geoenc.ResidualNet(encoder.out_features, settings["num_filts"]).eval()
    predictor = geoenc.Linear(settings["num_filts"], settings["n_domains"])
    domain = case.weights((r"domain_predictor\.(.*)", r"linear.\1"), (".*", ""))
    predictor.load_state_dict(domain)
    state = residual_state(case, prefix="")
    net.load_state_dict(
        {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
    )
    pe = torch.cat(encoder(case.lonlat.float()).chunk(2, -1)[::-1], -1)
    feats = net(pe)
    return {"pe32": pe, "feats32": feats, "domain_probs32": predictor(feats).softmax(-1)}


def siren(case: Case) -> Outputs:
    settings = case.settings
    module = geoenc.Siren(
        settings["dim_in"],
        settings["dim_out"],
        hidden_features=settings["dim_hidden"],
        depth=settings["num_layers"],
        first_frequency=settings["w0_initial"],
        frequency=settings["w0"],
    ).double()
    module.load_state_dict(case.weights((r"(.*)", r"\1")))
    x = case.array(case.entry["input"]["array"])
    if settings["degreeinput"]:
        x = code(geoenc.Direct(RADIANS), x)
    final = getattr(torch, settings["final_activation"], lambda y: y)
    return {"out64": final(module(x))}


def harmonic_factors(degree: int, calculation: str) -> Tensor:
    """SatCLIP's columns over true harmonics: antipodes, and the closed form keeps (-1)^m."""
    order = torch.cat([torch.arange(-band, band + 1) for band in range(degree + 1)])
    band = torch.repeat_interleave(torch.arange(degree + 1), 2 * torch.arange(degree + 1) + 1)
    if calculation == "closed-form":
        return (-1.0) ** (band + order).double()
    return (-1.0) ** band.double() * math.pi ** (order == 0).double()


def harmonics(case: Case) -> Outputs:
    """At the antipode; SatCLIP's columns m = 0 times pi; the closed form keeps (-1)^m."""
    encoder = geoenc.SphericalHarmonics(case.settings["legendre_polys"] - 1)
    factors = harmonic_factors(encoder.degree, case.settings["harmonics_calculation"])
    if case.file == "sh_analytic":
        factors = factors.sign()
    if case.entry["input"]["dtype"] == "float32":
        return {"pe": encoder(case.lonlat.float()) * factors}
    rows = case.input("rows") if "rows" in case.entry["inputs"] else slice(None)
    return {"pe": code(encoder, case.lonlat[rows]) * factors}


def true_harmonics(case: Case) -> Outputs:
    """The first columns, without any factor."""
    columns = case.settings["num_atoms"]
    encoder = geoenc.SphericalHarmonics(math.isqrt(columns - 1))
    return {"pe": code(encoder, case.lonlat)[:, :columns]}


def discretised_harmonics(case: Case) -> Outputs:
    """A table whose nodes lie 360 / 359 degrees apart, read as if it were 1, at two corners."""
    encoder = geoenc.SphericalHarmonics(case.settings["legendre_polys"] - 1)
    nodes = torch.cartesian_prod(torch.linspace(-180, 180, 360), torch.linspace(-90, 90, 180))
    table = (encoder(nodes) * harmonic_factors(encoder.degree, "analytic")).view(360, 180, -1)
    place = case.lonlat.float() + torch.tensor([180.0, 90.0])
    along, across = (place - place.floor())[:, :, None].unbind(1)

    def corner(index: Tensor) -> Tensor:
        column, row = index.long().unbind(-1)
        return table[column.clamp(0, 359), row.clamp(0, 179)]

    lower, upper = corner(place.floor()), corner(place.ceil())
    return {"pe": (1 - across) * ((1 - along) * lower + along * upper)}


def satclip(case: Case) -> Outputs:
    """Its own factors of the harmonics are folded into the first layer."""
    out = satclip_encoder(case, case.settings)(case.lonlat)
    return dict.fromkeys(case.entry["outputs"], out)


def satclip_encoder(case: Case, settings: dict[str, Any]) -> geoenc.LocationEncoder:
    encoder = geoenc.SphericalHarmonics(settings["legendre_polys"] - 1)
    net = geoenc.Siren(
        encoder.out_features,
        settings["embed_dim"],
        hidden_features=settings["dim_hidden"],
        depth=settings["num_layers"],
        first_frequency=settings.get("w0_initial", 30.0),
        frequency=settings.get("w0", 1.0),
        dropout=0.5,
    )
    state = case.weights((r"nnet\.(.*)", r"\1"))
    factors = harmonic_factors(encoder.degree, settings["harmonics_calculation"])
    state["layers.0.weight"] = state["layers.0.weight"] * factors
    net.double().load_state_dict(state)
    return geoenc.LocationEncoder(encoder.double(), net).eval()


def retrieval(case: Case) -> Outputs:
    """RANGE: SatCLIP in float64, a database in float32; cases without theirs have the first's."""
    settings = {"harmonics_calculation": "analytic", **case.settings}
    index = json.loads((case.folder / "index.json").read_text())["entries"]
    same_file = [entry for entry in index if entry["file"] == case.entry["file"]]
    source = Case(case.folder, next(e for e in (case.entry, *same_file) if e["inputs"]))
    model = satclip_encoder(source, settings)
    database = geoenc.RetrievalDatabase.of(
        *(source.input(key) for key in ("db_locs_lonlat", "db_satclip", "db_image"))
    )
    places = {}
    if settings.get("geo_temp") is not None:
        places = {
            "place_weight": 1 - settings["beta"],
            "place_temperature": 1 / settings["geo_temp"],
        }
    temperature = 1 / settings["temp"]
    augmented = geoenc.RetrievalAugmented(model, database, temperature=temperature, **places)
    return {"out32": augmented(case.lonlat)}


def climplicit(case: Case) -> Outputs:
    """Places are scaled in float32 arithmetic, for the network of float64 too."""
    settings = case.settings
    net = geoenc.Siren(
        settings["dim_in"],
        settings["dim_out"],
        hidden_features=settings["dim_hidden"],
        depth=settings["num_layers"],
        first_frequency=settings.get("w0_initial", 30.0),
        frequency=settings.get("w0", 1.0),
        residual=settings["residual_connections"],
        hyperbolic=settings["h_siren"],
    )
    net.double().load_state_dict(case.weights((r"(?:location_encoder\.)?(.*)", r"\1")))
    model = geoenc.LocationEncoder(geoenc.Direct(), net, geoenc.CyclicTime(-1 / 24)).eval()
    lonlat, time = case.lonlat.float(), year_fraction_of_months(case.input("month"))
    rounded = unit_extent(lonlat, model.position.extent).double() * torch.tensor([180.0, 90.0])
    result = {"out_month64": model.double()(rounded, time)}
    quarters = year_fraction_of_months([3, 6, 9, 12])[:, None].expand(4, len(lonlat))
    model.float()
    result["out_month32"] = model(lonlat, time)
    result["out_all4_32"] = torch.cat([model(lonlat, quarter) for quarter in quarters], -1)
    return {key: value for key, value in result.items() if key in case.entry["outputs"]}


def from_data(case: Case) -> Outputs:
    """Tile and RBF: the table or the anchors are given; alone or with a network."""
    settings = case.settings
    state = {}
    encoder: geoenc.PositionEncoder
    if case.file == "tile":
        width = settings.get("embed_dim", settings.get("spa_embed_dim"))
        encoder = geoenc.Tile(width, settings["interval"], extent=settings["extent"])
        table = case.weights((r".*embedding\.weight", "table"), ("ffn", ""))
        encoder.load_state_dict(table)
        state = {"position.table": encoder.table}
    else:
        assert settings.get("rbf_kernel_size_ratio", 0) == 0
        encoder = geoenc.RBF(settings["num_rbf_anchor_pts"], settings["rbf_kernel_size"])
        anchors = settings.get("anchors") or case.entry["inputs"]["anchors"]["key"]
        encoder.load_state_dict({"anchors": case.array(anchors)})
        state = {"position.anchors": encoder.anchors}
    if case.entry["kind"] == "position_encoder":
        return {"pe": code(encoder, case.lonlat)}
    model = geoenc.LocationEncoder(encoder, ffn(encoder.out_features, settings)).eval()
    model.load_state_dict({**state, **case.weights(FFN_KEYS, (".*embedding", ""))})
    result = {"out32": model(case.lonlat), "out64": model.double()(case.lonlat)}
    return {key: result[key] for key in case.entry["outputs"]}


def herglotz(case: Case) -> Outputs:
    """The float32 divisor goes into the first layer; unequal widths are filled up with zeros."""
    settings = case.settings
    widths, hidden = settings["mlp_sizes"], max(settings["mlp_sizes"])
    encoder = geoenc.Herglotz(
        settings["num_atoms"], settings["L_init"], rotation=settings["rot"]
    ).double()
    w = case.weights((r"(?:pe|mlp)\.(.*)", r"\1"))
    state = {"sigma": w["sigmas"], "directions": torch.stack([w["A_real0"], w["A_imag0"]])}
    encoder.load_state_dict({**state, **({"quaternion": w["qrot"]} if settings["rot"] else {})})
    factor = w["inv_const"] * (1 + 2 * settings["L_init"])
    net = geoenc.Siren(
        settings["num_atoms"],
        settings["output_dim"],
        hidden_features=hidden,
        depth=len(widths),
        first_frequency=settings["omega0_mlp"],
        frequency=settings["omega0_mlp"],
    ).double()
    state = {key: torch.zeros_like(value) for key, value in net.state_dict().items()}
    for index in range(len(widths) + 1):
        name = f"layers.{index}" if index < len(widths) else "last_layer"
        weight = w[f"hidden_layers.{index}.weight"] * (factor if index == 0 else 1)
        state[f"{name}.weight"][: len(weight), : weight.shape[1]] = weight
        state[f"{name}.bias"][: len(weight)] = w[f"hidden_layers.{index}.bias"]
    net.load_state_dict(state)
    pe = encoder(case.lonlat)
    return {"pe": pe * factor, "out64": net(pe)}


def soft_voronoi(case: Case) -> Outputs:
    """The annealed temperature is a plain number of the original that training moves."""
    settings = case.settings
    position = geoenc.SoftVoronoi(
        settings["output_dim"],
        settings["n_sites"],
        site_features=settings["site_embed_dim"],
        num_tokens=settings["n_registers"],
        gate=settings["gate"],
        attention="cosine" if settings["use_cosine_attention"] else "linear",
    )
    net = geoenc.ResidualNet(
        settings["output_dim"],
        settings["output_dim"],
        hidden_features=settings["hidden_dim"],
        depth=settings["n_reslayers"],
    )
    model = geoenc.LocationEncoder(position, net).double().eval()
    state = case.weights(
        (r"_directions", "position.sites"),
        (r"_(log_tau|embeddings)", r"position.\1"),
        (r"semantic_registers\.registers", "position.tokens"),
        (r"semantic_registers\.loc_to_logits\.(.*)", r"position.to_tokens.\1"),
        (r"semantic_registers\.site_to_out\.(.*)", r"position.projection.\1"),
        (r"semantic_registers\.(norm\..*|log_temperature)", r"position.\1"),
        (r"semantic_registers\.(_img|img)_.*", ""),
        (r"mlp\.0\.(.*)", r"network.input.\1"),
        (rf"mlp\.{net.depth + 2}\.(.*)", r"network.output.\1"),
        *((rf"mlp\.{i + 2}\.(.*)", rf"network.blocks.{i}.\1") for i in range(net.depth)),
    )
    progress = settings["anneal_progress"]
    temperature = state["position.log_temperature"].exp().clamp(0.01, 10)
    annealed = (1 - progress) * temperature + progress * settings["temperature_anneal_end"]
    state["position.log_temperature"] = annealed.log()
    model.load_state_dict(state)
    return {"out64": model(case.lonlat), "voronoi_weights": position.membership(case.lonlat)}


def gps2vec(case: Case) -> Outputs:
    """Columns by rows, as an image."""
    size = case.settings["ncols"], case.settings["nrows"]
    encoder = geoenc.GPS2VecCells(*size, sigma_km=case.settings["sigma_m"] / 1000)
    return {"pe": code(encoder, case.lonlat[case.input("rows")]).unflatten(-1, size)}


def environment(case: Case) -> Outputs:
    """A raster, after Wrap if that is asked for too."""
    height, width, channels = case.settings["raster_shape"]
    encoder = geoenc.Raster(channels, height=height, width=width).fit(case.input("raster"))
    codes = [code(geoenc.Wrap(), case.lonlat)] if "sin_cos" in case.settings["input_enc"] else []
    return {"pe": torch.cat([*codes, code(encoder, case.lonlat)], -1)}


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
    "dfs/tslegacy": sphere_legacy,
    "hexagrid/pe": hexagonal,
    "rff/pe": random_fourier,
    "rff/full": random_fourier_full,
    **{f"{name}/pe": position for name in POSITIONS if name not in ("cartesian3d", "wrap", "csp")},
    **{f"{name}/full": full for name in POSITIONS if name != "csp"},
    **{f"grid_and_sphere/{name}": sphere_port for name in POSITIONS if name[:2] in ("gr", "sp")},
    "grid/head": head,
    "ffn/c": network,
    "siren/mlp": shared_mlp,
    "fcnet/c": prior,
    "sinr/c": prior,
    "sinr/linnet": linear_prior,
    **dict.fromkeys(("tile/pe", "tile/full", "rbf/pe", "rbf/full"), from_data),
    "herglotz/c": herglotz,
    "tte/c": soft_voronoi,
    "gps2vec/pe": gps2vec,
    **dict.fromkeys(("sinr/env", "sinr/sin_cos_env"), environment),
    "wilds_geoshift/wrap": wilds_wrap,
    "theorydiag/full": block_diagonal,
    "csp/c": contrastive,
    "geoclip/ee": projection,
    "geoclip/gauss": gaussian_encoding,
    "geoclip/posenc": positional_encoding,
    "geoclip/small": geoclip,
    "geoclip_fullsize/full": geoclip,
    "wilds_geoshift/rff": wilds_rff,
    "siren/c": siren,
    "sh_analytic_satclip/L": harmonics,
    "sh_analytic/L": harmonics,
    "sh_analytic/f32_L": harmonics,
    "sh_closed_form/L": harmonics,
    "sh_spherical_inr/n": true_harmonics,
    "sh_discretized/L": discretised_harmonics,
    "satclip/c": satclip,
    "satclip_fullsize/L": satclip,
    "climplicit/c": climplicit,
    "climplicit_fullsize/full": climplicit,
    "range/c": retrieval,
}

LEFT_OUT: dict[str, str] = {}


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
        if "rows" in tolerance:
            limit = re.match(r"abs\(lat\)<(\d+)", tolerance["rows"])
            assert limit, f"not understood: {tolerance['rows']}"
            rows = case.lonlat[:, 1].abs() < int(limit[1])
            value, wanted = value[rows], wanted[rows]
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
