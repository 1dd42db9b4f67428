"""Every column of a sinusoidal encoder as a product of two sines, in one compiled pass.

    out_j = amplitude sin 2 pi (a_j . c + p_j) sin 2 pi (b_j . c + q_j)

With p = 1/4 a sine is a cosine, and with b = 0, q = 1/4 the second factor is one. So the order of
the columns is the order of the parameters, and a block is written once, without intermediates.
This is the fast way to fill large arrays; `PositionEncoder.encode` is the formula and the truth.
"""

import logging
import types
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_SINE = (6.28318516, -41.34165503, 81.60100406, -76.54978208, 39.53670433)
"""sin(2 pi r) / r in powers of r^2 for |r| <= 1/4: made by ``benchmarks/speed/fit_sine.py``."""

Fill = Callable[[Tensor, Tensor], None]


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
        if self.second is None:
            return value
        return value * torch.sin(2 * torch.pi * (c @ self.second + self.second_phase))


def compiled(waves: Waves, out: Tensor) -> Fill | None:
    """A function ``fill(lonlat, out)`` for blocks shaped as ``out``, or None without a compiler.

    Compiling takes some seconds; the result is tried once, on the poles, before it is returned.
    """
    rows = len(out)
    kernel = _one_sine if waves.second is None else _two_sines
    # a code object of its own, because the compiler keeps few versions of each
    code = types.FunctionType(kernel.__code__.replace(co_name=kernel.__name__), kernel.__globals__)
    run = torch.compile(code, fullgraph=True, dynamic=False)
    parameters = [one.to(out.device) for one in waves[1:5] if isinstance(one, Tensor)]
    staged = torch.zeros(rows, 2, dtype=torch.float64, device=out.device)

    def fill(lonlat: Tensor, out: Tensor) -> None:
        if len(lonlat) == rows and out.is_contiguous():
            run(waves.coordinates(lonlat), *parameters, waves.amplitude, out)
            return
        staged[: len(lonlat)] = lonlat
        whole = torch.empty(rows, out.shape[-1], dtype=out.dtype, device=out.device)
        run(waves.coordinates(staged), *parameters, waves.amplitude, whole)
        out.copy_(whole[: len(lonlat)])

    try:
        fill(staged, out)
    except Exception as error:  # the compiler raises what it likes: none is found, it is broken
        logging.getLogger(__name__).info("no compiled waves, the plain formula is used: %s", error)
        return None
    return fill


def _sine(turns: Tensor) -> Tensor:
    """sin(2 pi t) in float32 with an error near 1.5e-7; t is float64 and may be long."""
    t = (turns - torch.round(turns)).to(torch.float32)
    half = torch.round(2 * t)
    r = t - half * 0.5
    square = r * r
    value = torch.full_like(square, _SINE[-1])
    for coefficient in _SINE[-2::-1]:
        value = value * square + coefficient
    return (1 - 2 * half.abs()) * r * value


def _phase(c: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    total = phase
    for axis in range(c.shape[-1]):
        total = total + c[:, axis, None] * frequency[axis]
    return total


def _one_sine(c: Tensor, first: Tensor, p: Tensor, amplitude: float, out: Tensor) -> None:
    out.copy_(amplitude * _sine(_phase(c, first, p)))


def _two_sines(
    c: Tensor, first: Tensor, p: Tensor, second: Tensor, q: Tensor, amplitude: float, out: Tensor
) -> None:
    out.copy_(amplitude * _sine(_phase(c, first, p)) * _sine(_phase(c, second, q)))
