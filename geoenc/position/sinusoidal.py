"""Sinusoidal: what position encoders made of sines share, and their fast ways."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoenc.fourier import SinCos, sin_cos
from geoenc.position.base import PositionEncoder
from geoenc.waves import Pass, Waves, buffered, compiled, compiled_rows, fused_sin_cos

WORTH_BUFFERS = 512
"""Places for which buffers are laid out; fewer are encoded as `forward` does."""

COMPILED_ROWS = 2**16
"""Places in one call of a compiled pass: it needs memory for their coordinates only."""


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

    def _filler(
        self, rows: int, device: torch.device, compile: bool
    ) -> tuple[Callable[..., None], int]:
        if compile and self.dtype == torch.float32:
            plan = Pass(self.waves(), device)
            fast = self._kept(("waves", device, plan.kind), lambda: compiled(plan))
            if fast is not None:
                return functools.partial(fast, plan), COMPILED_ROWS
        if self._worth_buffers(rows, device):
            return buffered(self.waves(), rows, self.dtype), rows
        return super()._filler(rows, device, compile)

    def _coder(self, rows: int, device: torch.device, compile: bool) -> Callable[..., Tensor]:
        if compile and self.dtype == torch.float32 and self.waves().second is not None:

            def formula(lonlat: Tensor) -> Tensor:
                return self.rows(lonlat, fused_sin_cos)

            fast = self._kept(("rows", rows, device), lambda: compiled_rows(formula, rows, device))
            if fast is not None:
                return fast
        elif not compile and not self._worth_buffers(rows, device):
            return super()._coder(rows, device, compile)
        fill, _ = self._filler(rows, device, compile)
        buffer = torch.empty(rows, self.out_features, dtype=self.dtype, device=device)

        def code(lonlat: Tensor) -> Tensor:
            fill(lonlat, buffer[: len(lonlat)])
            return buffer[: len(lonlat)]

        return code

    def _worth_buffers(self, rows: int, device: torch.device) -> bool:
        """Where the plain formula is taken in buffers."""
        precise = self.dtype in (torch.float32, torch.float64)
        return device.type == "cpu" and precise and rows >= WORTH_BUFFERS

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What was compiled before, or is now; not copied and not saved with the encoder."""
        kept = self.__dict__.setdefault("_fast", {})
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_fast"}
