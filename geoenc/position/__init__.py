"""Position encoders: fixed mathematics from places to vectors. One paper, one file."""

from geoenc.position.base import PositionEncoder
from geoenc.position.direct import Direct
from geoenc.position.gps2vec import GPS2VecCells
from geoenc.position.hash_grid import HashGrid
from geoenc.position.herglotz import Herglotz
from geoenc.position.nerf import NeRF
from geoenc.position.raster import Raster
from geoenc.position.rbf import RBF
from geoenc.position.rff import RFF
from geoenc.position.soft_voronoi import SoftVoronoi
from geoenc.position.space2vec import Space2VecGrid, Space2VecTheory
from geoenc.position.sphere2vec import (
    Sphere2VecC,
    Sphere2VecCPlus,
    Sphere2VecDFS,
    Sphere2VecM,
    Sphere2VecMPlus,
)
from geoenc.position.spherical_harmonics import SphericalHarmonics
from geoenc.position.tile import Tile
from geoenc.position.wrap import Wrap
from geoenc.position.xyz import XYZ

__all__ = [
    "RBF",
    "RFF",
    "XYZ",
    "Direct",
    "GPS2VecCells",
    "HashGrid",
    "Herglotz",
    "NeRF",
    "PositionEncoder",
    "Raster",
    "SoftVoronoi",
    "Space2VecGrid",
    "Space2VecTheory",
    "Sphere2VecC",
    "Sphere2VecCPlus",
    "Sphere2VecDFS",
    "Sphere2VecM",
    "Sphere2VecMPlus",
    "SphericalHarmonics",
    "Tile",
    "Wrap",
]
