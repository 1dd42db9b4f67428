"""Real orthonormal spherical harmonics of any degree, by one recurrence over the degree.

The longitude enters only through cos(m lon) and sin(m lon), so the recurrence of the normalised
Legendre functions holds for the harmonics themselves, at a point (x, y, z) of the unit sphere:

    Y(0, 0)  = 1 / sqrt(4 pi)
    Y(l, m)  = A z Y(l-1, m) - C Y(l-2, m)                                  |m| < l
    Y(l, -l) = D (x Y(l-1, 1-l) + y Y(l-1, l-1))
    Y(l, l)  = D (x Y(l-1, l-1) - y Y(l-1, 1-l))

    A = sqrt((4 l^2 - 1) / (l^2 - m^2))
    C = sqrt((2 l + 1) ((l-1)^2 - m^2) / ((2 l - 3) (l^2 - m^2)))           0 for |m| = l - 1
    D = sqrt((2 l + 1) / (2 l)); for l = 1 it is sqrt(3), and Y(0, 0) has no sine part

No trigonometry, no factorials, no powers, and nothing singular at the poles.

The numbers of degree l are a slab of 2 l + 1 rows, one for each order. `_formula` says all this
in plain operations and is the truth. `Recurrence` does the same in place, a block of points at a
time, while the slabs are in cache; `Recurrence.gradient` runs it backwards. `native` is a kernel
for the processor, which takes order after order; `spherical_harmonics` uses it for many points.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geoenc._memory import new
from geoenc.native import WORTH_BUILDING, in_parts, is_plain, load_kernels, past_cache

HIGHEST = 180
"""Degree up to which a line of every column stays in the cache of a core."""

_STAGED = 2**18
"""Numbers that are laid out where the output cannot be written at once."""

_FIRST = 1 / math.sqrt(4 * math.pi)


def spherical_harmonics(xyz: Tensor, degree: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Y(l, m) for l = 0 .. degree and m = -l .. l, in column l^2 + l + m.

    Orthonormal: the integral of Y(l, m)^2 over the sphere is 1. No Condon-Shortley phase: degree 1
    is sqrt(3 / 4 pi) (y, z, x). Off the unit sphere the values mean nothing.

    Args:
        xyz: unit vectors, as of `geoenc.coordinates.to_xyz`. The recurrence is in their dtype (the
            kernel's in float64).
            Largest errors: 1e-12 in float64 up to degree 100; in float32, near the poles, 1e-5
            at degree 10, 1e-4 at 40 and 1e-3 at 100.
        degree: the largest l.
        dtype: of the result; that of ``xyz`` if absent.

    Shape:
        ``(..., 3)`` to ``(..., (degree + 1)^2)``: rows where the kernel made them, else a
        transposed view, which linear layers take without a copy. Rows of NaN give rows of NaN.

    Example:
        >>> import torch
        >>> from geoenc.harmonics import spherical_harmonics
        >>> spherical_harmonics(torch.tensor([0.0, 0.0, 1.0]), degree=1)
        tensor([0.2821, 0.0000, 0.4886, 0.0000])

    Reference:
        Holmes and Featherstone, A unified approach to the Clenshaw summation and the recursive
        computation of very high degree and order normalised associated Legendre functions,
        Journal of Geodesy 76, 2002, equations 11 to 13.
    """
    dtype = xyz.dtype if dtype is None else dtype
    if not is_plain(xyz):
        return _formula(xyz, degree).to(dtype)
    result: Tensor = _Harmonics.apply(xyz, degree, dtype)
    return result


def _formula(xyz: Tensor, degree: int) -> Tensor:
    x, y, z = xyz.unbind(-1)
    slabs = [(0 * z + _FIRST)[None]]
    for level in range(1, degree + 1):
        a, c, d = _coefficients(level, z.dtype, z.device)
        a, c = (one.reshape(-1, *[1] * z.ndim) for one in (a, c))
        last = slabs[-1]
        sine, cosine = (last[:1], last[-1:]) if level > 1 else (0 * last, last)
        inner = a * z * last
        if level > 1:
            inner = torch.cat([inner[:1], inner[1:-1] - c * slabs[-2], inner[-1:]])
        west, east = d * (x * sine + y * cosine), d * (x * cosine - y * sine)
        slabs.append(torch.cat([west, inner, east]))
    return torch.cat(slabs).movedim(0, -1)


def _coefficients(
    level: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, float]:
    """A for |m| < l as a column, C for |m| < l - 1, and D."""
    square = level * level
    m = torch.arange(1 - level, level, dtype=dtype, device=device)[:, None]
    a = ((4 * square - 1) / (square - m * m)).sqrt()
    m = m[1:-1]
    c = (2 * level + 1) / (2 * level - 3) * ((level - 1) ** 2 - m * m) / (square - m * m)
    return a, c.sqrt(), math.sqrt(3 if level == 1 else (2 * level + 1) / (2 * level))


@functools.lru_cache(maxsize=16)
def _all_coefficients(
    degree: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[Tensor, Tensor, float]]:
    return [_coefficients(level, dtype, device) for level in range(1, degree + 1)]


def block_rows(degree: int) -> int:
    """Points in a block: enough for each step to be worth its call, few enough for the cache."""
    return max(256, min(4096, 2**16 // (2 * degree + 1) // 256 * 256))


class Recurrence:
    """The recurrence in place, for blocks of at most ``rows`` points; no gradient is recorded.

    Args:
        degree: the largest l.
        rows: points in a block, at most.
        dtype: of the arithmetic; that of the result may differ.
        device: where the points are.
    """

    def __init__(self, degree: int, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        self.sizes = [2 * level + 1 for level in range(degree + 1)]
        self.coefficients = _all_coefficients(degree, dtype, device)
        self.ring = torch.empty(3, self.sizes[-1], rows, dtype=dtype, device=device)
        self.where: tuple[int, ...] = ()
        self.steps: list[tuple[Tensor, ...]] = []

    @torch.inference_mode()
    def __call__(self, xyz: Tensor, out: Tensor) -> None:
        """``(3, n)`` unit vectors to ``(columns, n)`` of any dtype, whose rows should be dense."""
        n = xyz.shape[1]
        if out.dtype == xyz.dtype:
            for _ in self._run(xyz, self._views((out.data_ptr(), n, out.stride(0)), out)):
                pass
            return
        done = self._run(xyz, self._views((0, n), None))
        for narrow, slab in zip(out.split(self.sizes), done, strict=True):
            narrow.copy_(slab)

    def _views(self, where: tuple[int, ...], table: Tensor | None) -> list[tuple[Tensor, ...]]:
        """For each degree the slab and the one before, with parts: making them costs time.

        They lie in a table of all columns, or in turns in the ring, and are kept while ``where``,
        which says so, is the same.
        """
        if where == self.where:
            return self.steps
        if table is None:
            ring = self.ring[:, :, : where[1]]
            slabs = [ring[level % 3, :size] for level, size in enumerate(self.sizes)]
        else:
            slabs = list(table.split(self.sizes))
        steps: list[tuple[Tensor, ...]] = [(slabs[0],)]
        for level in range(1, len(slabs)):
            last, slab = slabs[level - 1], slabs[level]
            inner = slab[1:-1]
            both = [_ends(last), _ends(slab)] if level > 1 else [last, slab[::2]]
            before = slabs[level - 2] if level > 1 else last[:0]
            steps.append((slab, last, inner, before, inner[1:-1], *both, slab[0], slab[-1],
                          last[0], last[-1]))  # fmt: skip
        self.where, self.steps = where, steps
        return steps

    def _run(self, xyz: Tensor, views: list[tuple[Tensor, ...]]) -> Iterator[Tensor]:
        """Fill one slab after the other, each from the two before it."""
        x, y, z = xyz
        zero = xyz.new_zeros(())
        (first,), *steps = views
        torch.mul(z, 0, out=first[0]).add_(_FIRST)
        yield first
        for (a, c, d), step in zip(self.coefficients, steps, strict=True):
            slab, last, inner, before, middle, ends_before, ends, west, east, sine, cosine = step
            torch.mul(last, z, out=inner).mul_(a)
            if len(before) == 0:
                torch.mul(cosine, y, out=west).mul_(d)
                torch.mul(cosine, x, out=east).mul_(d)
            else:
                middle.addcmul_(before, c, value=-1)
                torch.addcmul(zero, ends_before, x, value=d, out=ends)
                west.addcmul_(cosine, y, value=d)
                east.addcmul_(sine, y, value=-d)
            yield slab

    @torch.inference_mode()
    def gradient(self, xyz: Tensor, value: Tensor, grad: Tensor) -> Tensor:
        """Of the sum of ``value * grad`` over rows, by xyz, ``(3, n)``; ``grad`` is used up.

        The recurrence backwards: each slab of ``grad`` is handed on to the two before it.
        """
        x, y, z = xyz
        n = xyz.shape[1]
        by_x, by_y, by_z = xyz.new_zeros(2, n), xyz.new_zeros(n), xyz.new_zeros(n)
        values, ring = value.split(self.sizes), self.ring[0, :, :n]
        steps = self._views((grad.data_ptr(), n, grad.stride(0)), grad)
        for level in range(len(values) - 1, 0, -1):
            (a, c, d), last = self.coefficients[level - 1], values[level - 1]
            _, passed, inner, before, middle, both_passed, both, west, east, sine, cosine = steps[
                level
            ]
            product = torch.mul(inner, last, out=ring[: len(last)])
            by_z.addmv_(product.mT, a[:, 0])
            if level == 1:
                by_x[1].addcmul_(east, last[0], value=d)
                by_y.addcmul_(west, last[0], value=d)
                break
            before.addcmul_(middle, c, value=-1)
            passed.addcmul_(inner.mul_(a), z)
            by_x.addcmul_(both, _ends(last), value=d)
            by_y.addcmul_(west, last[-1], value=d).addcmul_(east, last[0], value=-d)
            both_passed.addcmul_(both, x, value=d)
            sine.addcmul_(east, y, value=-d)
            cosine.addcmul_(west, y, value=d)
        return torch.stack([by_x.sum(0), by_y, by_z])


def _ends(slab: Tensor) -> Tensor:
    """The two rows m = -l and m = l."""
    return slab[:: len(slab) - 1]


class Kernel:
    """Harmonics and their slopes by `geoenc.native`, float64 inside; see `native`."""

    def __init__(self, kernels: Any, degree: int) -> None:
        self.kernels, self.degree, self.columns = kernels, degree, (degree + 1) ** 2
        self.coefficients = _by_order(degree)

    def __call__(self, places: Tensor, out: Tensor) -> None:
        """Unit vectors ``(n, 3)``, or degrees ``(n, 2)``, into ``(n, columns)``.

        The places are float64 with any strides, the result is float32 or float64.
        """
        if out.stride(1) != 1:
            step = max(_STAGED // self.columns, 1)
            for some, into in zip(places.split(step), out.split(step), strict=True):
                dense = torch.empty(into.shape, dtype=out.dtype)
                self(some, dense)
                into.copy_(dense)
            return
        first, size, large = places.data_ptr(), out.itemsize, past_cache(out)

        def work(start: int, rows: int) -> None:
            self.kernels.geoenc_harmonics(
                first + 8 * places.stride(0) * start, places.shape[1], rows, *places.stride(),
                self.degree, self.coefficients.data_ptr(),
                out.data_ptr() + size * out.stride(0) * start, out.stride(0), size == 4, large,
            )  # fmt: skip

        in_parts(len(places), out.numel(), work)

    def slopes(self, xyz: Tensor, grad: Tensor) -> Tensor:
        """Of the sum of values times ``grad``, ``(n, columns)``, by xyz: ``(n, 3)`` float64."""
        grad = grad.contiguous()
        out = torch.empty(3, len(xyz), dtype=torch.float64)

        def work(start: int, rows: int) -> None:
            self.kernels.geoenc_harmonics_slopes(
                xyz.data_ptr() + 8 * xyz.stride(0) * start, rows, *xyz.stride(),
                self.degree, self.coefficients.data_ptr(),
                grad.data_ptr() + grad.itemsize * grad.stride(0) * start, grad.stride(0),
                grad.itemsize == 4, out.data_ptr() + 8 * start, len(xyz),
            )  # fmt: skip

        in_parts(len(xyz), grad.numel(), work)
        return out.mT


def native(degree: int, device: torch.device, dtype: torch.dtype) -> Kernel | None:
    """The kernel, or None where there is none for this degree, device or dtype of the result."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.float64) or degree > HIGHEST:
        return None
    kernels = load_kernels()
    return None if kernels is None else Kernel(kernels, degree)


@functools.lru_cache(maxsize=16)
def _by_order(degree: int) -> Tensor:
    """What the kernel reads: for m = 0, 1, ... the factor D, then A and C for each l > m."""
    level = torch.arange(degree + 1, dtype=torch.float64)
    parts = []
    for m in range(degree + 1):
        square = level[m + 1 :] ** 2
        a = (4 * square - 1) / (square - m * m)
        c = (2 * level + 1)[m + 1 :] * ((level[m + 1 :] - 1) ** 2 - m * m)
        c = c / ((2 * level - 3)[m + 1 :] * (square - m * m))
        d = _FIRST if m == 0 else _coefficients(m, torch.float64, level.device)[2]
        parts += [level.new_tensor([d]), torch.stack([a, c], 1).sqrt().flatten()]
    return torch.cat(parts)


class _Harmonics(torch.autograd.Function):
    """The kernel, or blocks of `Recurrence`; only points and result wait for the backward pass."""

    @staticmethod
    def forward(ctx: Any, xyz: Tensor, degree: int, dtype: torch.dtype) -> Tensor:
        points, columns = xyz.reshape(-1, 3), (degree + 1) ** 2
        ctx.degree = degree
        ctx.kernel = None
        if len(points) * columns >= WORTH_BUILDING:
            ctx.kernel = native(degree, xyz.device, dtype)
        if ctx.kernel is not None:
            table = new((len(points), columns), dtype, xyz.device)
            ctx.kernel(points.double(), table)
            ctx.save_for_backward(xyz)
            return table.view(*xyz.shape[:-1], columns)
        points = points.mT
        out = new((columns, points.shape[1]), dtype, xyz.device)
        rows = block_rows(degree)
        recurrence = Recurrence(degree, min(rows, points.shape[1]), xyz.dtype, xyz.device)
        for part, into in zip(points.split(rows, 1), out.split(rows, 1), strict=True):
            recurrence(part.contiguous(), into)
        result = out.view(len(out), *xyz.shape[:-1]).movedim(0, -1)
        ctx.save_for_backward(xyz, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        xyz, *results = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will itself be differentiated
            again = _formula(xyz, ctx.degree).to(grad.dtype)
            return torch.autograd.grad(again, xyz, grad, create_graph=True)[0], None, None
        if ctx.kernel is not None:
            slopes = ctx.kernel.slopes(xyz.reshape(-1, 3).double(), grad.flatten(0, -2))
            return slopes.to(xyz.dtype).reshape(xyz.shape), None, None
        (result,) = results
        rows, columns = block_rows(ctx.degree), grad.shape[-1]
        points, values, grads = (
            one.reshape(-1, one.shape[-1]).mT.split(rows, 1) for one in (xyz, result, grad)
        )
        rows = points[0].shape[1]
        recurrence = Recurrence(ctx.degree, rows, xyz.dtype, xyz.device)
        used = xyz.new_empty(columns * rows)
        wide = used if result.dtype == xyz.dtype else torch.empty_like(used)
        slopes = []
        for point, value, g in zip(points, values, grads, strict=True):
            if value.dtype != xyz.dtype:
                value = wide[: value.numel()].view(value.shape).copy_(value)
            g = used[: g.numel()].view(g.shape).copy_(g)
            slopes.append(recurrence.gradient(point.contiguous(), value, g))
        return torch.cat(slopes, 1).mT.reshape(xyz.shape), None, None
