"""The contract of networks."""

import copy

import torch
from torch import Tensor

from geoenc.network import Network
from geoenc.testing.component import check_component
from geoenc.testing.shared import check_shapes, device_of, expect, expect_close, kind, numbers


def check_network(network: Network, *, compile: bool | str = False, export: bool = False) -> None:
    """Check everything that `geoenc.Network` promises, on a copy.

    Shapes, widths and dtypes; rows that do not see each other; gradients of the argument and of
    every parameter, in reverse and forward mode; evaluation mode without chance; rebuilding from
    configuration and weights; ``torch.func``.

    Args:
        network: on the device where it is to be checked.
        compile, export: as for `check_position_encoder`.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> geoenc.testing.check_network(geoenc.FFN(6, 3, hidden_features=8))
    """
    network = copy.deepcopy(network).float().eval()
    x = numbers(5, network.in_features, device=device_of(network))
    check_shapes(network, network.in_features, network, (ValueError, RuntimeError))
    _check_follows_dtype(network, x)
    _check_missing_rows(network, x.float())
    _check_training(network, x.float())
    check_component(network, (x.float(),), exact=(x,), compile=compile, export=export)


def _check_follows_dtype(network: Network, x: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        got = copy.deepcopy(network).to(dtype)(x.to(dtype)).dtype
        expect(got == dtype, f"{kind(network)} to follow {dtype}", got, "make no new tensors")


def _check_missing_rows(network: Network, x: Tensor) -> None:
    missing = x.clone()
    missing[1] = torch.nan
    result, whole = network(missing), network(x)
    others = [0, *range(2, len(x))]
    expect(
        bool(result[1].isnan().all()) and bool(result[others].isfinite().all()),
        f"{kind(network)} to give NaN for rows of NaN and for no others",
        f"{int(result.isnan().any(-1).sum())} rows with NaN for one",
        "let rows not see each other: no batch normalisation",
    )
    expect_close(result[others], whole[others], 1e-6, "other rows", "the result without NaN")


def _check_training(network: Network, x: Tensor) -> None:
    network = copy.deepcopy(network).train()
    network(x.clone().requires_grad_()).square().sum().backward()
    unused = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    expect(
        not unused,
        f"every parameter of {kind(network)} in use",
        f"none for {unused}",
        "remove it",
    )
    wrong = [
        key
        for key, p in network.named_parameters()
        if p.grad is not None and not bool(p.grad.isfinite().all())
    ]
    expect(not wrong, "finite gradients in training", f"others for {wrong}", "look for 0 / 0")
