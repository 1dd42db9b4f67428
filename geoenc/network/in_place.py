"""When the layers of a network may be computed in place, by kernels, as nobody sees them."""

from typing import Any

import torch
from torch import Tensor, nn

from geoenc.native import WORTH_BUILDING, is_plain, load_kernels
from geoenc.network.base import Network
from geoenc.network.dropout import Dropout


def kernels_for(network: Network, x: Tensor, width: int) -> Any:
    """The kernels of `geoenc.native`, or None where the layers of the network have to be called.

    They have to for few numbers, with gradients or dropout, under a compiler, a transform or
    autocast, on other devices and in other dtypes, and where a layer has a hook. The network itself
    knows whether its layers are still those that it made.

    Args:
        network: with layers in float32.
        x: its input.
        width: of its widest layer.
    """
    if not is_plain(x):  # before anything is asked about the shape, which an exporter would note
        return None
    if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
        return None
    if torch.is_autocast_enabled("cpu") or x.shape[-1:] != (network.in_features,):
        return None
    if x.numel() // network.in_features * width < WORTH_BUILDING:
        return None
    for layer in network.modules():
        watched = layer._forward_hooks or layer._forward_pre_hooks
        if layer is not network and watched:
            return None
        if isinstance(layer, Dropout) and layer.training and layer.p > 0:
            return None
        if any(one.dtype != torch.float32 for one in layer._parameters.values() if one is not None):
            return None
    return load_kernels()


def is_linear(layer: nn.Module) -> bool:
    """Whether it is torch's own layer W x + b, not one that took its place."""
    return type(layer) is nn.Linear and layer.bias is not None
