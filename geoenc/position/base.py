"""PositionEncoder: everything about a position encoder that is not mathematics."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from geoenc._memory import new
from geoenc.component import Component
from geoenc.coordinates import wide_dtype
from geoenc.native import GROUP, WORTH_BUILDING

BLOCK_ELEMENTS = 2**17
"""Numbers in a block of codes: with what is between, they stay in the cache of a core."""
KERNEL_BYTES = 2**20
"""Size of a block of a kernel, which keeps nothing between."""
DEVICE_ROWS = 65536
"""Places in a block where there is no cache to stay in, but kernels to fill."""
WIDEST = 2**24
"""Columns of the widest code: 64 MB for one place."""
WORTH_COMPILING = 2**32
"""Numbers to write on a GPU before the seconds of compiling are won back."""


def kernel_rows(columns: int, dtype: torch.dtype) -> int:
    """Places in a block that a kernel fills."""
    return min(max(KERNEL_BYTES // (columns * dtype.itemsize), 512), DEVICE_ROWS) // GROUP * GROUP


class PositionEncoder(Component, root=True):
    """PE: lonlat -> vector. The base checks shapes and keeps the arithmetic in float64.

    A subclass stores its hyperparameters, passes ``out_features`` up, declares its two properties
    and writes `encode`. Defining it registers it.

    Args:
        out_features: width of the code.

    Attributes:
        wraps_antimeridian: the code at longitude -180 equals the code at 180.
        wraps_poles: the code at a pole does not depend on the longitude.
        takes_time: places come with a time, ``forward(lonlat, time)``.
        wavelengths: encoders with scales only: ``(F,)`` degrees, finest first.

    Shape:
        ``(..., 2)`` degrees, longitude first (and time ``(...)``, a fraction of the year, if the
        encoder takes it), to ``(..., out_features)`` in the dtype of the module (float32 unless
        ``.double()``, ``.half()`` or ``.to(dtype)`` was called). NaN rows give NaN rows.

    Raises:
        ValueError: a code too wide for any memory; the last dimension is not 2; a time that is
            missing or of another shape.
    """

    wraps_antimeridian: bool = False
    wraps_poles: bool = False
    takes_time: bool = False
    _dtype_of_module: Tensor

    def __init__(self, out_features: int) -> None:
        if out_features > WIDEST:
            raise ValueError(
                f"expected a code of at most {WIDEST:,} columns, which is 64 MB for one place, got "
                f"{out_features:,}; use fewer frequencies or anchors"
            )
        super().__init__()
        self.out_features = out_features
        self.register_buffer("_dtype_of_module", torch.empty(0), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the output."""
        return self._dtype_of_module.dtype

    @property
    def working_dtype(self) -> torch.dtype:
        """float64 or float32, in which sines are taken once the phase is small."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """Encode places; see the class for shapes and dtypes. Subclasses write `encode`."""
        if lonlat.shape[-1:] != (2,):
            raise ValueError(
                f"expected lonlat of shape (..., 2) in degrees, got {tuple(lonlat.shape)}; "
                "stack longitude and latitude along the last dimension"
            )
        wide = wide_dtype(lonlat.device)
        if not self.takes_time:
            if time is not None:
                raise ValueError(
                    f"expected no time, because {type(self).__name__} encodes places only, got "
                    f"{tuple(time.shape)}; give a LocationEncoder time=CyclicTime()"
                )
            return self.encode(lonlat.to(wide)).to(self.dtype)
        if time is None or time.shape != lonlat.shape[:-1]:
            raise ValueError(
                f"expected time of shape {tuple(lonlat.shape[:-1])} (fraction of the year), got "
                f"{None if time is None else tuple(time.shape)}"
            )
        encode: Any = self.encode
        return encode(lonlat.to(wide), time.to(wide)).to(self.dtype)

    def encode(self, lonlat: Tensor) -> Tensor:
        """The formula: float64 ``(..., 2)`` degrees to ``(..., out_features)``.

        The result may be float64 or `working_dtype`; `forward` narrows it to the module's dtype.
        An encoder with ``takes_time`` has the time, ``(...)`` float64, as second argument.
        """
        raise NotImplementedError

    @torch.no_grad()
    def write(
        self,
        lonlat: Tensor,
        out: Tensor | None = None,
        *,
        time: Tensor | None = None,
        compile: bool | None = None,
    ) -> Tensor:
        """The codes of many places written into ``out``, block by block, without gradient.

        The same numbers as ``forward`` to 1e-6, with no more than some megabytes beside ``out``.

        Args:
            lonlat: ``(N, 2)`` degrees.
            out: ``(N, out_features)`` with any strides; made if absent.
            time: ``(N,)``, for encoders that take it.
            compile: sinusoidal encoders and harmonics by a kernel, in float32 (see
                `geoenc.native`; on a GPU by ``torch.compile``). None: where the output has more
                than 131,072 numbers (on a GPU 4 billion). Without a compiler the plain formula
                is used.

        Example:
            >>> import torch, geoenc
            >>> lonlat = geoenc.sampling.uniform(1000)
            >>> geoenc.Space2VecGrid(16).write(lonlat).shape
            torch.Size([1000, 64])
        """
        shape = (len(lonlat), self.out_features)
        if out is None:
            out = new(shape, self.dtype, lonlat.device)
        if out.shape != shape:
            raise ValueError(f"expected out of shape {shape}, got {tuple(out.shape)}")
        size, compiling = self._plan(lonlat, compile)
        fill, size = self._filler(size, lonlat.device, compiling)
        for start in range(0, len(lonlat), size):
            rows = slice(start, start + size)
            fill(lonlat[rows], out[rows], *([] if time is None else [time[rows]]))
        return out

    def blocks(
        self,
        lonlat: Tensor,
        *,
        time: Tensor | None = None,
        rows: int | None = None,
        compile: bool | None = None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """The codes of many places for a consumer that takes each block while it is in cache.

        Args:
            lonlat, time, compile: as for `write`.
            rows: at most so many places in a block.

        Yields:
            The rows, and their codes ``(rows, out_features)``, with any strides, in a buffer that
            **the next block overwrites**.

        Example:
            >>> import torch, geoenc
            >>> lonlat = geoenc.sampling.uniform(1000)
            >>> sum(code.square().sum() for rows, code in geoenc.XYZ().blocks(lonlat)).round()
            tensor(1000.)
        """
        size, compiling = self._plan(lonlat, compile)
        size = size if rows is None else min(size, rows)
        code = self._coder(size, lonlat.device, compiling)
        untracked = torch.no_grad()(code)
        parts = [one.split(size) for one in (lonlat, time) if one is not None and len(one) > 0]
        for index, given in enumerate(zip(*parts, strict=True)):
            part = untracked(*given) if torch.is_grad_enabled() else code(*given)
            yield slice(index * size, (index + 1) * size), part

    @property
    def _block_rows(self) -> int:
        """Places in a block: their codes should stay in cache."""
        return min(max(BLOCK_ELEMENTS // max(self.out_features, 1), 512), 65536)

    @property
    def _kernel_rows(self) -> int:
        """The same where a kernel fills the block, if the encoder has one."""
        return self._block_rows

    def _plan(self, lonlat: Tensor, compile: bool | None) -> tuple[int, bool]:
        """Places in a block, and whether to compile."""
        if lonlat.ndim != 2:
            raise ValueError(f"expected lonlat of shape (N, 2), got {tuple(lonlat.shape)}")
        if compile is None:
            least = WORTH_BUILDING if lonlat.device.type == "cpu" else WORTH_COMPILING
            compile = len(lonlat) * self.out_features > least
        rows = self._kernel_rows if compile else self._block_rows
        rows = rows if lonlat.device.type == "cpu" else DEVICE_ROWS
        return min(rows, max(len(lonlat), 1)), compile

    def _filler(
        self, rows: int, device: torch.device, compile: bool
    ) -> tuple[Callable[..., None], int]:
        """A function ``fill(lonlat, out)`` for blocks, and how many places it takes at most.

        So many are ``rows``, or more where the function needs no memory for each.
        """

        def fill(lonlat: Tensor, out: Tensor, *time: Tensor) -> None:
            out.copy_(self(lonlat, *time))

        return fill, rows

    def _coder(self, rows: int, device: torch.device, compile: bool) -> Callable[..., Tensor]:
        """A function ``code(lonlat)`` for blocks of at most ``rows`` places.

        Its result has any strides and holds until the next call.
        """
        return self.forward

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move buffers with the module but keep their dtype: scales and anchors stay float64."""
        kept = {
            name: buffer
            for name, buffer in self._buffers.items()
            if buffer is not None and name != "_dtype_of_module" and buffer.is_floating_point()
        }
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != buffer.dtype and moved.device.type != "mps":
                self._buffers[name] = buffer.to(moved.device)
        return self
