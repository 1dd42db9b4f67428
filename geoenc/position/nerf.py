"""NeRF: sines and cosines of the unit vector at frequencies that double."""

import torch
from torch import Tensor

from geoenc.coordinates import to_xyz
from geoenc.fourier import SinCos, check_frequencies, turns
from geoenc.position.sinusoidal import Sinusoidal
from geoenc.waves import Waves


class NeRF(Sinusoidal):
    """[sin(2^k pi c), cos(2^k pi c)] for c in (x, y, z) of the unit vector, k = 0 .. F - 1.

    Columns: first all sines, then all cosines; axis slowest, then k. Every frequency has a whole
    number of waves between -1 and 1, so antipodes on an axis (both poles) get one code.

    Args:
        num_frequencies: F. The finest wave is 2^(2 - F) Earth radii long: with F = 16 that is
            390 m, beyond 30 it is lost in rounding.

    Shape:
        ``(..., 2)`` to ``(..., 6 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.NeRF(10)(torch.tensor([12.3, 45.6])).shape
        torch.Size([60])

    Reference:
        Mildenhall et al., NeRF, ECCV 2020, equation 4; on the unit vector in Mai et al.,
        Sphere2Vec, ISPRS Journal 2023.
    """

    wraps_antimeridian = True
    wraps_poles = True

    def __init__(self, num_frequencies: int = 10) -> None:
        check_frequencies(num_frequencies)
        if num_frequencies > 30:
            raise ValueError(
                f"expected num_frequencies of at most 30, got {num_frequencies}; finer waves than "
                "2 cm are lost in the rounding of float64"
            )
        super().__init__(out_features=6 * num_frequencies)
        self.num_frequencies = num_frequencies

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees, 2^(1 - k) radians: along an axis, where it crosses the globe."""
        return torch.rad2deg(1 / self._frequency())

    def _frequency(self, device: torch.device | None = None) -> Tensor:
        """Turns per unit of x, y or z: 2^(k - 1)."""
        if device is not None and device.type == "mps":
            device = None
        k = torch.arange(self.num_frequencies, dtype=torch.float64, device=device)
        return 2 ** (k - 1)

    def rows(self, lonlat: Tensor, sin_cos: SinCos) -> Tensor:
        """See the class."""
        xyz = to_xyz(lonlat.T).T.contiguous()
        sin, cos = sin_cos(turns(xyz[:, None], self._frequency(lonlat.device)[:, None]))
        return torch.cat([sin.flatten(0, 1), cos.flatten(0, 1)])

    def waves(self) -> Waves:
        """See `Sinusoidal.waves`."""
        half = torch.block_diag(*[self._frequency()] * 3)
        phase = torch.zeros(2, 3 * self.num_frequencies, dtype=torch.float64)
        phase[1] = 0.25
        return Waves(to_xyz, torch.cat([half, half], 1), phase.flatten())
