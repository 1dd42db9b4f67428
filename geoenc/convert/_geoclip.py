"""GeoCLIP's location encoder, and TaxaBind's, which is the same."""

import os
import re

from torch import Tensor

from geoenc.convert._checkpoint import Checkpoint
from geoenc.encoder import LocationEncoder, SumEncoder
from geoenc.network import FFN
from geoenc.position import RFF


def geoclip(path: str | os.PathLike[str]) -> SumEncoder:
    """Sum over scales of MLP([cos(2 pi B c), sin(2 pi B c)]) of GeoCLIP, with equal numbers.

    The file is ``location_encoder_weights.pth``, or the state dict of the whole model, whose
    image encoder is left out. Ours takes longitude first, as everywhere. Embeddings have any
    length: normalise them for similarities.

    Args:
        path: weights named ``LocEnc0.capsule.0.b`` and so on, perhaps below a common name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that contradicts itself; all differences are listed.

    Example:
        >>> import geoenc
        >>> geoenc.convert.geoclip("absent.pth")
        Traceback (most recent call last):
        FileNotFoundError: expected a file with weights, got 'absent.pth', which is no file...

    Reference:
        Vivanco Cepeda, Nayak and Shah, GeoCLIP, NeurIPS 2023.

    Differs:
        The Equal Earth plane is computed in float64; the original takes the root of 3 in float32,
        which moves the finest embedding by 2e-4.
    """
    file = Checkpoint.open(path, "GeoCLIP's location encoder")
    above = {m[1] for key in file.tensors if (m := re.match(r"(.*?)LocEnc\d+\.", key))}
    prefix = min(above, default="")
    file.merge(re.escape(prefix) + "LocEnc", "LocEnc")
    if prefix:
        file.drop(r"image_encoder\.|logit_scale$|gps_(queue|gallery)")
    count = 0
    while any(key.startswith(f"LocEnc{count}.") for key in file.tensors):
        count += 1
    rows, state = file.size("LocEnc0.capsule.0.b", 0), {}
    hidden = file.size("LocEnc0.capsule.1.weight", 0)
    outputs = file.size("LocEnc0.head.0.weight", 0)
    spread = []
    for scale in range(max(count, 1)):
        frequency = file.take(f"LocEnc{scale}.capsule.0.b", rows, 2)
        state[f"encoders.{scale}.position.frequency"] = frequency
        spread.append(float(frequency.square().mean().sqrt()))
        state.update(_layers(file, scale, 2 * rows, hidden, outputs))
        if f"LocEnc{scale}.capsule.0.b" in file and not spread[-1] > 0:
            file.problems.append(f"LocEnc{scale}.capsule.0.b: expected frequencies, got zeros")
    file.check()
    encoders = [
        LocationEncoder(
            RFF(rows, scale=scale, plane="equal_earth"),
            FFN(
                2 * rows,
                outputs,
                hidden_features=hidden,
                depth=3,
                dropout=0.0,
                residual=False,
                layer_norm=False,
                final_activation=False,
            ),
        )
        for scale in spread
    ]
    model: SumEncoder = file.filled(
        SumEncoder(encoders),
        state,
        format="geoclip",
        paper="Vivanco Cepeda, Nayak and Shah, GeoCLIP, NeurIPS 2023",
        source="https://github.com/VicenteVivan/geo-clip",
        licence="MIT",
        training_data="MediaEval Placing Tasks 2016 (MP-16)",
        coordinates="longitude, latitude in degrees; the original takes latitude first",
    )
    return model


def _layers(
    file: Checkpoint, scale: int, inputs: int, hidden: int, outputs: int
) -> dict[str, Tensor]:
    names = [*(f"capsule.{layer}" for layer in (1, 3, 5)), "head.0"]
    widths = [inputs, hidden, hidden, hidden, outputs]
    state = {}
    for layer, name in enumerate(names):
        weight, bias = file.linear(f"LocEnc{scale}.{name}", widths[layer], widths[layer + 1])
        ours = f"encoders.{scale}.network.layers.{layer}.linear"
        state[f"{ours}.weight"], state[f"{ours}.bias"] = weight, bias
    return state
