"""Objectives: embeddings in, a scalar out. Losses hold no model and normalise by themselves."""

from geoenc.losses.cached import cached_backward
from geoenc.losses.contrastive import InfoNCELoss
from geoenc.losses.criteria import multiclass, nce
from geoenc.losses.csp import CSPLoss
from geoenc.losses.logits import in_batch, sampled
from geoenc.losses.presence import PresenceAbsenceLoss
from geoenc.losses.queue import LocationQueue

__all__ = [
    "CSPLoss",
    "InfoNCELoss",
    "LocationQueue",
    "PresenceAbsenceLoss",
    "cached_backward",
    "in_batch",
    "multiclass",
    "nce",
    "sampled",
]
