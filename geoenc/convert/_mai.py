"""Checkpoints of TorchSpatial, CSP and Sphere2Vec: one program, grown over years."""

import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from geoenc.convert import _codes as codes
from geoenc.convert._checkpoint import Checkpoint, prefixed
from geoenc.convert._codes import Code, same, scales
from geoenc.convert._networks import State, residual
from geoenc.coordinates import as_lonlat
from geoenc.encoder import LocationEncoder
from geoenc.models import DualEncoder, LocationClassifier
from geoenc.network import FFN, Linear, ResidualNet
from geoenc.position import (
    RBF,
    RFF,
    XYZ,
    Direct,
    NeRF,
    Space2VecGrid,
    Space2VecTheory,
    Sphere2VecC,
    Sphere2VecCPlus,
    Sphere2VecDFS,
    Sphere2VecM,
    Sphere2VecMPlus,
    Tile,
    Wrap,
)
from geoenc.temporal import CyclicTime, LinearTime, TimeEncoder

ACTIVATIONS = {
    **{name: name for name in ("relu", "sigmoid", "tanh", "gelu")},
    "leakyrelu": "leaky_relu",
}
NOTHING = "none stated"


def torchspatial(
    path: str | os.PathLike[str], *, training_places: Any = None, dual: bool = False
) -> LocationClassifier | DualEncoder:
    """sigma(T e(x)) of a TorchSpatial checkpoint (``.pth.tar``), with equal numbers.

    All encoders of TorchSpatial, CSP and Sphere2Vec are read, by the name in ``spa_enc_type``.

    Args:
        path: a file with ``state_dict`` and ``params``.
        training_places: places that `geoenc.as_lonlat` reads, all that the model was trained on,
            in their order. Only ``rbf`` needs them: its file has row numbers for anchors.
        dual: give the `DualEncoder` of contrastive pre-training instead, with ``img_dec``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that contradicts itself; all differences are listed.

    Example:
        >>> import geoenc
        >>> geoenc.convert.torchspatial("absent.pth.tar")
        Traceback (most recent call last):
        FileNotFoundError: expected a file with weights, got 'absent.pth.tar', which is no file...

    Reference:
        Wu et al., TorchSpatial, NeurIPS 2024.

    Differs:
        The original rounds places to float32 before its sines; here they stay as they are given.
    """
    return _convert(
        Checkpoint.open(path, "a TorchSpatial checkpoint", settings=("params",)),
        training_places,
        dual,
        paper="Wu et al., TorchSpatial, NeurIPS 2024",
        source="https://github.com/seai-lab/TorchSpatial",
        licence="MIT",
        format="torchspatial",
    )


def csp(
    path: str | os.PathLike[str], *, training_places: Any = None, dual: bool = False
) -> LocationClassifier | DualEncoder:
    """sigma(T e(x)) of a checkpoint of CSP or Sphere2Vec (``.pth.tar``), with equal numbers.

    Args:
        path: a file with ``state_dict`` and ``params``.
        training_places, dual: as for `geoenc.convert.torchspatial`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that contradicts itself; all differences are listed.

    Reference:
        Mai et al., CSP, ICML 2023; Mai et al., Sphere2Vec, ISPRS Journal 2023.

    Differs:
        As for `geoenc.convert.torchspatial`.
    """
    return _convert(
        Checkpoint.open(path, "a CSP checkpoint", settings=("params",)),
        training_places,
        dual,
        paper="Mai et al., CSP, ICML 2023",
        source="https://github.com/gengchenmai/csp",
        licence=NOTHING,
        format="csp",
    )


def _convert(file: Checkpoint, places: Any, dual: bool, **facts: str) -> Any:
    file.merge(r"loc_enc\.", "")
    file.merge(r"spa_enc\.(feats|class_emb|user_emb)\b", r"\1")
    file.merge(r"spa_enc\.spa_postmat$", "spa_enc.post_mat")
    name = str(file.settings.get("spa_enc_type"))
    if name not in ENCODERS:
        file.problems.append(f"parameter spa_enc_type: expected one of {', '.join(ENCODERS)}")
        file.problems[-1] += f", got {name!r}"
        file.drop("")
        file.check()
    width, classes = file.whole("num_filts"), file.whole("num_classes")
    head = file.take("class_emb.weight", classes, width)
    if "user_emb.weight" in file:
        users = file.whole("num_users", default=file.size("user_emb.weight", 0))
        file.take("user_emb.weight", users, width)
    features = file.size("img_dec.weight", 1)
    image = file.linear("img_dec", features, width) if "img_dec.weight" in file or dual else None
    file.drop(r"loc_dec\.(weight|bias)$")

    build, state = ENCODERS[name](file, places)
    file.check()
    encoder = build()
    facts["training_data"] = (
        " ".join(
            str(file.settings[key]) for key in ("dataset", "meta_type") if file.settings.get(key)
        )
        or "unknown"
    )
    facts["coordinates"] = "longitude, latitude in degrees, as in the original"
    facts["encoder"] = name
    if not dual or image is None:
        model: Any = LocationClassifier(encoder, classes)
        return file.filled(model, {**prefixed("encoder", state), "head.weight": head}, **facts)
    model = DualEncoder(encoder, Linear(features, width))
    weights = {"image.linear.weight": image[0], "image.linear.bias": image[1]}
    return file.filled(model, {**prefixed("location", state), **weights}, **facts)


# --- encoders by their names: what builds ours, and its weights ---------------------------------

Made = tuple[Callable[[], LocationEncoder], State]
Encoder = Callable[[Checkpoint, Any], Made]


def _ffn(make: Callable[[Checkpoint, Any], Code]) -> Encoder:
    """A position code and the feed-forward network."""

    def encoder(file: Checkpoint, places: Any) -> Made:
        code = make(file, places)
        depth, hidden = file.whole("num_hidden_layer", most=1000), file.whole("hidden_dim")
        settings: dict[str, Any] = {
            "hidden_features": max(hidden, 1),
            "depth": depth,
            "activation": file.choice("spa_f_act", ACTIVATIONS),
            "dropout": file.dropout(),
            "residual": file.flag("skip_connection", default=True),
            "layer_norm": file.flag("use_layn", default=True),
        }
        state: State = {}
        widths = [code.columns, *[hidden] * depth, file.whole("num_filts")]
        for layer, (before, after) in enumerate(pairwise(widths)):
            weight, bias = file.linear(f"spa_enc.ffn.layers.{layer}.linear", before, after)
            state[f"layers.{layer}.linear.weight"] = code.folded(weight) if layer == 0 else weight
            state[f"layers.{layer}.linear.bias"] = bias
            for one in ("weight", "bias") if layer < depth and settings["layer_norm"] else ():
                key = f"layers.{layer}.layernorm.{one}"
                state[key] = file.take(f"spa_enc.ffn.{key}", after)
        if code.fold and settings["residual"] and depth and code.columns == hidden:
            file.problems.append(
                "the skip connection of the first layer adds the position code itself, whose "
                "columns have another order here: not possible with equal numbers"
            )

        def build() -> LocationEncoder:
            network = FFN(code.position.out_features, widths[-1], **settings)
            return LocationEncoder(code.position, network)

        return build, {**prefixed("position", code.state), **prefixed("network", state)}

    return encoder


def _multiscale(
    kind: Callable[..., Any], *, unit: float = 1.0, legacy: bool = False
) -> Callable[[Checkpoint, Any], Code]:
    """``unit``: of the radii here. ``legacy``: TorchSpatial's copies where min_radius is lost."""

    def code(file: Checkpoint, places: Any) -> Code:
        count = max(file.whole("frequency_num", most=4096), 1)
        start = file.settings.get("freq_init", "geometric")
        if start == "nerf" and not legacy:
            return scales(kind, count, unit / math.pi, unit / math.pi / 2 ** (count - 1))
        if start != "geometric":
            known = "'geometric'" if legacy else "'geometric' or 'nerf'"
            file.problems.append(
                f"parameter freq_init: expected {known}, got {start!r}; others, such as "
                "those drawn at random, are not in the file"
            )
        if legacy:
            return scales(kind, count, 1.0, file.real("max_radius"))
        return scales(kind, count, unit * file.real("min_radius"), unit * file.real("max_radius"))

    return code


def _nerf(file: Checkpoint, places: Any) -> Code:
    """TorchSpatial always has 16 frequencies, whatever it was asked for."""
    return same(NeRF(16))


def _nerf_as_asked(file: Checkpoint, places: Any) -> Code:
    return same(NeRF(min(max(file.whole("frequency_num", most=30), 1), 30)))


def _extent(file: Checkpoint) -> list[float]:
    value = file.settings.get("map_range")
    if (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(edge, int | float) and math.isfinite(edge) for edge in value)
        and value[0] < value[1]
        and value[2] < value[3]
    ):
        return [float(edge) for edge in value]
    file.problems.append(
        f"parameter map_range: expected west < east and south < north, got {value!r}"
    )
    return [-180.0, 180.0, -90.0, 90.0]


def _kernel(file: Checkpoint) -> float:
    """CSP writes kernal."""
    return file.real("rbf_kernal_size" if "rbf_kernal_size" in file.settings else "rbf_kernel_size")


def _rff(file: Checkpoint, places: Any) -> Code:
    """sqrt(2 / F) cos(omega c + b); the size of the kernel is the variance of omega."""
    count = max(file.whole("frequency_num"), 1)
    prefix = "spa_enc.position_encoder" if "spa_enc.position_encoder.dirvec" in file else "spa_enc"
    omega = file.take(f"{prefix}.dirvec", 2, count)
    shift = file.take(f"{prefix}.shift", count)
    scale = math.sqrt(_kernel(file)) / (2 * math.pi)
    position = RFF(count, scale=scale, shifted=True, extent=_extent(file))
    return Code(position, count, state={"frequency": omega.T / (2 * math.pi), "shift": shift})


def _rbf(file: Checkpoint, places: Any) -> Code:
    """Anchors are row numbers of the training set, as Python or NumPy integers."""
    count = max(file.whole("num_rbf_anchor_pts"), 1)
    rows = file.settings.get("rbf_anchor_pt_ids")
    position = RBF(count, _kernel(file))
    if not isinstance(rows, list) or not all(isinstance(row, int) for row in rows):
        file.problems.append("parameter rbf_anchor_pt_ids: expected row numbers, got none")
        return same(position)
    file.differs("length of rbf_anchor_pt_ids", count, len(rows))
    if places is None:
        file.problems.append(
            "anchors: the file has only their row numbers in the training set, "
            f"{rows[:3]} and so on; pass training_places=, all of them in their order"
        )
        return same(position)
    known = as_lonlat(places).reshape(-1, 2)
    if not rows or not 0 <= min(rows) <= max(rows) < len(known):
        file.problems.append(
            f"rbf_anchor_pt_ids: expected rows below {len(known)}, the number of training_places"
        )
        return same(position)
    return Code(position, count, state={"anchors": known[rows].float().double()})


def _tile(file: Checkpoint, places: Any) -> Code:
    """Released tables have one cell, because the size of the cells is lost on its way."""
    key = "spa_enc.position_encoder.embedding.weight"
    key = key if key in file else "spa_enc.embedding.weight"
    width = file.whole("num_filts")
    extent, size = [-180.0, 180.0, -90.0, 90.0], 360.0
    if file.size(key, 0) > 1:
        extent, size = _extent(file), file.real("min_radius")
    cells = math.ceil((extent[1] - extent[0]) / size) * math.ceil((extent[3] - extent[2]) / size)
    table = file.take(key, cells, width)
    if file.problems:  # a table as large as the parameters say may not fit
        return same(Tile(max(width, 1), 360.0))
    return Code(Tile(width, size, extent=extent), width, state={"table": table})


def _harmonics(file: Checkpoint, places: Any) -> Code:
    """The number of degrees is no parameter; the columns are those of SatCLIP."""
    columns = file.size("spa_enc.ffn.layers.0.linear.weight", 1)
    if math.isqrt(columns) ** 2 != columns:
        file.problems.append(f"harmonics: expected a square number of columns, got {columns}")
    return codes.harmonics(min(math.isqrt(columns), 1024), order=False, pi=True)


def _single(file: Checkpoint, code: Code, weight: Tensor, bias: Tensor) -> Made:
    """One layer with its activation."""
    activation, dropout = file.choice("spa_f_act", ACTIVATIONS), file.dropout()
    state = {"layers.0.linear.weight": code.folded(weight), "layers.0.linear.bias": bias}

    def build() -> LocationEncoder:
        width = code.position.out_features
        network = FFN(width, len(bias), depth=0, activation=activation, dropout=dropout)
        return LocationEncoder(code.position, network)

    return build, prefixed("network", state)


def _hexagonal(file: Checkpoint, places: Any) -> Made:
    """sin(a + d) = sin a cos d + cos a sin d: three phases are a linear map of the grid's two."""
    count, width = max(file.whole("frequency_num", most=4096), 1), file.whole("num_filts")
    grid = scales(Space2VecGrid, count, 1.0, file.real("max_radius"))
    shift = torch.tensor([0, 2, 4], dtype=torch.float64) * math.pi / 3
    waves = torch.stack([shift.cos(), shift.sin()], 1)
    weight, bias = file.linear("spa_enc.post_linear", 6 * count, width)
    return _single(file, grid, (weight.unflatten(1, (-1, 3)) @ waves).flatten(1), bias)


def _block_diagonal(file: Checkpoint, places: Any) -> Made:
    """One small matrix per scale: a block-diagonal layer, and perhaps a second one."""
    code = _multiscale(Space2VecTheory)(file, places)
    count, width = code.columns // 6, file.whole("num_filts")
    file.differs("remainder of num_filts by frequency_num", 0, width % count)
    blocks = file.take("spa_enc.post_mat", count, 6, width // count)
    weight, bias = torch.block_diag(*blocks).T, blocks.new_zeros(width // count * count)
    if file.flag("spa_enc_use_postmat"):
        last, bias = file.linear("spa_enc.post_linear", len(weight), width)
        weight = last @ weight
    return _single(file, code, weight, bias)


def _prior(file: Checkpoint, places: Any) -> Made:
    """The residual network of the geographic prior, perhaps with the date."""
    forms = {
        "encode_cos_sin": lambda: same(Wrap()),
        "encode_3D": codes.doubled_latitude,
        "encode_none": lambda: same(Direct()),
    }
    code = file.choice("loc_encode", forms, default="encode_cos_sin")()
    time: TimeEncoder | None = None
    if file.flag("use_date_feats", default=False):
        dates = {"encode_cos_sin": CyclicTime, "encode_none": LinearTime}
        time = file.choice("date_encode", dates, default="encode_cos_sin")()
    width, more = file.whole("num_filts"), 0 if time is None else time.out_features
    state = residual(file, "feats", code, width, 4, more)

    def build() -> LocationEncoder:
        network = ResidualNet(code.position.out_features + more, width)
        return LocationEncoder(code.position, network, time)

    return build, {**prefixed("position", code.state), **prefixed("network", state)}


_GRID, _THEORY = _ffn(_multiscale(Space2VecGrid)), _ffn(_multiscale(Space2VecTheory))
_WRAP = _ffn(lambda file, places: same(Wrap()))

ENCODERS: dict[str, Encoder] = {
    # TorchSpatial
    "Space2Vec-grid": _GRID,
    "Space2Vec-theory": _THEORY,
    "Sphere2Vec-sphereC": _ffn(_multiscale(Sphere2VecC)),
    "Sphere2Vec-sphereC+": _ffn(_multiscale(Sphere2VecCPlus)),
    "Sphere2Vec-sphereM": _ffn(_multiscale(Sphere2VecM)),
    "Sphere2Vec-sphereM+": _ffn(_multiscale(Sphere2VecMPlus, legacy=True)),
    "Sphere2Vec-dfs": _ffn(_multiscale(Sphere2VecDFS, legacy=True)),
    "NeRF": _ffn(_nerf),
    "wrap": _prior,
    "wrap_ffn": _WRAP,
    "tile_ffn": _ffn(_tile),
    "spherical_harmonics": _ffn(_harmonics),
    # CSP and Sphere2Vec
    "gridcell": _GRID,
    "theory": _THEORY,
    "sphere": _ffn(_multiscale(Sphere2VecC)),
    "spheregrid": _ffn(_multiscale(Sphere2VecCPlus)),
    "spheremixscale": _ffn(_multiscale(Sphere2VecM)),
    "spheregridmixscale": _ffn(_multiscale(Sphere2VecMPlus)),
    "dft": _ffn(_multiscale(Sphere2VecDFS)),
    "nerf": _ffn(_nerf_as_asked),
    "geo_net": _prior,
    "geo_net_fft": _WRAP,
    # both
    "gridcellnorm": _GRID,  # converts to radians a copy that nobody reads
    "theorynorm": _ffn(_multiscale(Space2VecTheory, unit=180 / math.pi)),
    "hexagridcell": _hexagonal,
    "theorydiag": _block_diagonal,
    "xyz": _ffn(lambda file, places: same(XYZ())),
    "naive": _ffn(lambda file, places: same(Direct(_extent(file)))),
    "rbf": _ffn(_rbf),
    "rff": _ffn(_rff),
}
