"""Maps and curves with matplotlib: axes in, axes out, nothing shown."""

from geoenc.plot.colours import PALETTE
from geoenc.plot.curves import few_shot_curves, kernel_curve
from geoenc.plot.drawing import block_map, draw_map, graticule, on_land, points_map
from geoenc.plot.models import class_map, pca_map, similarity_map
from geoenc.plot.views import WORLD, Globe, Region, View, World

__all__ = [
    "PALETTE",
    "WORLD",
    "Globe",
    "Region",
    "View",
    "World",
    "block_map",
    "class_map",
    "draw_map",
    "few_shot_curves",
    "graticule",
    "kernel_curve",
    "on_land",
    "pca_map",
    "points_map",
    "similarity_map",
]
