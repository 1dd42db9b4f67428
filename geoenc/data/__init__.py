"""Data: aligned tensors, few-shot labels, splits, image features, and the embedded globe."""

from geoenc.data.dataset import LocationBatch, LocationDataset
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.geotagged import GeotaggedImages
from geoenc.data.samplers import ClassBalancedSampler, few_shot

__all__ = [
    "ClassBalancedSampler",
    "DatasetNotFoundError",
    "GeotaggedImages",
    "LocationBatch",
    "LocationDataset",
    "few_shot",
]
