"""Sinusoidal: what position encoders made of sines share, and their fast ways."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoenc.fourier import SinCos, sin_cos
from geoenc.position.base import PositionEncoder, kernel_rows
from geoenc.waves import Waves, buffered, compiled, native

WORTH_BUFFERS = 512
"""Places for which buffers are laid out; fewer are encoded as `forward` does."""

_APART = 16
"""Numbers between the columns of a block."""

FAST_ROWS = 2**16
"""Places in one pass over all columns: it needs memory for their coordinates only."""


class Sinusoidal(PositionEncoder, root=True):
    """A position encoder whose columns are sines, cosines and products of two of them.

    A subclass writes `rows`, its formula with one row for each column and one column for each
    place, so that every step runs along contiguous places; and `waves`, the same as parameters.
    """

    def rows(self, lonlat: Tensor, sin_cos: SinCos) -> Tensor:
        """The formula: ``(2, n)`` degrees to ``(out_features, n)``.

        Args:
            lonlat: float64 (float32 on devices without it).
            sin_cos: phases in turns, as wide as ``lonlat``, to their sine and cosine.
        """
        raise NotImplementedError

    def waves(self) -> Waves:
        """All columns as products of two sines."""
        raise NotImplementedError

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees."""
        raise NotImplementedError

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        dtype = self.working_dtype
        places = lonlat.reshape(-1, 2).T.contiguous()
        rows = self.rows(places, lambda turns: sin_cos(turns, dtype))
        return rows.T.reshape(*lonlat.shape[:-1], self.out_features)

    @property
    def _kernel_rows(self) -> int:
        return kernel_rows(self.out_features, self.dtype)

    def _filler(
        self, rows: int, device: torch.device, compile: bool
    ) -> tuple[Callable[..., None], int]:
        fast = self._fast(device) if compile and self.dtype == torch.float32 else None
        if fast is not None:
            return fast, FAST_ROWS
        if self._worth_buffers(rows, device):
            return buffered(self.waves(), self.dtype), rows
        return super()._filler(rows, device, compile)

    def _coder(self, rows: int, device: torch.device, compile: bool) -> Callable[..., Tensor]:
        if not compile and not self._worth_buffers(rows, device):
            return super()._coder(rows, device, compile)
        fill, _ = self._filler(rows, device, compile)
        columns, narrow = self.out_features, self.dtype == torch.float32
        if compile and narrow and device.type == "cpu" and self._fast(device) is not None:
            # a kernel has a column of some places in a register; columns begin in unlike cache sets
            buffer = torch.empty(columns, rows + _APART, dtype=self.dtype)[:, :rows].mT
        else:
            buffer = torch.empty(rows, columns, dtype=self.dtype, device=device)

        def code(lonlat: Tensor) -> Tensor:
            part = buffer if lonlat.shape[0] == rows else buffer[: lonlat.shape[0]]
            fill(lonlat, part)
            return part

        return code

    def _fast(self, device: torch.device) -> Callable[..., None] | None:
        """One pass over all columns in float32, or None where there is none.

        It is made once and kept, and made anew when a setting, buffer or parameter has changed; it
        is not copied and not saved with the encoder.
        """
        plain = int | float | str | tuple
        settings = (
            device,
            [
                (name, value)
                for name, value in self.__dict__.items()
                if isinstance(value, plain) and name not in ("training", "_kept")
            ],
        )
        numbers = [one.detach() for one in (*self.buffers(), *self.parameters())]
        kept = self.__dict__.get("_kept")
        if kept is None or kept[0] != settings or not all(map(torch.equal, kept[1], numbers)):
            waves = self.waves()
            fast = native(waves) if device.type == "cpu" else compiled(waves)
            kept = self.__dict__["_kept"] = settings, [one.clone() for one in numbers], fast
        return kept[2]

    def _worth_buffers(self, rows: int, device: torch.device) -> bool:
        """Where the plain formula is taken in buffers."""
        precise = self.dtype in (torch.float32, torch.float64)
        return device.type == "cpu" and precise and rows >= WORTH_BUFFERS

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_kept"}
