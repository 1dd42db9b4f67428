"""Tessellating the Earth: soft Voronoi cells, tokens, a residual network."""

import os
import re

from geoenc.convert._checkpoint import Checkpoint, prefixed
from geoenc.convert._codes import Code
from geoenc.convert._networks import residual
from geoenc.encoder import LocationEncoder
from geoenc.network import ResidualNet
from geoenc.position import SoftVoronoi

_CELLS = {"_directions": "sites", "_log_tau": "log_tau", "_embeddings": "embeddings"}


def tte(path: str | os.PathLike[str], *, gate: float = 0.5) -> LocationEncoder:
    """NN(SoftVoronoi(x)) of Tessellating the Earth, with equal numbers.

    The original's embeddings have length 1: normalise these for that. Ours takes longitude
    first. The temperature is the learned one, as the original's loader has it: how far training
    had annealed it is not in its files.

    Args:
        path: ``model.safetensors``, a Lightning checkpoint, or another state dict with
            ``location``; the image tower is left out.
        gate: share of the tokens, which is in no file; published models have 0.5.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file; all differences are listed.

    Example:
        >>> import geoenc
        >>> geoenc.convert.tte("absent.safetensors")
        Traceback (most recent call last):
        FileNotFoundError: expected a file with weights, got 'absent.safetensors', which is no ...

    Reference:
        Cher et al., Tessellating the Earth, ECCV 2026.
    """
    file = Checkpoint.open(path, "a TTE model")
    above = {m[1] for key in file.tensors if (m := re.match(r"(.*?)_directions$", key))}
    prefix = min(above, default="")
    if prefix:
        file.drop(r"(model\.)?(visual\.|logit_scale$)")
        file.merge(re.escape(prefix), "")
    file.drop(r"semantic_registers\.(_img_temperature|img_to_logits\.(weight|bias))$")

    registers = "semantic_registers"
    sites, inner = file.size("_directions", 0), file.size("_embeddings", 1)
    tokens, width = (file.size(f"{registers}.registers", axis) for axis in (0, 1))
    shapes = {"_directions": (sites, 3), "_log_tau": (sites,), "_embeddings": (sites, inner)}
    state = {_CELLS[key]: file.take(key, *shape) for key, shape in shapes.items()}
    state["tokens"] = file.take(f"{registers}.registers", tokens, width)
    state["to_tokens.weight"] = file.take(f"{registers}.loc_to_logits.weight", tokens, inner)
    linear = f"{registers}.loc_to_logits.bias" in file
    if linear:
        state["to_tokens.bias"] = file.take(f"{registers}.loc_to_logits.bias", tokens)
    key = f"{registers}.log_temperature"
    one = file.tensors[key].shape if key in file and file.tensors[key].numel() == 1 else (1,)
    state["log_temperature"] = file.take(key, *one).reshape(1)
    if inner != width:
        state["projection.weight"], state["projection.bias"] = file.linear(
            f"{registers}.site_to_out", inner, width
        )
    for one_of in ("weight", "bias"):
        state[f"norm.{one_of}"] = file.take(f"{registers}.norm.{one_of}", width)

    hidden, depth = file.size("mlp.0.weight", 0), 0
    while f"mlp.{depth + 2}.w1.weight" in file:
        depth += 1
    outputs = file.size(f"mlp.{depth + 2}.weight", 0)
    cells = Code(SoftVoronoi(width, 1, site_features=1, num_tokens=1), width)
    network = residual(file, "mlp", cells, hidden, depth, 0)
    network["output.weight"] = file.take(f"mlp.{depth + 2}.weight", outputs, hidden)
    file.check()
    position = SoftVoronoi(
        width,
        sites,
        site_features=inner,
        num_tokens=tokens,
        gate=gate,
        attention="linear" if linear else "cosine",
    )
    model: LocationEncoder = file.filled(
        LocationEncoder(position, ResidualNet(width, outputs, hidden_features=hidden, depth=depth)),
        {**prefixed("position", state), **prefixed("network", network)},
        format="tte",
        paper="Cher et al., Tessellating the Earth, ECCV 2026",
        source="https://github.com/mvrl/TTE",
        licence="MIT",
        training_data="unknown",
        coordinates="longitude, latitude in degrees; the original takes latitude first",
    )
    return model
