"""Every column of a sinusoidal encoder as a product of two sines, in one compiled pass.

    out_j = amplitude sin 2 pi (a_j . c + p_j) sin 2 pi (b_j . c + q_j)

With p = 1/4 a sine is a cosine, and with b = 0, q = 1/4 the second factor is one. So the order of
the columns is the order of the parameters, and a block is written once, without intermediates.
This is the fast way to fill large arrays; `PositionEncoder.encode` is the formula and the truth.
"""

import logging
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_SINE = (6.28318516, -41.34165503, 81.60100406, -76.54978208, 39.53670433)
_COSINE = (0.9999999998, -19.73920855, 64.93934663, -85.45357163, 60.14401513, -24.98223784)
"""sin(2 pi r) / r and cos(2 pi r) in powers of r^2 for |r| <= 1/4: see `benchmarks.speed`."""


class Waves(NamedTuple):
    """The parameters of all columns.

    Attributes:
        coordinates: lonlat ``(n, 2)`` to c ``(n, C)``, float64.
        first, phase: a ``(C, D)`` turns per unit of c, and p ``(D,)`` turns.
        second, second_phase: b and q; None where every column is one sine.
        amplitude: of all columns.
    """

    coordinates: Callable[[Tensor], Tensor]
    first: Tensor
    phase: Tensor
    second: Tensor | None = None
    second_phase: Tensor | None = None
    amplitude: float = 1.0

    def parameters(self, device: torch.device) -> list[Tensor]:
        """What a compiled function takes after coordinates and output."""
        amplitude = torch.tensor(self.amplitude)
        given = (self.first, self.phase, amplitude, self.second, self.second_phase)
        return [one.to(device) for one in given if one is not None]

    def __call__(self, lonlat: Tensor) -> Tensor:
        """The columns by the library's sine, float64: ``(n, 2)`` to ``(n, D)``."""
        c = self.coordinates(lonlat)
        value = self.amplitude * torch.sin(2 * torch.pi * (c @ self.first + self.phase))
        if self.second is None or self.second_phase is None:
            return value
        return value * torch.sin(2 * torch.pi * (c @ self.second + self.second_phase))


def buffered(waves: Waves, rows: int, dtype: torch.dtype) -> Callable[[Tensor, Tensor], None]:
    """A function ``fill(lonlat, out)`` for blocks of at most ``rows`` places on the CPU.

    The phases are one matrix product, the sines the library's in float64. A factor that several
    columns share is taken once. All is done in buffers, because fresh memory costs more than the
    arithmetic.

    Args:
        dtype: of the products of two sines: float64 or float32.
    """
    factors = torch.cat([waves.first, waves.phase[None]])
    columns = None
    if waves.second is not None and waves.second_phase is not None:
        others = torch.cat([waves.second, waves.second_phase[None]])
        factors, which = torch.cat([factors, others], 1).unique(dim=1, return_inverse=True)
        columns = which.view(2, -1)
        narrow = torch.empty(rows, factors.shape[1], dtype=dtype)
        left, right = (torch.empty(rows, columns.shape[1], dtype=dtype) for _ in range(2))
    factors = 2 * torch.pi * factors
    place = torch.ones(rows, len(factors), dtype=torch.float64)
    wide = torch.empty(rows, factors.shape[1], dtype=torch.float64)

    def fill(lonlat: Tensor, out: Tensor) -> None:
        n = len(lonlat)
        place[:n, :-1] = waves.coordinates(lonlat)
        sine = torch.mm(place[:n], factors, out=wide[:n]).sin_()
        if waves.amplitude != 1:
            sine.mul_(waves.amplitude)
        if columns is None:
            out.copy_(sine)
            return
        narrow[:n] = sine
        product = out if out.is_contiguous() and out.dtype == dtype else left[:n]
        torch.index_select(narrow[:n], 1, columns[0], out=product)
        product.mul_(torch.index_select(narrow[:n], 1, columns[1], out=right[:n]))
        if product is not out:
            out.copy_(product)

    return fill


def compiled(
    waves: Waves, rows: int, device: torch.device
) -> Callable[[Waves, Tensor, Tensor], None] | None:
    """A function ``fill(waves, lonlat, out)`` for blocks of at most ``rows`` places, float32 out.

    It serves all waves with as many parameters as those given.

    Returns:
        None where nothing can be compiled: there is no compiler, or it fails.
    """
    staged = torch.zeros(rows, 2, dtype=torch.float64, device=device)
    whole = torch.empty(rows, waves.first.shape[1], device=device)

    def one(c: Tensor, out: Tensor, a: Tensor, p: Tensor, amplitude: Tensor) -> None:
        out.copy_(amplitude * _sine(_phase(c, a, p)))

    def two(
        c: Tensor, out: Tensor, a: Tensor, p: Tensor, amplitude: Tensor, *other: Tensor
    ) -> None:
        out.copy_(amplitude * _sine(_phase(c, a, p)) * _sine(_phase(c, *other)))

    run = one if waves.second is None else two
    fast = _compiled(run, waves.coordinates(staged), whole, *waves.parameters(device))
    if fast is None:
        return None

    def fill(waves: Waves, lonlat: Tensor, out: Tensor) -> None:
        parameters = waves.parameters(device)
        if len(lonlat) == rows and out.is_contiguous() and out.dtype == torch.float32:
            fast(waves.coordinates(lonlat), out, *parameters)
            return
        staged[: len(lonlat)] = lonlat
        fast(waves.coordinates(staged), whole, *parameters)
        out.copy_(whole[: len(lonlat)])

    return fill


def compiled_rows(
    formula: Callable[[Tensor], Tensor], rows: int, device: torch.device
) -> Callable[[Tensor], Tensor] | None:
    """``formula``, ``(2, n)`` to ``(D, n)``, compiled for at most ``rows`` places, or None.

    Returns:
        A function from lonlat ``(n, 2)`` to the transposed view ``(n, D)``.
    """
    staged = torch.zeros(2, rows, dtype=torch.float64, device=device)
    fast = _compiled(formula, staged)
    if fast is None:
        return None

    def code(lonlat: Tensor) -> Tensor:
        staged[:, : len(lonlat)] = lonlat.T
        return fast(staged).T[: len(lonlat)]

    return code


def _compiled(function: Callable[..., Any], *trial: Tensor) -> Callable[..., Any] | None:
    """Compiled and tried once, or None.

    With a code object of its own, because the compiler keeps few versions of each.
    """
    copy: Any = types.FunctionType(
        function.__code__.replace(), function.__globals__, closure=function.__closure__
    )
    options: Any = {"cpp.enable_floating_point_contract_flag": "fast"}
    try:
        fast = torch.compile(copy, fullgraph=True, dynamic=False, options=options)
        fast(*trial)
    except Exception as error:  # the compiler raises what it likes
        logging.getLogger(__name__).info("nothing compiled, the plain formula is used: %s", error)
        return None
    return fast


def fused_sin_cos(turns: Tensor) -> tuple[Tensor, Tensor]:
    """sin(2 pi t) and cos(2 pi t) in float32 by polynomials, for compiled graphs."""
    sign, r = _reduced(turns)
    square = r * r
    return sign * r * _polynomial(square, _SINE), sign * _polynomial(square, _COSINE)


def _sine(turns: Tensor) -> Tensor:
    """sin(2 pi t) in float32 with an error near 2e-7; t is float64 and may be long."""
    sign, r = _reduced(turns)
    return sign * r * _polynomial(r * r, _SINE)


def _reduced(turns: Tensor) -> tuple[Tensor, Tensor]:
    """Sign and r, |r| <= 1/4, with sin 2 pi t = sign sin 2 pi r, and so the cosine."""
    t = (turns - torch.round(turns)).to(torch.float32)
    half = torch.round(2 * t)
    return 1 - 2 * half.abs(), t - half * 0.5


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def _phase(c: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    total = phase
    for axis in range(c.shape[-1]):
        total = total + c[:, axis, None] * frequency[axis]
    return total
