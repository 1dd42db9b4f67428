"""Networks of other libraries as ours: names and shapes of their weights."""

import torch
from torch import Tensor

from geoenc.convert._checkpoint import Checkpoint
from geoenc.convert._codes import Code

State = dict[str, Tensor]


def residual(file: Checkpoint, prefix: str, code: Code, width: int, depth: int, more: int) -> State:
    """``feats``: a layer (0), its activation (1), then ``depth`` blocks of ``w1`` and ``w2``.

    ``more`` columns of time follow those of the place.
    """
    weight, bias = file.linear(f"{prefix}.0", code.columns + more, width)
    place, time = weight.split([code.columns, more], 1)
    state = {"input.weight": torch.cat([code.folded(place), time], 1), "input.bias": bias}
    for block in range(depth):
        for layer in ("w1", "w2"):
            name = f"blocks.{block}.{layer}"
            state[f"{name}.weight"], state[f"{name}.bias"] = file.linear(
                f"{prefix}.{block + 2}.{layer}", width, width
            )
    return state


def siren(
    file: Checkpoint, prefix: str, code: Code, hidden: int, depth: int, outputs: int
) -> State:
    """``layers`` and ``last_layer``, as here."""
    state: State = {}
    inputs = code.columns
    for layer in range(depth):
        weight, bias = file.linear(f"{prefix}layers.{layer}", inputs, hidden)
        weight = code.folded(weight) if layer == 0 else weight
        state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"] = weight, bias
        inputs = hidden
    weight, bias = file.linear(f"{prefix}last_layer", hidden, outputs)
    return {**state, "last_layer.weight": weight, "last_layer.bias": bias}
