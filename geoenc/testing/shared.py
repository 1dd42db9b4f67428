"""Made-up numbers, how they are compared, and how failures read."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

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


def gradcheck(module: nn.Module, of: Any, given: Inputs, **settings: Any) -> None:
    """``torch.autograd.gradcheck`` of a function made of the module."""
    try:
        torch.autograd.gradcheck(of, given, **settings)
    except RuntimeError as error:
        message = str(error).partition("\n")[0]
        expect(False, f"{kind(module)} to have right gradients", message, "use torch operations")


def check_shapes(
    module: Any, width: int, call: Callable[[Tensor], Tensor], refusals: tuple[type[Exception], ...]
) -> None:
    """``(..., width)`` to ``(..., out_features)``, and one of ``refusals`` of any other width."""
    device = device_of(module)
    for shape in ((width,), (5, width), (0, width), (3, 4, width)):
        wanted = (*shape[:-1], module.out_features)
        got = tuple(call(torch.zeros(shape, device=device)).shape)
        expect(
            got == wanted, f"{kind(module)} to map {shape} to {wanted}",
            got, "keep the leading dimensions and make out_features the last",
        )  # fmt: skip
    for shape in ((5, width + 1), (width + 1,)):
        try:
            call(torch.zeros(shape, device=device))
        except refusals:
            continue
        expect(False, f"{kind(module)} to refuse shape {shape}", "a result", "check shapes")


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
