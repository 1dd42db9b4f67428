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

_SINE = (6.28318527, -16.20895564, 16.76918967, -9.624604698, 3.516376009, -0.7983429494)
_COSINE = (0.9999999881, -3.739204624, 5.111852464, -3.660740908, 1.597943186, -0.4087506353)
"""sin(2 pi r) = r (1 - 4 r^2) P(r^2) and cos(2 pi r) = (1 - 16 r^2) Q(r^2) for |r| <= 1/2, with
exact zeros: P and Q by `benchmarks.speed.fit_sine`."""

_FEW = 4
"""Up to so many different second factors are taken once a place, and chosen by weights."""

_STAGED = 2**20
"""Numbers that are laid out where the output cannot be written at once."""


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


class Pass:
    """What one compiled pass over all columns takes, and how.

    The second factor is the sine of a phase; or, where few columns differ in it, a weighted sum
    of these few sines, which are taken before.

    Attributes:
        axes: of c, which the second phase depends on.
        few: b and q of the different second factors ``(C + 1, K)`` in radians, or None.
        parameters: amplitude, a, p, and those of the second factor.
    """

    def __init__(self, waves: Waves, device: torch.device) -> None:
        self.coordinates = waves.coordinates
        self.axes: tuple[int, ...] = ()
        self.few: Tensor | None = None
        parameters = [torch.tensor(waves.amplitude), waves.first, waves.phase]
        if waves.second is not None and waves.second_phase is not None:
            both = torch.cat([waves.second, waves.second_phase[None]])
            others, which = both.unique(dim=1, return_inverse=True)
            if others.shape[1] <= _FEW:
                self.few = (2 * torch.pi * others).to(device)
                weights = torch.nn.functional.one_hot(which, others.shape[1])
                parameters.append(weights.T.float().contiguous())
            else:
                self.axes = tuple(waves.second.any(1).nonzero()[:, 0].tolist())
                parameters += [waves.second[list(self.axes)], waves.second_phase]
        self.parameters = [one.to(device) for one in parameters]

    @property
    def kind(self) -> Any:
        """What a compiled pass is made for, beside the number of columns."""
        return self.axes, self.few is not None

    def operands(self, lonlat: Tensor) -> list[Tensor]:
        """c, and the few second factors if there are such."""
        c = self.coordinates(lonlat)
        if self.few is None:
            return [c]
        return [c, torch.addmm(self.few[-1], c, self.few[:-1]).sin_().float()]


def compiled(plan: Pass) -> Callable[[Pass, Tensor, Tensor], None] | None:
    """A function ``fill(plan, lonlat, out)`` for any number of places, float32 out.

    It serves all plans of one kind with as many columns.

    Returns:
        None where nothing can be compiled: there is no compiler, or it fails.
    """
    axes, few = plan.axes, plan.few is not None

    def run(out: Tensor, c: Tensor, *given: Tensor) -> None:
        chosen, (amplitude, a, p, *second) = given[:few], given[few:]
        value = amplitude * _sine(_weighted(c, a, p))
        if chosen:
            value = value * _weighted(chosen[0], second[0])
        elif second:
            value = value * _sine(_weighted(c[:, axes], *second))
        out.copy_(value)

    columns, device = plan.parameters[1].shape[1], plan.parameters[1].device
    trial = torch.zeros(64, 2, dtype=torch.float64, device=device)
    rows = [torch.empty(64, columns, device=device), *plan.operands(trial)]
    for one in rows:
        torch._dynamo.mark_dynamic(one, 0)
    fast = _compiled(run, *rows, *plan.parameters)
    if fast is None:
        return None

    def fill(plan: Pass, lonlat: Tensor, out: Tensor) -> None:
        if len(lonlat) > 1 and out.is_contiguous() and out.dtype == torch.float32:
            fast(out, *plan.operands(lonlat), *plan.parameters)
            return
        staged = torch.empty(max(_STAGED // columns, 2), columns, device=device)
        for start in range(0, len(lonlat), len(staged)):
            some = lonlat[start : start + len(staged)]
            count = len(some)
            some = some if count > 1 else some.expand(2, 2)
            fast(staged[: len(some)], *plan.operands(some), *plan.parameters)
            out[start : start + count] = staged[:count]

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
    r = _reduced(turns)
    square = r * r
    sine = r * (1 - 4 * square) * _polynomial(square, _SINE)
    return sine, (1 - 16 * square) * _polynomial(square, _COSINE)


def _sine(turns: Tensor) -> Tensor:
    """sin(2 pi t) in float32 with an error near 2e-7; t is float64 and may be long."""
    r = _reduced(turns)
    square = r * r
    return r * (1 - 4 * square) * _polynomial(square, _SINE)


def _reduced(turns: Tensor) -> Tensor:
    """The turns that are left, |r| <= 1/2, in float32."""
    return (turns - torch.round(turns)).to(torch.float32)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def _weighted(c: Tensor, weight: Tensor, start: Tensor | float = 0.0) -> Tensor:
    """start + c ``(n, C)`` times weight ``(C, D)``, a sum of few terms, written out."""
    total = start
    for axis in range(c.shape[-1]):
        total = total + c[:, axis, None] * weight[axis]
    return torch.as_tensor(total)
