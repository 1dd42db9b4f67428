"""Data: aligned tensors, few-shot labels, splits, image features, and the embedded globe."""

from geoenc.data.answers import Answers
from geoenc.data.checking import CheckedFile, CheckReport, check
from geoenc.data.coordbench import load_coordbench
from geoenc.data.dataset import LocationBatch, LocationDataset
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.features import RandomConvFeatures, TransformersFeatures, image_features
from geoenc.data.geotagged import GeotaggedImages, load_geotagged
from geoenc.data.globe import load_globe
from geoenc.data.locbench import load_locbench, load_locbench_values, score_locbench
from geoenc.data.published import (
    READERS,
    load_birdsnap,
    load_classes,
    load_fmow,
    load_inat2017,
    load_inat2018,
    load_nabirds,
    load_subset,
    load_yfcc,
)
from geoenc.data.range_suite import load_range_suite
from geoenc.data.rows import NpyRows, Rows, SparseRows, open_rows, read_ahead
from geoenc.data.samplers import ClassBalancedSampler, few_shot, place_sampler
from geoenc.data.splits import block_split, random_split
from geoenc.data.synthetic import make_published, make_synthetic

__all__ = [
    "READERS",
    "Answers",
    "CheckReport",
    "CheckedFile",
    "ClassBalancedSampler",
    "DatasetNotFoundError",
    "GeotaggedImages",
    "LocationBatch",
    "LocationDataset",
    "NpyRows",
    "RandomConvFeatures",
    "Rows",
    "SparseRows",
    "TransformersFeatures",
    "block_split",
    "check",
    "few_shot",
    "image_features",
    "load_birdsnap",
    "load_classes",
    "load_coordbench",
    "load_fmow",
    "load_geotagged",
    "load_globe",
    "load_inat2017",
    "load_inat2018",
    "load_locbench",
    "load_locbench_values",
    "load_nabirds",
    "load_range_suite",
    "load_subset",
    "load_yfcc",
    "make_published",
    "make_synthetic",
    "open_rows",
    "place_sampler",
    "random_split",
    "read_ahead",
    "score_locbench",
]
