"""Position encoders: fixed mathematics from places to vectors. One paper, one file."""

from geoenc.position.base import PositionEncoder
from geoenc.position.direct import Direct
from geoenc.position.space2vec import Space2VecGrid, Space2VecTheory
from geoenc.position.sphere2vec import (
    Sphere2VecC,
    Sphere2VecCPlus,
    Sphere2VecM,
    Sphere2VecMPlus,
)
from geoenc.position.wrap import Wrap
from geoenc.position.xyz import XYZ

__all__ = [
    "XYZ",
    "Direct",
    "PositionEncoder",
    "Space2VecGrid",
    "Space2VecTheory",
    "Sphere2VecC",
    "Sphere2VecCPlus",
    "Sphere2VecM",
    "Sphere2VecMPlus",
    "Wrap",
]
