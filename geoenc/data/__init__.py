"""Data: aligned tensors, few-shot labels, splits, image features, and the embedded globe."""

from geoenc.data.dataset import LocationBatch, LocationDataset
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.features import RandomConvFeatures, TransformersFeatures, image_features
from geoenc.data.geotagged import GeotaggedImages, load_geotagged
from geoenc.data.globe import load_globe
from geoenc.data.samplers import ClassBalancedSampler, few_shot
from geoenc.data.splits import block_split, random_split

__all__ = [
    "ClassBalancedSampler",
    "DatasetNotFoundError",
    "GeotaggedImages",
    "LocationBatch",
    "LocationDataset",
    "RandomConvFeatures",
    "TransformersFeatures",
    "block_split",
    "few_shot",
    "image_features",
    "load_geotagged",
    "load_globe",
    "random_split",
]
