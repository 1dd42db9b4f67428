"""P(y | place) without training, and how to let it speak with P(y | image)."""

from geoenc.priors.base import Prior, class_frequencies
from geoenc.priors.counts import ClassFrequency, RectangularGrid
from geoenc.priors.neighbors import KernelDensity, NearestNeighbors, WithinDistance
from geoenc.priors.rerank import GeoPrior
from geoenc.priors.settings import PRIORS, PUBLISHED, best_prior, published_prior

__all__ = [
    "PRIORS",
    "PUBLISHED",
    "ClassFrequency",
    "GeoPrior",
    "KernelDensity",
    "NearestNeighbors",
    "Prior",
    "RectangularGrid",
    "WithinDistance",
    "best_prior",
    "class_frequencies",
    "published_prior",
]
