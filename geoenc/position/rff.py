"""RFF: random Fourier features, which approximate a Gaussian kernel."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from geoenc.coordinates import equal_earth, to_xyz
from geoenc.fourier import SinCos, check_frequencies, exact, turns
from geoenc.position.direct import check_extent, unit_extent
from geoenc.position.sinusoidal import Sinusoidal
from geoenc.waves import Waves

PLANES = {"degrees": 2, "xyz": 3, "equal_earth": 2}
_EQUATOR = 66.50336 / 180
"""Stretches the Equal Earth plane, in Earth radii, so that the equator is [-1, 1]."""


class RFF(Sinusoidal):
    """[cos(2 pi B c), sin(2 pi B c)], or sqrt(2 / F) cos(2 pi B c + b): B random and fixed.

    B is Gaussian with standard deviation ``scale``, in cycles per unit of the coordinates c:

    - ``"degrees"``: (lon / 180, lat / 90), or the extent scaled to [-1, 1];
    - ``"xyz"``: the unit vector, which wraps;
    - ``"equal_earth"``: the Equal Earth plane, stretched so that the equator is [-1, 1].

    The inner product of two codes, over F unless shifted, approximates the Gaussian kernel
    exp(-2 (pi scale d)^2), d the distance in c.

    Args:
        num_features: F, rows of B; the width is 2 F, or F if shifted.
        scale: standard deviation of B: the larger, the finer.
        plane: the coordinates c.
        shifted: the form with random phases b, uniform in [0, 2 pi).
        extent: west, east, south, north in degrees, for ``"degrees"``.
        generator: of B and b, which are buffers and travel with the weights.

    Shape:
        ``(..., 2)`` to ``(..., 2 F)``, or ``(..., F)`` if shifted.

    Example:
        >>> import torch, geoenc
        >>> geoenc.RFF(32, scale=4.0, plane="xyz")(torch.tensor([12.3, 45.6])).shape
        torch.Size([64])

    Reference:
        Rahimi and Recht, Random features for large-scale kernel machines, NIPS 2007; Tancik et
        al., Fourier features, NeurIPS 2020; Vivanco Cepeda et al., GeoCLIP, NeurIPS 2023.
    """

    num_features: int
    scale: float
    plane: str
    shifted: bool
    extent: Sequence[float]
    frequency: Tensor
    shift: Tensor | None

    def __init__(
        self,
        num_features: int = 256,
        *,
        scale: float = 1.0,
        plane: str = "degrees",
        shifted: bool = False,
        extent: Sequence[float] = (-180.0, 180.0, -90.0, 90.0),
        generator: Generator | None = None,
    ) -> None:
        check_frequencies(num_features, "num_features")
        if not 0 < scale < math.inf:
            raise ValueError(f"expected scale above 0 cycles per unit, got {scale}")
        if plane not in PLANES:
            raise ValueError(f"expected plane to be one of {', '.join(PLANES)}, got {plane!r}")
        check_extent(extent)
        super().__init__(out_features=num_features * (1 if shifted else 2))
        self.num_features, self.scale, self.plane = num_features, scale, plane
        self.shifted, self.extent = shifted, extent
        drawn = torch.randn(num_features, PLANES[plane], generator=generator, dtype=torch.float64)
        self.register_buffer("frequency", scale * drawn)
        shift = torch.rand(num_features, generator=generator, dtype=torch.float64)
        self.register_buffer("shift", 2 * math.pi * shift if shifted else None)

    @property
    def wraps_antimeridian(self) -> bool:  # type: ignore[override]
        """On the unit vector."""
        return self.plane == "xyz"

    @property
    def wraps_poles(self) -> bool:  # type: ignore[override]
        """On the unit vector."""
        return self.plane == "xyz"

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees, across the waves; on the Equal Earth plane those at its centre."""
        if self.plane == "degrees":
            west, east, south, north = self.extent
            degrees = self.frequency.new_tensor([(east - west) / 2, (north - south) / 2])
            return 1 / (self.frequency / degrees).norm(dim=-1)
        unit = _EQUATOR if self.plane == "equal_earth" else 1.0
        return torch.rad2deg(1 / (unit * self.frequency.norm(dim=-1)))

    def _coordinates(self, lonlat: Tensor) -> Tensor:
        if self.plane == "xyz":
            return to_xyz(lonlat)
        if self.plane == "equal_earth":
            return equal_earth(lonlat) * exact(_EQUATOR)
        return unit_extent(lonlat, self.extent)

    def rows(self, lonlat: Tensor, sin_cos: SinCos) -> Tensor:
        """See the class."""
        c = self._coordinates(lonlat.T).T.contiguous()
        phase = torch.stack(
            [turns(c[axis], self.frequency[:, axis, None]) for axis in range(len(c))]
        ).sum(0)
        if self.shift is None:
            sin, cos = sin_cos(phase)
            return torch.cat([cos, sin])
        _, cos = sin_cos(phase + (self.shift / (2 * math.pi))[:, None])
        return math.sqrt(2 / self.num_features) * cos

    def waves(self) -> Waves:
        """See `Sinusoidal.waves`."""
        first, quarter = self.frequency.T, self.frequency.new_full((self.num_features,), 0.25)
        if self.shift is None:
            phase = torch.cat([quarter, torch.zeros_like(quarter)])
            return Waves(self._coordinates, torch.cat([first, first], 1), phase)
        phase = quarter + self.shift / (2 * math.pi)
        return Waves(self._coordinates, first, phase, amplitude=math.sqrt(2 / self.num_features))
