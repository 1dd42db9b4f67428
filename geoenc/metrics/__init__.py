"""Metrics: pure functions of tensors. Averages, tables and files belong to whoever calls them."""

from geoenc.metrics.accuracy import (
    class_accuracy,
    class_means,
    macro_accuracy,
    reciprocal_rank,
    target_rank,
    top_k_accuracy,
)
from geoenc.metrics.geolocation import accuracy_within_km, median_error_km
from geoenc.metrics.posterior import geo_posterior, log_posterior

__all__ = [
    "accuracy_within_km",
    "class_accuracy",
    "class_means",
    "geo_posterior",
    "log_posterior",
    "macro_accuracy",
    "median_error_km",
    "reciprocal_rank",
    "target_rank",
    "top_k_accuracy",
]
