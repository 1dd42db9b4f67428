"""All layers of a network by one kernel, where nobody sees what is between."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoenc.native import WORTH_BUILDING, Layer, in_parts, is_plain, load_kernels, past_cache
from geoenc.network.dropout import Dropout

if TYPE_CHECKING:
    from geoenc.network.base import Network

_FEWEST_ROWS = 64
"""Places that the kernel takes at once."""
_PRODUCTS = 32
"""Multiplications of a layer that take as long as one number of other kernels."""


def fused(network: Network, x: Tensor, out: Tensor | None = None) -> Tensor | None:
    """NN(x) by a kernel of `geoenc.native`, or None where the layers have to be called.

    They have to for few numbers, with gradients or dropout, under a compiler, a transform or
    autocast, on other devices and in other dtypes, and where a layer has a hook or has taken the
    place of one that the network made.

    Args:
        network: with layers in float32.
        x: its input.
        out: where to write, ``(rows of x, out_features)``; made if absent.
    """
    if not is_plain(x):  # before anything is asked about the shape, which an exporter would note
        return None
    if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
        return None
    if torch.is_autocast_enabled("cpu") or x.shape[-1:] != (network.in_features,):
        return None
    if out is not None and (out.dtype != torch.float32 or out.stride(1) != 1):
        return None
    rows = x.numel() // network.in_features
    parts = (part for part in network.modules() if part is not network)
    if rows < _FEWEST_ROWS or any(map(is_changed, parts)):
        return None
    made = network.fused_layers()
    layers = [layer for layer in made if layer is not None]
    numbers = rows * sum(layer.inputs * layer.outputs for layer in layers) // _PRODUCTS
    if numbers < WORTH_BUILDING or len(layers) < len(made) or not _fit(network, layers):
        return None
    kernels = load_kernels()
    if kernels is None:
        return None
    x, shape = x.reshape(-1, network.in_features), x.shape[:-1]
    x = x if 1 in x.stride() else x.contiguous()
    y = torch.empty(rows, network.out_features) if out is None else out
    in_a_row = (Layer * len(layers))(*layers)
    large, given, taken = past_cache(y), x.stride(), y.stride(0)

    def work(start: int, count: int) -> None:
        kernels.geoenc_layers(
            x.data_ptr() + 4 * given[0] * start, count, *given, ctypes.addressof(in_a_row),
            len(layers), y.data_ptr() + 4 * taken * start, taken, large,
        )  # fmt: skip

    in_parts(rows, numbers, work)
    return y.view(*shape, network.out_features)


def is_changed(layer: nn.Module) -> bool:
    """Whether something is done in a layer, or seen of it, that the kernel leaves out."""
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__:
        return True
    if isinstance(layer, Dropout) and layer.training and layer.p > 0:
        return True
    return any(
        type(one) is not nn.Parameter
        or one.dtype != torch.float32
        or one.device.type != "cpu"
        or not one.is_contiguous()
        for one in layer._parameters.values()
        if one is not None
    )


def _fit(network: Network, layers: list[Layer]) -> bool:
    """Whether each layer takes what the one before gives; otherwise torch says what is wrong."""
    widths = [network.in_features, *[layer.outputs for layer in layers]]
    skipped = [widths[max(i + 1 - layer.skip, 0)] for i, layer in enumerate(layers)]
    return widths[-1] == network.out_features and all(
        layer.inputs == width and (layer.skip == 0 or layer.outputs == skip)
        for layer, width, skip in zip(layers, widths, skipped, strict=False)
    )


def as_layer(
    linear: nn.Module,
    *,
    slope: float = 1.0,
    turns: float = 0.0,
    skip: int = 0,
    norm: nn.LayerNorm | None = None,
) -> Layer | None:
    """norm(act(W x + b) + skip), as the kernel reads it; None if W is not a layer of torch's own.

    Args:
        linear: W and b.
        slope: what act multiplies negative numbers with.
        turns: where not zero, act is sin(2 pi turns x).
        skip: 1 for the input of this layer, 2 for that of the layer before, 0 for none.
        norm: of a row, with scale and shift.
    """
    if type(linear) is not nn.Linear:
        return None
    outputs, inputs = linear.weight.shape
    if linear.bias is not None and linear.bias.shape != (outputs,):
        return None
    if norm is not None and {norm.normalized_shape, norm.weight.shape, norm.bias.shape} != {
        (outputs,)
    }:
        return None
    return Layer(
        weight=linear.weight.data_ptr(),
        bias=None if linear.bias is None else linear.bias.data_ptr(),
        scale=None if norm is None else norm.weight.data_ptr(),
        shift=None if norm is None else norm.bias.data_ptr(),
        inputs=inputs,
        outputs=outputs,
        skip=skip,
        slope=slope,
        epsilon=0.0 if norm is None else norm.eps,
        turns=turns,
    )
