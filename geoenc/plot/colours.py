"""Colours that readers with any colour vision can tell apart."""

import torch
from torch import Tensor

SEQUENTIAL = "viridis"
"""From little to much: lightness grows evenly, for every reader."""

DIVERGING = "RdBu_r"
"""About zero: blue below, red above, from ColorBrewer's colour-blind safe schemes."""

PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442"),
)
"""For classes and lines: Okabe and Ito's eight colours (jfly.uni-koeln.de/color)."""

MARKERS = "os^Dv*PX"
"""Beside the colours of lines, so that they can be told apart in black and white."""

LAND, LINES = "0.92", "0.25"

_OKLAB = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def three_colours(components: Tensor) -> Tensor:
    """Three numbers in [0, 1] as lightness, yellow against blue, and red against green.

    L = 0.45 + 0.45 c1, b = 0.26 c2 - 0.13, a = 0.26 c3 - 0.13 in Oklab, clipped to sRGB. The
    third number is the one that readers who confuse red and green miss.

    Shape:
        ``(..., 3)`` to ``(..., 3)`` sRGB in [0, 1].

    Reference:
        Ottosson, A perceptual color space for image processing, 2020.
    """
    first, second, third = components.clamp(0, 1).unbind(-1)
    lab = torch.stack([0.45 + 0.45 * first, 0.26 * third - 0.13, 0.26 * second - 0.13], -1)
    linear = (lab @ lab.new_tensor(_OKLAB).mT) ** 3 @ lab.new_tensor(_RGB).mT
    linear = linear.clamp(0, 1)
    curved = 1.055 * linear.clamp_min(1e-12) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved).clamp(0, 1)
