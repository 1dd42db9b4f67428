"""Sphere2Vec: products of sines and cosines of latitude and longitude at many scales."""

from typing import ClassVar

import torch
from torch import Tensor

from geoenc.fourier import SinCos, check_scales, geometric, turns
from geoenc.position.sinusoidal import Sinusoidal
from geoenc.waves import Waves


class _Sphere2Vec(Sinusoidal):
    """Scales without unit: the angle in radians is divided by the radius; 360 r degrees repeat.

    At radius 1 the columns contain the unit vector. At any other scale whose 1 / r is not an
    integer the code jumps at the antimeridian and depends on the longitude at the poles.

    Attributes:
        columns: what is computed for each scale: products of sines and cosines of lon and lat in
            radians, and of L = lon / r and P = lat / r.
    """

    min_radius: float
    max_radius: float
    columns: ClassVar[tuple[str, ...]]

    def __init__(
        self, num_frequencies: int = 32, *, min_radius: float = 0.001, max_radius: float = 1.0
    ) -> None:
        check_scales(num_frequencies, min_radius, max_radius)
        super().__init__(out_features=self._width(num_frequencies))
        self.num_frequencies = num_frequencies
        self.min_radius, self.max_radius = min_radius, max_radius

    @classmethod
    def _width(cls, num_frequencies: int) -> int:
        return len(cls.columns) * num_frequencies

    @property
    def wavelengths(self) -> Tensor:
        """``(F,)`` degrees, 360 r: the radius divides radians inside the sine."""
        return 360 * geometric(self.min_radius, self.max_radius, self.num_frequencies)

    @property
    def wraps_antimeridian(self) -> bool:  # type: ignore[override]
        """True if every 1 / r is an integer, as with radii 1/64 to 1 at 7 scales."""
        return self._whole(1)

    def _whole(self, step: int, first: int = 0) -> bool:
        """Is every 1 / r one of first, first + step, first + 2 step ... (to rounding)?"""
        steps = (360 / self.wavelengths - first) / step
        return bool(((steps - steps.round()).abs() < 1e-9 * steps.abs().clamp_min(1)).all())

    def rows(self, lonlat: Tensor, sin_cos: SinCos) -> Tensor:
        """See the class."""
        factors = self._factors(lonlat, sin_cos)
        terms = [
            factors[one] if not other else factors[one] * factors[other]
            for one, other in map(_pair, self.columns)
        ]
        return torch.stack(terms, 1).flatten(0, 1)

    def _factors(self, lonlat: Tensor, sin_cos: SinCos) -> dict[str, Tensor]:
        """Every sine and cosine: of L and P ``(F, n)``, of lon and lat ``(n,)``."""
        radius = geometric(
            self.min_radius, self.max_radius, self.num_frequencies, device=lonlat.device
        )
        scaled = sin_cos(turns(lonlat[:, None], 1 / (360 * radius[:, None])))
        unscaled = sin_cos(lonlat / 360)
        return {
            f"{function} {name}": values[axis]
            for names, both in ((("L", "P"), scaled), (("lon", "lat"), unscaled))
            for function, values in zip(("sin", "cos"), both, strict=True)
            for axis, name in enumerate(names)
        }

    def waves(self) -> Waves:
        """See `Sinusoidal.waves`."""
        return _waves([_pair(column) for column in self.columns], 1 / self.wavelengths)


def _pair(column: str) -> tuple[str, str]:
    """``"cos P sin L"`` as its two factors: first one with a scale; the second may be empty."""
    words = column.split()
    first, second = " ".join(words[:2]), " ".join(words[2:])
    return (second, first) if second and first.endswith(("lon", "lat")) else (first, second)


def _waves(columns: list[tuple[str, str]], frequency: Tensor) -> Waves:
    """Each column at each frequency (slowest) as two sines with their frequencies and phases."""
    whole = torch.full_like(frequency, 1 / 360)
    axes = {"L": (0, frequency), "P": (1, frequency), "lon": (0, whole), "lat": (1, whole)}

    def side(index: int) -> tuple[Tensor, Tensor]:
        a = frequency.new_zeros(2, len(frequency), len(columns))
        p = frequency.new_full((len(frequency), len(columns)), 0.25)
        for column, pair in enumerate(columns):
            if pair[index]:
                function, name = pair[index].split()
                axis, values = axes[name]
                a[axis, :, column] = values
                p[:, column] = 0.0 if function == "sin" else 0.25
        return a.flatten(1), p.flatten()

    return Waves(torch.Tensor.double, *side(0), *side(1))


class Sphere2VecC(_Sphere2Vec):
    """[sin P, cos P cos L, cos P sin L] per scale, with P = lat / r and L = lon / r in radians.

    Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, geometrically spaced; wavelengths are 360 r degrees.

    Shape:
        ``(..., 2)`` to ``(..., 3 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecC(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([48])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 4 (sphereC).
    """

    columns = ("sin P", "cos P cos L", "cos P sin L")

    @property
    def wraps_poles(self) -> bool:  # type: ignore[override]
        """True if every 1 / r is an odd integer: then cos P is 0 at the poles."""
        return self._whole(2, first=1)


class Sphere2VecCPlus(_Sphere2Vec):
    """[sin P, cos P, sin L, cos L, cos P cos L, cos P sin L] per scale: sphereC and the grid.

    P = lat / r and L = lon / r in radians. Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 6 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecCPlus(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([96])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 7 (sphereC+).
    """

    columns = ("sin P", "cos P", "sin L", "cos L", "cos P cos L", "cos P sin L")


class Sphere2VecM(_Sphere2Vec):
    """[sin P, cos P cos lon, cos lat cos L, cos P sin lon, cos lat sin L] per scale.

    P = lat / r and L = lon / r in radians: in each product one angle is scaled, the other is not.
    Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 5 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecM(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([80])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 5 (sphereM).
    """

    columns = ("sin P", "cos P cos lon", "cos lat cos L", "cos P sin lon", "cos lat sin L")

    wraps_poles = Sphere2VecC.wraps_poles


class Sphere2VecMPlus(_Sphere2Vec):
    """[sin P, cos P, sin L, cos L, then the four products of sphereM] per scale.

    P = lat / r and L = lon / r in radians. Columns: scale slowest, finest first.

    Args:
        num_frequencies: F, how many scales.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 8 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecMPlus(16)(torch.tensor([12.3, 45.6])).shape
        torch.Size([128])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 8 (sphereM+).

    Differs:
        TorchSpatial's copy ignores ``min_radius``; pass ``min_radius=1`` with the same
        ``max_radius`` to load its weights.
    """

    columns = (
        *("sin P", "cos P", "sin L", "cos L"),
        *("cos P cos lon", "cos lat cos L", "cos P sin lon", "cos lat sin L"),
    )


class Sphere2VecDFS(_Sphere2Vec):
    """[all products of (sin L_i, cos L_i) and (sin P_j, cos P_j)], then the grid: double Fourier.

    L_i = lon / r_i and P_j = lat / r_j in radians, for every pair of scales i, j. Columns: with
    A = [sin L_1 .. sin L_F, cos L_1 .. cos L_F] and B likewise of P, first A_i B_j, i slowest;
    then per scale sin P, cos P, sin L, cos L.

    Args:
        num_frequencies: F, how many scales; the width grows with its square.
        min_radius, max_radius: without unit, as for `Sphere2VecC`.

    Shape:
        ``(..., 2)`` to ``(..., 4 F^2 + 4 F)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Sphere2VecDFS(8)(torch.tensor([12.3, 45.6])).shape
        torch.Size([288])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, equation 6 (dfs).

    Differs:
        TorchSpatial's copy ignores ``min_radius``, as for `Sphere2VecMPlus`.
    """

    columns = ("sin P", "cos P", "sin L", "cos L")

    def __init__(
        self, num_frequencies: int = 8, *, min_radius: float = 0.01, max_radius: float = 1.0
    ) -> None:
        super().__init__(num_frequencies, min_radius=min_radius, max_radius=max_radius)

    @classmethod
    def _width(cls, num_frequencies: int) -> int:
        return 4 * num_frequencies**2 + 4 * num_frequencies

    def rows(self, lonlat: Tensor, sin_cos: SinCos) -> Tensor:
        """See the class."""
        factors = self._factors(lonlat, sin_cos)
        east = torch.cat([factors["sin L"], factors["cos L"]])
        north = torch.cat([factors["sin P"], factors["cos P"]])
        grid = torch.stack([factors[name] for name in self.columns], 1)
        return torch.cat([(east[:, None] * north).flatten(0, 1), grid.flatten(0, 1)])

    def waves(self) -> Waves:
        """See `Sinusoidal.waves`."""
        grid = super().waves()
        frequency = 1 / self.wavelengths
        zero, one = torch.zeros_like(frequency), torch.full_like(frequency, 0.25)
        both, phase = torch.cat([frequency, frequency]), torch.cat([zero, one])
        none = torch.zeros_like(both)
        east = torch.stack([both, none]).repeat_interleave(len(both), 1)
        north = torch.stack([none, both]).repeat(1, len(both))
        return Waves(
            grid.coordinates,
            torch.cat([east, grid.first], 1),
            torch.cat([phase.repeat_interleave(len(both)), grid.phase]),
            torch.cat([north, torch.zeros_like(grid.first)], 1),
            torch.cat([phase.repeat(len(both)), torch.full_like(grid.phase, 0.25)]),
        )
