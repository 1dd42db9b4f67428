"""What the sinusoidal encoders share: geometric scales, and sine and cosine of long phases."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def geometric(first: float, last: float, num: int, *, device: torch.device | None = None) -> Tensor:
    """Scales r_s = first (last / first)^(s / (num - 1)), s = 0 .. num - 1; r_0 = first if num = 1.

    Shape:
        ``(num,)`` float64; on the CPU if the device has no float64.

    Example:
        >>> from geoenc.fourier import geometric
        >>> geometric(0.1, 1000.0, 5)
        tensor([1.0000e-01, 1.0000e+00, 1.0000e+01, 1.0000e+02, 1.0000e+03],
               dtype=torch.float64)
    """
    if device is not None and device.type == "mps":
        device = None
    step = exact(math.log(last / first) / max(num - 1, 1))
    steps = torch.arange(num, dtype=torch.float64, device=device)
    return exact(first) * torch.exp(step * steps)


def exact(value: float) -> Tensor:
    """A constant as a float64 tensor of no dimension, which mixes with those of any device.

    For what scales a long phase: a Python number is rounded to float32 when exported to ONNX.
    """
    return torch.tensor(value, dtype=torch.float64)


def check_scales(num_frequencies: int, min_radius: float, max_radius: float) -> None:
    """Refuse scales that make no sense, in the constructor of every multi-scale encoder.

    Raises:
        ValueError: fewer than one frequency, or radii that are not 0 < min_radius <= max_radius.
    """
    check_frequencies(num_frequencies)
    if not 0 < min_radius <= max_radius < math.inf:
        raise ValueError(
            f"expected 0 < min_radius <= max_radius, got min_radius={min_radius}, "
            f"max_radius={max_radius}; the smaller radius is the finer scale"
        )


def check_frequencies(number: int, name: str = "num_frequencies") -> None:
    """Refuse fewer than one frequency, and what is no whole number."""
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"expected {name} as an integer of at least 1, got {number!r}")


def turns(x: Tensor, frequency: Tensor) -> Tensor:
    """The phase x f in turns (cycles).

    Where x is float64, so is the product. Where x is float32, on devices that have no float64,
    the frequency is split into two float32 numbers, the rounding error of the product is carried
    along (Dekker's product) and whole turns are removed: the error is near 1e-7 turns instead of
    6e-8 x f.

    Args:
        x: coordinates, float64 or float32.
        frequency: turns per unit of x, float64; broadcasts with ``x``.

    Example:
        >>> import torch
        >>> from geoenc.fourier import turns
        >>> turns(torch.tensor(10.0).double(), torch.tensor([0.33, 2.0]).double())
        tensor([ 3.3000, 20.0000], dtype=torch.float64)

    Reference:
        Dekker, A floating-point technique for extending the available precision, 1971.
    """
    if x.dtype == torch.float64:
        return x * frequency
    high = frequency.to(torch.float32)
    low = (frequency - high.double()).to(x.device, torch.float32)
    high = high.to(x.device)
    phase = x * high
    (x1, x2), (f1, f2) = _halves(x), _halves(high)
    error = ((x1 * f1 - phase) + x1 * f2 + x2 * f1) + x2 * f2
    return (phase - phase.round()) + (error + x * low)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two float32 numbers of 12 bits whose sum is x, so that products of them are exact."""
    scaled = x * 4097.0
    high = scaled - (scaled - x)
    return high, x - high


SinCos = Callable[[Tensor], tuple[Tensor, Tensor]]


def sin_cos(turns: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """sin(2 pi t) and cos(2 pi t) of phases in turns, in ``dtype``.

    On a CPU the sine is taken in float64, where it is the faster one too. Elsewhere, and in
    compiled and exported graphs, whole turns are removed before the phase is narrowed and the
    sine taken in ``dtype``. So the error stays near 3e-7 in float32 at any wavelength.

    Args:
        turns: phase in turns (cycles), as wide as the device can.
        dtype: of the result: float64 or float32.
    """
    if turns.device.type == "cpu" and not torch.compiler.is_compiling():
        angle = turns * (2 * math.pi)
        return angle.sin().to(dtype), angle.cos().to(dtype)
    angle = ((turns - turns.round()) * (2 * math.pi)).to(dtype)
    return angle.sin(), angle.cos()
