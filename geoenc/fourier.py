"""What the sinusoidal encoders share: geometric scales, and sine and cosine of long phases."""

import math

import torch
from torch import Tensor


def geometric(first: float, last: float, num: int, *, device: torch.device | None = None) -> Tensor:
    """Scales r_s = first (last / first)^(s / (num - 1)), s = 0 .. num - 1; r_0 = first if num = 1.

    Shape:
        ``(num,)`` float64 (float32 on devices without float64).

    Example:
        >>> from geoenc.fourier import geometric
        >>> geometric(0.1, 1000.0, 5)
        tensor([1.0000e-01, 1.0000e+00, 1.0000e+01, 1.0000e+02, 1.0000e+03],
               dtype=torch.float64)
    """
    wide = torch.float32 if device is not None and device.type == "mps" else torch.float64
    step = math.log(last / first) / max(num - 1, 1)
    return first * torch.exp(step * torch.arange(num, dtype=wide, device=device))


def check_scales(num_frequencies: int, min_radius: float, max_radius: float) -> None:
    """Refuse scales that make no sense, in the constructor of every multi-scale encoder.

    Raises:
        ValueError: fewer than one frequency, or radii that are not 0 < min_radius <= max_radius.
    """
    if num_frequencies < 1:
        raise ValueError(f"expected num_frequencies of at least 1, got {num_frequencies}")
    if not 0 < min_radius <= max_radius < math.inf:
        raise ValueError(
            f"expected 0 < min_radius <= max_radius, got min_radius={min_radius}, "
            f"max_radius={max_radius}; the smaller radius is the finer scale"
        )


def sin_cos(turns: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """sin(2 pi t) and cos(2 pi t) of long phases, in ``dtype``.

    Whole turns are removed while the phase is still float64; only the remainder, which lies in
    [-1/2, 1/2], is narrowed. So the error stays near 3e-7 in float32 at any wavelength.

    Args:
        turns: phase in turns (cycles), float64.
        dtype: of the result: float64 or float32.
    """
    angle = ((turns - turns.round()) * (2 * math.pi)).to(dtype)
    return angle.sin(), angle.cos()
