"""A model as one page for the browser: a globe and a map that answer clicks, offline."""

from geoenc.explore.page import explore_page
from geoenc.explore.training import Training, read_training

__all__ = ["Training", "explore_page", "read_training"]
