"""Promises that every component makes, made-up numbers, and how failures read."""

import copy
import functools
import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from geoenc.component import Component

Inputs = tuple[Tensor, ...]

PLACES = (
    (-122.27, 37.87),
    (2.35, 48.86),
    (139.69, 35.68),
    (-70.67, -33.45),
    (0.0, 0.0),
    (179.99, -16.5),
    (-179.99, 66.1),
    (25.3, 89.9),
    (-3.7, -89.9),
)


def places(device: torch.device) -> Tensor:
    """Places on all continents, near the antimeridian and near both poles."""
    return torch.tensor(PLACES, dtype=torch.float64, device=device)


def times(*shape: int, device: torch.device) -> Tensor:
    """Fractions of the year, float64, at no corner of it."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count, dtype=torch.float64) * 0.37 + 0.13) % 1).view(shape).to(device)


@torch.no_grad()
def enlarged(module: nn.Module) -> None:
    """Parameters that start near zero, as the tables of a hash grid do, hide errors: up to one."""
    for parameter in module.parameters():
        largest = parameter.abs().max()
        parameter.div_(torch.where((largest > 0) & (largest < 0.01), largest, 1.0))


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
    given = tuple(x.clone().requires_grad_() for x in inputs)
    if any(result.requires_grad for result in leaves(exact(*given))):
        _gradcheck(exact, exact, given, step, slope)
    trained = {key: p for key, p in exact.named_parameters() if p.requires_grad}
    if not trained:
        return

    def of(*values: Tensor) -> Any:
        parameters = dict(zip(trained, values, strict=True))
        return torch.func.functional_call(exact, parameters, inputs)

    values = tuple(p.detach().clone().requires_grad_() for p in trained.values())
    _gradcheck(exact, of, values, 1e-6, 1.0)


def _gradcheck(module: nn.Module, of: Any, given: Inputs, step: float, slope: float) -> None:
    try:
        torch.autograd.gradcheck(
            of, given, eps=step, atol=1e-4 * slope, rtol=1e-4, check_forward_ad=True, fast_mode=True
        )
    except RuntimeError as error:
        message = str(error).partition("\n")[0]
        expect(False, f"{kind(module)} to have right gradients", message, "use torch operations")


# --- words and numbers --------------------------------------------------------------------------


def attempt(what: str, action: Callable[[], Any]) -> Any:
    """The result of ``action``, whose failure means that ``what`` does not hold."""
    try:
        return action()
    except Exception as error:
        line = str(error).strip().partition("\n")[0]
        raise AssertionError(
            f"expected {what}, got {type(error).__name__}: {line}; use torch operations, no "
            ".item() and no control flow that depends on values"
        ) from error


def leaves(result: Any) -> list[Tensor]:
    """The tensors of nested tuples, in order."""
    return [result] if isinstance(result, Tensor) else list(chain(*map(leaves, result)))


def flat(result: Any) -> Tensor:
    """The tensors of a result side by side."""
    return torch.cat(leaves(result), -1)


def numbers(*shape: int, device: torch.device, start: int = 0) -> Tensor:
    """Made-up numbers around zero, the same at every call, float64."""
    generator = torch.Generator().manual_seed(start)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters or buffers are."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def kind(module: nn.Module) -> str:
    """For messages."""
    return type(module).__name__


def same(a: Tensor, b: Tensor) -> bool:
    """Equal numbers, and NaN in the same places."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def expect_close(got: Tensor, wanted: Tensor, tolerance: float, what: str, like: str) -> None:
    """Within ``tolerance`` of the largest number, or of 1; NaN in the same places."""
    expect(
        got.shape == wanted.shape, f"{what} to have the shape {tuple(wanted.shape)} of {like}",
        tuple(got.shape), "keep the leading dimensions",
    )  # fmt: skip
    difference = (got.double() - wanted.double()).abs()
    difference = difference.masked_fill((got.isnan() & wanted.isnan()) | (got == wanted), 0.0)
    worst = difference.max().item() if got.numel() else 0.0
    limit = tolerance * max(1.0, wanted.nan_to_num(0.0).abs().max().item() if got.numel() else 0.0)
    expect(worst <= limit, f"{what} to equal {like}", f"a difference of {worst:.1g}", "look there")


def expect(holds: bool, expected: str, got: Any, do: str) -> None:
    """Raise AssertionError in three parts."""
    if not holds:
        raise AssertionError(f"expected {expected}, got {got}; {do}")
