"""Every column of a sinusoidal encoder as a product of two sines, in one pass.

    out_j = amplitude sin 2 pi (a_j . c + p_j) sin 2 pi (b_j . c + q_j)

With p = 1/4 a sine is a cosine, and with b = 0, q = 1/4 the second factor is one. So the order of
the columns is the order of the parameters, and a block is written once, without intermediates.
This is the fast way to fill large arrays; `PositionEncoder.encode` is the formula and the truth.
"""

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoenc.native import SINE, in_parts, load_kernels, past_cache

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


def buffered(waves: Waves, dtype: torch.dtype) -> Callable[[Tensor, Tensor], None]:
    """A function ``fill(lonlat, out)`` for blocks of places on the CPU, as a rule equally many.

    The phases are one matrix product, the sines the library's in float64. A factor that several
    columns share is taken once. All is done in buffers, because fresh memory costs more than the
    arithmetic.

    Args:
        dtype: of the products of two sines: float64 or float32.
    """
    factors = torch.cat([waves.first, waves.phase[None]])
    columns, order, p, q = torch.empty(2, 0).long(), torch.empty(0).long(), 0, 0
    if waves.second is not None and waves.second_phase is not None:
        second = torch.cat([waves.second, waves.second_phase[None]])
        factors, which = torch.cat([factors, second], 1).unique(dim=1, return_inverse=True)
        columns = which.view(2, -1)
        p, q = _outer(columns)
    left = columns.shape[1] - p * q
    if p:
        order = torch.cat([columns[0, : p * q : q], columns[1, :q], columns[:, p * q :].flatten()])
    factors = 2 * torch.pi * factors

    @functools.lru_cache(2)
    def buffers(n: int) -> tuple[Tensor, ...]:
        place, sine = (torch.ones(n, width, dtype=torch.float64) for width in factors.shape)
        widths = factors.shape[1], len(order), columns.shape[1], columns.shape[1]
        narrow, chosen, product, other = (torch.empty(n, width, dtype=dtype) for width in widths)
        shares = chosen.split((p, q, left, left), 1) if p else ()
        return place, place[:, :-1], sine, narrow, chosen, product, other, *shares

    def fill(lonlat: Tensor, out: Tensor) -> None:
        place, coordinates, sine, narrow, chosen, product, other, *shares = buffers(len(lonlat))
        coordinates.copy_(waves.coordinates(lonlat))
        torch.mm(place, factors, out=sine).sin_()
        if waves.amplitude != 1:
            sine.mul_(waves.amplitude)
        if waves.second is None:
            out.copy_(sine)
            return
        narrow.copy_(sine)
        direct = out.is_contiguous() and out.dtype == dtype
        product = out if direct else product
        if p:
            torch.index_select(narrow, 1, order, out=chosen)
            east, north, first, second = shares
            grid = product[:, : p * q].unflatten(1, (p, q))
            torch.mul(east[:, :, None], north[:, None], out=grid)
            torch.mul(first, second, out=product[:, p * q :])
        else:
            torch.index_select(narrow, 1, columns[0], out=product)
            product.mul_(torch.index_select(narrow, 1, columns[1], out=other))
        if not direct:
            out.copy_(product)

    return fill


def _outer(columns: Tensor) -> tuple[int, int]:
    """p and q, if the first p q columns are the products of p factors with the same q factors.

    Args:
        columns: which factors each column is made of, ``(2, D)``.

    Returns:
        p and q, both above 1, or 0 and 0.
    """
    first, second = columns.tolist()
    q = next((i for i, one in enumerate(first) if one != first[0]), len(first))
    p = 0
    for at in range(0, len(first) - q + 1, q):
        if len(set(first[at : at + q])) > 1 or second[at : at + q] != second[:q]:
            break
        p += 1
    return (p, q) if p > 1 and q > 1 else (0, 0)


def native(waves: Waves) -> Callable[[Tensor, Tensor], None] | None:
    """A function ``fill(lonlat, out)`` by the kernels of `geoenc.native`, float32 on the CPU.

    It takes any number of places and needs memory for their coordinates only.

    Returns:
        None where there are no kernels.
    """
    kernels = load_kernels()
    if kernels is None or len(waves.first) > 3:
        return None
    group = kernels.geoenc_group()
    phases, counts, first, second = _sines_and_cosines(waves)
    first, second = first * group, None if second is None else second * group
    axes, columns = len(waves.first), len(first)
    count = len(phases)
    reach = (2**19 - 1) / max(phases[:, :-1].abs().sum(1).max().item(), 1e-300)

    def fill(lonlat: Tensor, out: Tensor) -> None:
        total, (by_place, by_column) = out.shape[0], out.stride()
        if 1 not in (by_place, by_column) or out.dtype != torch.float32:
            step = max(_STAGED // columns, 1)
            for start in range(0, total, step):
                rows = slice(start, start + step)
                staged = torch.empty(len(out[rows]), columns)
                fill(lonlat[rows], staged)
                out[rows] = staged
            return
        places = waves.coordinates(lonlat.double()).contiguous()
        large = past_cache(out)

        def work(start: int, rows: int) -> None:
            kernels.geoenc_waves(
                places.data_ptr() + 8 * axes * start, rows, axes, reach, phases.data_ptr(),
                counts.data_ptr(), count, first.data_ptr(),
                None if second is None else second.data_ptr(), columns, waves.amplitude,
                out.data_ptr() + 4 * by_place * start, by_place, by_column, large,
            )  # fmt: skip

        in_parts(total, out.numel(), work)

    return fill


def _sines_and_cosines(waves: Waves) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Each phase once, and for each column the lines of its factors, as the kernel takes them.

    Returns:
        The different phases (a, p) ``(K, C + 1)``, first those with one term, axis by axis; how
        many these are of each axis, and how many have several terms ``(C + 1,)``; and of both
        factors ``(D,)`` the line: 2 k for the sine and 2 k + 1 for the cosine of phase k, 2 K for
        the number one.
    """
    pairs = [(waves.first, waves.phase)]
    if waves.second is not None and waves.second_phase is not None:
        pairs.append((waves.second, waves.second_phase))
    slopes = torch.cat([one for one, _ in pairs], 1).double().T
    phase = torch.cat([one for _, one in pairs]).double()
    cosine = (phase >= 0.25).long()
    one = (slopes == 0).all(1) & (phase == 0.25)
    terms = slopes != 0
    kind = torch.where(terms.sum(1) == 1, terms.long().argmax(1), len(waves.first))
    rows = torch.cat([kind[:, None], slopes, (phase - 0.25 * cosine)[:, None]], 1)[~one].numpy()
    # as bytes, because np.unique takes ten times as long with rows
    rows = np.ascontiguousarray(rows + 0.0)
    _, places, which = np.unique(
        rows.view(f"V{rows.itemsize * rows.shape[1]}")[:, 0], return_index=True, return_inverse=True
    )
    order = np.argsort(rows[places, 0], kind="stable")
    line = torch.full_like(cosine, 2 * len(places))
    line[~one] = 2 * torch.from_numpy(np.argsort(order)[which]) + cosine[~one]
    first, *second = line.split(waves.first.shape[1])
    phases = torch.from_numpy(rows[places][order])
    counts = torch.bincount(phases[:, 0].long(), minlength=len(waves.first) + 1)
    return phases[:, 1:].contiguous(), counts, first, second[0] if second else None


def compiled(waves: Waves) -> Callable[[Tensor, Tensor], None] | None:
    """A function ``fill(lonlat, out)`` by ``torch.compile``, float32, for GPUs.

    Returns:
        None where nothing can be compiled.
    """
    parameters = (waves.first, waves.phase, waves.second, waves.second_phase)
    given = [one for one in parameters if one is not None]
    device, columns = waves.first.device, waves.first.shape[1]

    def run(out: Tensor, c: Tensor, a: Tensor, p: Tensor, *second: Tensor) -> None:
        value = waves.amplitude * _sine(_weighted(c, a, p))
        if second:
            value = value * _sine(_weighted(c, *second))
        out.copy_(value)

    trial = torch.zeros(64, 2, dtype=torch.float64, device=device)
    rows = [torch.empty(64, columns, device=device), waves.coordinates(trial)]
    for one in rows:
        torch._dynamo.mark_dynamic(one, 0)
    try:
        fast = torch.compile(run, fullgraph=True, dynamic=False)
        fast(*rows, *given)
    except Exception as error:  # the compiler raises what it likes
        logging.getLogger(__name__).info("nothing compiled, the plain formula is used: %s", error)
        return None

    def fill(lonlat: Tensor, out: Tensor) -> None:
        if len(lonlat) < 2 or not out.is_contiguous() or out.dtype != torch.float32:
            out.copy_(waves(lonlat))
        else:
            fast(out, waves.coordinates(lonlat), *given)

    return fill


def _sine(turns: Tensor) -> Tensor:
    """sin(2 pi t) in float32 with an error near 2e-7; t is float64 and may be long."""
    r = (turns - torch.round(turns)).to(torch.float32)
    square = r * r
    value = square * SINE[-1] + SINE[-2]
    for coefficient in SINE[-3::-1]:
        value = value * square + coefficient
    return r * (1 - 4 * square) * value


def _weighted(c: Tensor, weight: Tensor, start: Tensor) -> Tensor:
    """start + c ``(n, C)`` times weight ``(C, D)``, a sum of few terms, written out."""
    total = start
    for axis in range(c.shape[-1]):
        total = total + c[:, axis, None] * weight[axis]
    return total
