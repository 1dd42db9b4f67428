"""geoenc: places on Earth as vectors, trained contrastively, and measured.

Coordinates are always longitude and latitude in degrees, in this order.
"""

__version__ = "0.1.0"

from importlib import import_module
from types import ModuleType

from geoenc.catalogue import list_pretrained
from geoenc.coordinates import as_lonlat
from geoenc.encoder import LocationEncoder, SumEncoder
from geoenc.hub import from_pretrained
from geoenc.losses import CSPLoss, InfoNCELoss, LocationQueue, PresenceAbsenceLoss
from geoenc.models import DualEncoder, ImageLocationClassifier, LocationClassifier
from geoenc.network import FFN, Linear, Network, ResidualNet, Siren
from geoenc.position import (
    RBF,
    RFF,
    XYZ,
    Direct,
    GPS2VecCells,
    HashGrid,
    Herglotz,
    NeRF,
    PositionEncoder,
    Raster,
    SoftVoronoi,
    Space2VecGrid,
    Space2VecTheory,
    Sphere2VecC,
    Sphere2VecCPlus,
    Sphere2VecDFS,
    Sphere2VecM,
    Sphere2VecMPlus,
    SphericalHarmonics,
    Tile,
    Wrap,
)
from geoenc.retrieval import RetrievalAugmented, RetrievalDatabase
from geoenc.temporal import CyclicTime, LinearTime, TimeEncoder

__all__ = [
    "FFN",
    "RBF",
    "RFF",
    "XYZ",
    "CSPLoss",
    "CyclicTime",
    "Direct",
    "DualEncoder",
    "GPS2VecCells",
    "HashGrid",
    "Herglotz",
    "ImageLocationClassifier",
    "InfoNCELoss",
    "Linear",
    "LinearTime",
    "LocationClassifier",
    "LocationEncoder",
    "LocationQueue",
    "NeRF",
    "Network",
    "PositionEncoder",
    "PresenceAbsenceLoss",
    "Raster",
    "ResidualNet",
    "RetrievalAugmented",
    "RetrievalDatabase",
    "Siren",
    "SoftVoronoi",
    "Space2VecGrid",
    "Space2VecTheory",
    "Sphere2VecC",
    "Sphere2VecCPlus",
    "Sphere2VecDFS",
    "Sphere2VecM",
    "Sphere2VecMPlus",
    "SphericalHarmonics",
    "SumEncoder",
    "Tile",
    "TimeEncoder",
    "Wrap",
    "as_lonlat",
    "from_pretrained",
    "list_pretrained",
]

_SUBMODULES = {
    *("catalogue", "convert", "coordinates", "data", "frames", "harmonics", "hub", "losses"),
    *("metrics", "plot", "predictions", "priors", "published", "recipes", "sampling"),
    *("conformal", "splits", "support", "testing"),
}


def __getattr__(name: str) -> ModuleType:
    """The submodules, imported when they are first used: ``geoenc.metrics.geo_posterior``."""
    if name in _SUBMODULES:
        return import_module(f"geoenc.{name}")
    raise AttributeError(f"module 'geoenc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
