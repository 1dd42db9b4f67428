"""Checkpoints of Russwurm's location encoders and of SatCLIP, which carries them on."""

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

from geoenc.convert._checkpoint import Checkpoint, prefixed
from geoenc.convert._codes import RUSSWURM, Code, russwurm
from geoenc.convert._networks import State, residual, siren
from geoenc.encoder import LocationEncoder
from geoenc.network import FFN, Linear, Network, ResidualNet, Siren

Made = tuple[Callable[[], Network], State]
PARAMETERS = (
    *("positional_encoding_name", "neural_network_name", "harmonics_calculation"),
    *("legendre_polys", "frequency_num", "min_radius", "max_radius"),
    *("num_classes", "dim_hidden", "num_layers", "dropout"),
)
COORDINATES = "longitude, latitude in degrees, as in the original"


def satclip(path: str | os.PathLike[str], **parameters: Any) -> LocationEncoder:
    """Siren(Y(x)) of a SatCLIP checkpoint (Lightning ``.ckpt``), with equal numbers.

    The original's columns are (-1)^l Y(l, m), times pi for m = 0: both go into the first weight.
    The image tower is left out. Embeddings have any length: normalise them for similarities.

    Args:
        path: a checkpoint, or a state dict with the network (``nnet``) alone.
        parameters: what the file does not state, by the original's names, such as
            ``harmonics_calculation="closed-form"``. They may not contradict it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that contradicts itself; all differences are listed.

    Example:
        >>> import geoenc
        >>> geoenc.convert.satclip("absent.ckpt")
        Traceback (most recent call last):
        FileNotFoundError: expected a file with weights, got 'absent.ckpt', which is no file...

    Reference:
        Klemmer et al., SatCLIP, AAAI 2025.

    Differs:
        The harmonics are exact. The original's lose digits with L = 40: up to 0.03 of the
        embedding near the poles.
    """
    file = Checkpoint.open(path, "a SatCLIP checkpoint", settings=("hyper_parameters",))
    file.drop(r"model\.(visual\.|logit_scale$)")
    file.merge(r"(model\.)?(location\.)?nnet\.", "nnet.")
    renamed = {
        "le_type": ("sphericalharmonics", "positional_encoding_name"),
        "pe_type": (_network(file, "nnet"), "neural_network_name"),
        "embed_dim": (None, "num_classes"),
        "capacity": (None, "dim_hidden"),
        "num_hidden_layers": (None, "num_layers"),
    }
    _state_more(file, parameters, renamed)
    for theirs, (default, common) in renamed.items():
        value = file.settings.get(theirs, default)
        if value is not None:
            file.settings[common] = value
    return _converted(
        file,
        "nnet",
        pi=True,
        dropout=0.5,
        format="satclip",
        paper="Klemmer et al., SatCLIP, AAAI 2025",
        source="https://github.com/microsoft/satclip",
        licence="MIT",
        training_data="S2-100K: Sentinel-2 images at 100,000 places on land",
    )


def locationencoder(
    path: str | os.PathLike[str], *, before_2024: bool = False, **parameters: Any
) -> LocationEncoder:
    """NN(PE(x)) of Russwurm's library (plain state dict or Lightning ``.ckpt``), equal numbers.

    Harmonics there are (-1)^l Y(l, m). Its sphere encoders take degrees for radians and have
    every column twice, wrap has cosines first, theory swaps columns if the number of scales is
    odd: all of it goes into the first weight. The output is the original's: logits.

    Args:
        path: weights named ``neural_network``, with or without ``hyper_parameters``.
        before_2024: trained before the harmonics of m = 0 lost their factor pi, in January 2024.
        parameters: what the file does not state, by the original's names:
            ``positional_encoding_name``, ``frequency_num``, ``min_radius``, ``max_radius``,
            ``harmonics_calculation``. They may not contradict it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that contradicts itself; all differences are listed.

    Reference:
        Russwurm et al., Geographic location encoding with spherical harmonics and sinusoidal
        representation networks, ICLR 2024.
    """
    kind = "a checkpoint of the locationencoder library"
    file = Checkpoint.open(path, kind, settings=("hyper_parameters",))
    inner = file.settings.pop("hparams", {})
    file.settings = {**(inner if isinstance(inner, dict) else {}), **file.settings}
    _state_more(file, parameters)
    return _converted(
        file,
        "neural_network",
        pi=before_2024,
        dropout=0.0,
        format="locationencoder",
        paper="Rußwurm et al., Geographic location encoding, ICLR 2024",
        source="https://github.com/MarcCoru/locationencoder",
        licence="none stated",
        training_data="unknown",
    )


def _state_more(file: Checkpoint, parameters: dict[str, Any], renamed: Iterable[str] = ()) -> None:
    """Parameters of the caller beside those of the file."""
    for name, value in parameters.items():
        if name not in renamed and name not in PARAMETERS:
            known = ", ".join((*renamed, *PARAMETERS))
            file.problems.append(f"parameter {name}: expected one of {known}")
        file.differs(f"parameter {name}", value, file.settings.setdefault(name, value))


def _network(file: Checkpoint, prefix: str) -> str | None:
    """Which network the names of the weights belong to."""
    names = {
        f"{prefix}.last_layer.weight": "siren",
        f"{prefix}.class_emb.weight": "fcnet",
        f"{prefix}.features.0.weight": "mlp",
        f"{prefix}.weight": "linear",
    }
    return next((network for key, network in names.items() if key in file), None)


def _converted(
    file: Checkpoint, prefix: str, *, pi: bool, dropout: float, **facts: str
) -> LocationEncoder:
    network = _network(file, prefix)
    stated = file.settings.setdefault("neural_network_name", network)
    first, inputs, outputs = _SHAPES.get(str(stated), _SHAPES["siren"])
    name = file.choice("positional_encoding_name", {one: one for one in RUSSWURM})
    columns = file.size(f"{prefix}.{first}", 1)
    inferred = {
        "legendre_polys": math.isqrt(columns) if name == "sphericalharmonics" else None,
        "num_classes": file.size(f"{prefix}.{outputs}", 0),
        "dim_hidden": file.size(f"{prefix}.{inputs}", 0),
        "num_layers": _depth(file, prefix, str(stated)),
    }
    for parameter, value in inferred.items():
        if value is not None:
            file.settings.setdefault(parameter, value)
    code = russwurm(file, name, pi=pi)
    make = file.choice("neural_network_name", _NETWORKS)
    build, state = make(file, prefix, code, dropout)
    file.check()
    model = LocationEncoder(code.position, build())
    facts.update(coordinates=COORDINATES, encoder=f"{name}, {stated}")
    weights = {**prefixed("position", code.state), **prefixed("network", state)}
    model = file.filled(model, weights, **facts)
    return model


def _depth(file: Checkpoint, prefix: str, network: str) -> int | None:
    """Layers, as each network counts them."""
    count = 0
    if network == "siren":
        while f"{prefix}.layers.{count}.weight" in file:
            count += 1
        return count
    while f"{prefix}.features.{2 * count}.weight" in file:
        count += 1
    return max(count - 2, 0)


# --- networks: names, shapes, what builds ours --------------------------------------------------

_SHAPES = {
    "siren": ("layers.0.weight", "layers.0.weight", "last_layer.weight"),
    "fcnet": ("feats.0.weight", "feats.0.weight", "class_emb.weight"),
    "mlp": ("features.0.weight", "features.0.weight", "features.2.weight"),
    "linear": ("weight", "weight", "weight"),
}
"""Which tensor tells the columns of the code, the hidden width and the width of the output."""


def _siren(file: Checkpoint, prefix: str, code: Code, dropout: float) -> Made:
    hidden, depth = file.whole("dim_hidden"), file.whole("num_layers", most=1000)
    outputs = file.whole("num_classes")
    rate = 0.5 if file.flag("dropout", default=dropout > 0) else 0.0
    state = siren(file, f"{prefix}.", code, hidden, depth, outputs)
    width = code.position.out_features
    return (
        lambda: Siren(width, outputs, hidden_features=hidden, depth=depth, dropout=rate),
        state,
    )


def _fcnet(file: Checkpoint, prefix: str, code: Code, dropout: float) -> Made:
    hidden, outputs = file.whole("dim_hidden"), file.whole("num_classes")
    state = residual(file, f"{prefix}.feats", code, hidden, 4, 0)
    state["output.weight"] = file.take(f"{prefix}.class_emb.weight", outputs, hidden)
    width = code.position.out_features
    return lambda: ResidualNet(width, outputs, hidden_features=hidden), state


def _linear(file: Checkpoint, prefix: str, code: Code, dropout: float) -> Made:
    outputs = file.whole("num_classes")
    weight, bias = file.linear(prefix, code.columns, outputs)
    state = {"linear.weight": code.folded(weight), "linear.bias": bias}
    return lambda: Linear(code.position.out_features, outputs), state


def _mlp(file: Checkpoint, prefix: str, code: Code, dropout: float) -> Made:
    """One hidden layer, shared by all depths: here its weights are repeated."""
    hidden, outputs = file.whole("dim_hidden"), file.whole("num_classes")
    depth = file.whole("num_layers", most=1000)
    for layer in range(1, depth):
        for one in ("weight", "bias"):
            file.merge(
                rf"{prefix}\.features\.{2 * layer + 2}\.{one}$", f"{prefix}.features.2.{one}"
            )
    layers = [file.linear(f"{prefix}.features.0", code.columns, hidden)]
    layers += [file.linear(f"{prefix}.features.2", hidden, hidden)] * depth
    layers += [file.linear(f"{prefix}.features.{2 * depth + 2}", hidden, outputs)]
    state: State = {}
    for index, (weight, bias) in enumerate(layers):
        state[f"layers.{index}.linear.weight"] = code.folded(weight) if index == 0 else weight
        state[f"layers.{index}.linear.bias"] = bias

    def build() -> Network:
        return FFN(
            code.position.out_features,
            outputs,
            hidden_features=hidden,
            depth=depth + 1,
            dropout=0.0,
            residual=False,
            layer_norm=False,
            final_activation=False,
        )

    return build, state


_NETWORKS = {"siren": _siren, "fcnet": _fcnet, "linear": _linear, "mlp": _mlp}
