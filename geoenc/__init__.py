"""geoenc: places on Earth as vectors, trained contrastively, and measured.

Coordinates are always longitude and latitude in degrees, in this order.
"""

__version__ = "0.1.0"

from geoenc.coordinates import as_lonlat
from geoenc.encoder import LocationEncoder, SumEncoder
from geoenc.losses import CSPLoss, InfoNCELoss, LocationQueue, PresenceAbsenceLoss
from geoenc.models import DualEncoder, LocationClassifier
from geoenc.network import FFN, Network, ResidualNet
from geoenc.position import (
    XYZ,
    Direct,
    PositionEncoder,
    Space2VecGrid,
    Space2VecTheory,
    Sphere2VecC,
    Sphere2VecCPlus,
    Sphere2VecM,
    Sphere2VecMPlus,
    Wrap,
)
from geoenc.pretrained import from_pretrained
from geoenc.temporal import CyclicTime, TimeEncoder

__all__ = [
    "FFN",
    "XYZ",
    "CSPLoss",
    "CyclicTime",
    "Direct",
    "DualEncoder",
    "InfoNCELoss",
    "LocationClassifier",
    "LocationEncoder",
    "LocationQueue",
    "Network",
    "PositionEncoder",
    "PresenceAbsenceLoss",
    "ResidualNet",
    "Space2VecGrid",
    "Space2VecTheory",
    "Sphere2VecC",
    "Sphere2VecCPlus",
    "Sphere2VecM",
    "Sphere2VecMPlus",
    "SumEncoder",
    "TimeEncoder",
    "Wrap",
    "as_lonlat",
    "from_pretrained",
]
