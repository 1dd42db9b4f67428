"""PositionEncoder: everything about a position encoder that is not mathematics."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from geoenc.component import Component


class PositionEncoder(Component, root=True):
    """PE: lonlat -> vector. The base checks shapes and keeps the arithmetic in float64.

    A subclass stores its hyperparameters, passes ``out_features`` up, declares its two properties
    and writes `encode`. Defining it registers it.

    Args:
        out_features: width of the code.

    Attributes:
        wraps_antimeridian: the code at longitude -180 equals the code at 180.
        wraps_poles: the code at a pole does not depend on the longitude.
        wavelengths: sinusoidal encoders only: ``(F,)`` degrees.

    Shape:
        ``(..., 2)`` degrees, longitude first, to ``(..., out_features)`` in the dtype of the
        module (float32 unless ``.double()``, ``.half()`` or ``.to(dtype)`` was called). NaN rows
        give NaN rows.

    Raises:
        ValueError: the last dimension is not 2.
    """

    wraps_antimeridian: ClassVar[bool] = False
    wraps_poles: ClassVar[bool] = False
    _dtype_of_module: Tensor

    def __init__(self, out_features: int) -> None:
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

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode places; see the class for shapes and dtypes. Subclasses write `encode`."""
        if lonlat.shape[-1:] != (2,):
            raise ValueError(
                f"expected lonlat of shape (..., 2) in degrees, got {tuple(lonlat.shape)}; "
                "stack longitude and latitude along the last dimension"
            )
        wide = torch.float32 if lonlat.device.type == "mps" else torch.float64
        return self.encode(lonlat.to(wide)).to(self.dtype)

    def encode(self, lonlat: Tensor) -> Tensor:
        """The formula: float64 ``(..., 2)`` degrees to ``(..., out_features)``.

        The result may be float64 or `working_dtype`; `forward` narrows it to the module's dtype.
        """
        raise NotImplementedError

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
