"""SphericalHarmonics: the waves of the sphere itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from geoenc.coordinates import wide_dtype
from geoenc.harmonics import Recurrence, block_rows, native, spherical_harmonics
from geoenc.position.base import PositionEncoder, kernel_rows

MAX_DEGREE = 1023

KERNEL_ROWS = 2**16
"""Places in one call of the kernel: it needs memory for their unit vectors only."""


class SphericalHarmonics(PositionEncoder):
    """Y(l, m) for l = 0 .. degree, m = -l .. l: real, orthonormal, in column l^2 + l + m.

    Y(l, m) = N P(l, |m|)(sin lat) times sqrt(2) cos(m lon) for m > 0, sqrt(2) sin(|m| lon) for
    m < 0, and 1 for m = 0; P are associated Legendre functions without Condon-Shortley phase. So
    degree 1 is sqrt(3 / 4 pi) (y, z, x). Smooth everywhere: no seam, and one code at each pole.

    Args:
        degree: the largest l; the shortest wave is 360 / degree degrees long. 9 and 39 are the
            L = 10 and L = 40 of SatCLIP (their L counts degrees from 0); 9 is the default because
            it is the smaller: 100 columns, and details of some 2,000 km.

    Shape:
        ``(..., 2)`` to ``(..., (degree + 1)^2)``.

    Raises:
        ValueError: a degree that is not an integer from 0 to 1023 (a million columns).

    Example:
        >>> import torch, geoenc
        >>> geoenc.SphericalHarmonics(degree=1)(torch.tensor([90.0, 0.0])).round(decimals=3).abs()
        tensor([0.2820, 0.4890, 0.0000, 0.0000])

    Reference:
        Russwurm et al., Geographic location encoding with spherical harmonics and sinusoidal
        representation networks, ICLR 2024, section 3.1.

    Differs:
        The published codes evaluate at the antipode, which multiplies degree l by (-1)^l. SatCLIP
        also has the columns m = 0 times pi, and the variant "closed form" the factor (-1)^m.
        From degree 20 on their generated expressions are wrong near the poles.
    """

    wraps_antimeridian = True
    wraps_poles = True

    def __init__(self, degree: int = 9) -> None:
        if type(degree) is not int or not 0 <= degree <= MAX_DEGREE:
            raise ValueError(
                f"expected degree as an integer from 0 to {MAX_DEGREE}, got {degree!r}; the code "
                "has (degree + 1)^2 columns, and published encoders use degrees up to 40"
            )
        super().__init__(out_features=(degree + 1) ** 2)
        self.degree = degree

    @property
    def wavelengths(self) -> Tensor:
        """``(degree,)`` degrees of longitude after which order m repeats, 360 / m; 360 if none."""
        return 360 / torch.arange(max(self.degree, 1), 0, -1, dtype=torch.float64)

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        xyz = _unit_vectors(lonlat).movedim(0, -1)
        return spherical_harmonics(xyz, self.degree, dtype=self.dtype)

    @property
    def _block_rows(self) -> int:
        return block_rows(self.degree)

    @property
    def _kernel_rows(self) -> int:
        return kernel_rows(self.out_features, self.dtype)

    def _filler(
        self, rows: int, device: torch.device, compile: bool
    ) -> tuple[Callable[..., None], int]:
        kernel = native(self.degree, device, self.dtype) if compile else None
        if kernel is not None:
            return lambda lonlat, out: kernel(lonlat.double(), out), KERNEL_ROWS
        code = self._coder(rows, device, compile=False)

        def fill(lonlat: Tensor, out: Tensor) -> None:
            if out.stride(0) == 1:
                code(lonlat, out)
            else:
                out.copy_(code(lonlat))

        return fill, rows

    def _coder(self, rows: int, device: torch.device, compile: bool) -> Callable[..., Tensor]:
        kernel = native(self.degree, device, self.dtype) if compile else None
        if kernel is not None:
            table = torch.empty(rows, self.out_features, dtype=self.dtype)

            def block(lonlat: Tensor) -> Tensor:
                kernel(lonlat.double(), table[: len(lonlat)])
                return table[: len(lonlat)]

            return block
        wide = wide_dtype(device)
        recurrence = Recurrence(self.degree, rows, wide, device)
        buffer = torch.empty(self.out_features, rows, dtype=self.dtype, device=device).mT

        def code(lonlat: Tensor, out: Tensor | None = None) -> Tensor:
            out = buffer[: len(lonlat)] if out is None else out
            recurrence(_unit_vectors(lonlat.to(wide)), out.mT)
            return out

        return code


def _unit_vectors(lonlat: Tensor) -> Tensor:
    """`geoenc.coordinates.to_xyz` as ``(3, ...)``: rows are dense, so that sines are quick."""
    lon, lat = torch.deg2rad(lonlat).movedim(-1, 0).contiguous()
    across = lat.cos()
    return torch.stack([across * lon.cos(), across * lon.sin(), lat.sin()])
