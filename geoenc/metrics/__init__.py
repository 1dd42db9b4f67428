"""Metrics: pure functions of tensors. Averages, tables and files belong to whoever calls them."""

from geoenc.metrics.accuracy import (
    class_accuracy,
    class_means,
    macro_accuracy,
    reciprocal_rank,
    target_rank,
    top_k_accuracy,
)
from geoenc.metrics.bias import (
    DensityProfile,
    SelfInformation,
    density_profile,
    relative_information,
    self_information,
    worst_region,
)
from geoenc.metrics.geolocation import accuracy_within_km, median_error_km
from geoenc.metrics.posterior import geo_posterior, log_posterior

__all__ = [
    "DensityProfile",
    "SelfInformation",
    "accuracy_within_km",
    "class_accuracy",
    "class_means",
    "density_profile",
    "geo_posterior",
    "log_posterior",
    "macro_accuracy",
    "median_error_km",
    "reciprocal_rank",
    "relative_information",
    "self_information",
    "target_rank",
    "top_k_accuracy",
    "worst_region",
]
