"""Promises that every component makes."""

import copy
import functools
import json
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from geoenc.component import Component
from geoenc.testing.export import check_portable
from geoenc.testing.shared import (
    Inputs,
    attempt,
    expect,
    expect_close,
    flat,
    gradcheck,
    kind,
    leaves,
    same,
)


def check_component(
    module: Component,
    inputs: Inputs,
    *,
    exact: Inputs,
    rows: Any = slice(None),
    step: float = 1e-6,
    slope: float = 1.0,
    compile: bool | str,
    export: bool,
) -> None:
    """Everything below, on a module in evaluation mode.

    ``exact`` are its inputs in float64, and ``rows`` those whose slopes are compared with
    differences; see `check_gradients` for ``step`` and ``slope``.
    """
    check_repeatable(module, inputs)
    check_rebuilt(module, inputs)
    double = copy.deepcopy(module).double()
    check_transforms(double, exact, slope)
    check_gradients(double, tuple(x[rows] for x in exact), step, slope)
    check_portable(module, inputs, compile=compile, export=export)


def check_repeatable(module: nn.Module, inputs: Inputs) -> None:
    """The same result for the same arguments, which stay as they are."""
    before = [x.clone() for x in inputs]
    first, second = flat(module(*inputs)), flat(module(*inputs))
    expect(
        all(same(x, was) for x, was in zip(inputs, before, strict=True)),
        f"{kind(module)} to leave its argument alone", "a change", "copy it",
    )  # fmt: skip
    expect(
        same(first, second),
        f"{kind(module)} to repeat itself",
        "another result for the same argument",
        "draw numbers in the constructor and keep them as buffers",
    )


def check_rebuilt(module: Component, inputs: Inputs) -> None:
    """Configuration and weights, through JSON and safetensors, are all there is."""
    written = json.dumps(module.config, allow_nan=False)
    again: Any = Component.from_config(json.loads(written))
    expect(
        json.dumps(again.config) == written,
        f"the configuration {written} after rebuilding",
        json.dumps(again.config),
        "store every constructor argument unchanged as an attribute of the same name",
    )
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    again.load_state_dict(load(save(state)))
    again.to(inputs[0].device).train(module.training)
    expect(
        same(flat(again(*inputs)), flat(module(*inputs))),
        f"{kind(module)} to give the same result after saving and loading",
        "another one",
        "register what the result depends on as parameter or persistent buffer",
    )


def check_transforms(exact: nn.Module, inputs: Inputs, slope: float = 1.0) -> None:
    """``torch.func``: vmap over rows, and over models; forward mode as reverse mode.

    A rounding error of the inputs, 1e-14 of some hundred degrees, grows by ``slope``.
    """
    tolerance = max(1e-9, 1e-13 * slope)
    wanted = flat(exact(*inputs))
    rows = attempt(
        f"{kind(exact)} to run in torch.func.vmap", lambda: torch.func.vmap(exact)(*inputs)
    )
    expect_close(flat(rows), wanted, tolerance, "torch.func.vmap", "the direct result")
    slopes = []
    for mode in (torch.func.jacrev, torch.func.jacfwd):
        rowwise = torch.func.vmap(mode(exact, tuple(range(len(inputs)))))
        what = f"{kind(exact)} to have slopes by torch.func.{mode.__name__}"
        slopes.append(leaves(attempt(what, functools.partial(rowwise, *inputs))))
    for reverse, forward in zip(*slopes, strict=True):
        expect_close(forward, reverse, tolerance, "torch.func.jacfwd", "torch.func.jacrev")
    if next(exact.parameters(), None) is None:
        return
    twin = copy.deepcopy(exact)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.9)
    parameters, buffers = torch.func.stack_module_state([exact, twin])

    def call(parameters: Any, buffers: Any) -> Any:
        return torch.func.functional_call(exact, (parameters, buffers), inputs)

    both = leaves(torch.func.vmap(call)(parameters, buffers))
    for result, alone in zip(both, leaves(twin(*inputs)), strict=True):
        expect_close(result[1], alone, tolerance, "torch.func.vmap over models", "each by itself")


def check_gradients(exact: nn.Module, inputs: Inputs, step: float, slope: float) -> None:
    """Reverse and forward mode against finite differences of ``step`` where slopes are large.

    First with respect to the arguments, then to the parameters.
    """
    settings = {"rtol": 1e-4, "check_forward_ad": True, "fast_mode": True}
    given = tuple(x.clone().requires_grad_() for x in inputs)
    if any(result.requires_grad for result in leaves(exact(*given))):
        gradcheck(exact, exact, given, eps=step, atol=1e-4 * slope, **settings)
    trained = {key: p for key, p in exact.named_parameters() if p.requires_grad}
    if not trained:
        return

    def of(*values: Tensor) -> Any:
        parameters = dict(zip(trained, values, strict=True))
        return torch.func.functional_call(exact, parameters, inputs)

    values = tuple(p.detach().clone().requires_grad_() for p in trained.values())
    gradcheck(exact, of, values, eps=1e-6, atol=1e-4, **settings)
