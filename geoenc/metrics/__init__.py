"""Metrics: pure functions of tensors. Averages, tables and files belong to whoever calls them."""

from geoenc.metrics.accuracy import geo_posterior, reciprocal_rank, target_rank, top_k_accuracy
from geoenc.metrics.geolocation import accuracy_within_km, median_error_km

__all__ = [
    "accuracy_within_km",
    "geo_posterior",
    "median_error_km",
    "reciprocal_rank",
    "target_rank",
    "top_k_accuracy",
]
