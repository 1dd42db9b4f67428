"""Released location models of other projects as ours, with equal numbers.

One function a format: each reads a file, runs nothing in it, and returns a model with
``metadata``. Foreign conventions are folded into the weights. ``geoenc convert FORMAT IN OUT``
does it from a shell.
"""

from collections.abc import Callable
from typing import Any

from geoenc.convert._climplicit import climplicit
from geoenc.convert._geoclip import geoclip
from geoenc.convert._mai import csp, torchspatial
from geoenc.convert._russwurm import locationencoder, satclip
from geoenc.convert._sinr import sinr
from geoenc.convert._tte import tte

FORMATS: dict[str, Callable[..., Any]] = {
    "torchspatial": torchspatial,
    "csp": csp,
    "satclip": satclip,
    "geoclip": geoclip,
    "sinr": sinr,
    "climplicit": climplicit,
    "tte": tte,
    "locationencoder": locationencoder,
}
"""Each format by its name, for the command line and for a catalogue."""

__all__ = [
    "FORMATS",
    "climplicit",
    "csp",
    "geoclip",
    "locationencoder",
    "satclip",
    "sinr",
    "torchspatial",
    "tte",
]
