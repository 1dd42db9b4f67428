"""Sinusoidal: what position encoders made of sines share, and their fast ways."""

from collections.abc import Callable

import torch
from torch import Tensor

from geoenc.fourier import SinCos, sin_cos
from geoenc.position.base import PositionEncoder
from geoenc.waves import Waves, compiled, compiled_rows, fused_sin_cos


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

    def _filler(self, rows: int, device: torch.device, compile: bool) -> Callable[..., None]:
        if compile and self.dtype == torch.float32:
            fill = compiled(self.waves(), rows, device)
            if fill is not None:
                return fill
        return super()._filler(rows, device, compile)

    def _coder(self, rows: int, device: torch.device, compile: bool) -> Callable[..., Tensor]:
        if compile and self.dtype == torch.float32:
            coded = compiled_rows(lambda lonlat: self.rows(lonlat, fused_sin_cos), rows, device)
            if coded is not None:
                return coded
        return self.forward
