"""What tells position encoders apart."""

import inspect
import math
from typing import Any

from geoenc.coordinates import EARTH_RADIUS_KM


def required(cls: Any) -> list[str]:
    """Arguments without a default: what only the user knows."""
    given = inspect.signature(cls).parameters.values()
    return [one.name for one in given if one.default is one.empty]


def example(cls: Any) -> Any:
    """A position encoder with its defaults; what it draws is the same each time."""
    import torch

    if "generator" in inspect.signature(cls).parameters:
        return cls(generator=torch.Generator().manual_seed(0))
    return cls()


def properties(encoder: Any) -> dict[str, Any]:
    """What tells position encoders apart: size, finest scale in degrees, continuity."""
    waves = getattr(encoder, "wavelengths", None)
    shortest = None if waves is None else waves.min().item()
    return {
        "columns": encoder.out_features,
        "parameters": sum(one.numel() for one in encoder.parameters() if one.requires_grad),
        "shortest_wave": shortest,
        "shortest_km": None if shortest is None else shortest * math.radians(EARTH_RADIUS_KM),
        "longest_wave": None if waves is None else waves.max().item(),
        "antimeridian": encoder.wraps_antimeridian,
        "poles": encoder.wraps_poles,
    }
