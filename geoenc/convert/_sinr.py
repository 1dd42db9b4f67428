"""SINR: species range models on sines and cosines."""

import json
import os
from typing import Any

import torch

from geoenc.convert._checkpoint import Checkpoint, prefixed
from geoenc.convert._codes import Code, same
from geoenc.convert._networks import residual
from geoenc.encoder import LocationEncoder
from geoenc.models import LocationClassifier
from geoenc.network import Linear, Network, ResidualNet
from geoenc.position import Raster, Wrap


def sinr(path: str | os.PathLike[str], *, raster: Any = None) -> LocationClassifier:
    """sigma(T e(x)) of a SINR model (``.pt``), with equal numbers.

    ``model.metadata["class_to_taxa"]`` is the list of iNaturalist's taxa, one for each class, as
    JSON, if the file has it.

    Args:
        path: a file with ``state_dict`` and ``params``.
        raster: ``(H, W, C)`` numbers, first row at the north pole: only for models on ``env``,
            which do not hold their environmental layers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that contradicts itself; all differences are listed.
            Also ``sin_cos_env``, whose two codes side by side no encoder here has.

    Example:
        >>> import geoenc
        >>> geoenc.convert.sinr("absent.pt")
        Traceback (most recent call last):
        FileNotFoundError: expected a file with weights, got 'absent.pt', which is no file...

    Reference:
        Cole et al., Spatial implicit neural representations for global-scale species mapping,
        ICML 2023.
    """
    file = Checkpoint.open(path, "a SINR model", settings=("params",))
    code = _code(file, raster)
    file.differs("parameter input_dim", code.columns, file.settings.get("input_dim", code.columns))
    classes, taxa = file.whole("num_classes"), file.settings.get("class_to_taxa")
    if isinstance(taxa, list):
        file.differs("length of class_to_taxa", classes, len(taxa))
    simple = file.choice("model", {"ResidualFCNet": False, "LinNet": True})
    if simple:
        width, depth = code.columns, 0
        state = {"linear.weight": torch.eye(width, dtype=torch.float64)}
    else:
        width, depth = file.whole("num_filts"), file.whole("depth", default=4, most=1000)
        state = residual(file, "feats", code, width, depth, 0)
    head = file.take("class_emb.weight", classes, width)
    file.check()
    network: Network = (
        Linear(width, width, bias=False)
        if simple
        else ResidualNet(code.columns, width, depth=depth)
    )
    facts = {} if taxa is None else {"class_to_taxa": json.dumps(taxa)}
    model: LocationClassifier = file.filled(
        LocationClassifier(LocationEncoder(code.position, network), classes),
        {
            **prefixed("encoder.position", code.state),
            **prefixed("encoder.network", state),
            "head.weight": head,
        },
        format="sinr",
        paper="Cole et al., SINR, ICML 2023",
        source="https://github.com/elijahcole/sinr",
        licence="MIT",
        training_data="iNaturalist observations",
        coordinates="longitude, latitude in degrees; the original takes them divided by 180 and 90",
        **facts,
    )
    return model


def _code(file: Checkpoint, raster: Any) -> Code:
    if file.choice("input_enc", {"sin_cos": False, "env": True}) is False:
        return same(Wrap())
    if raster is None:
        file.problems.append(
            "raster: the file does not hold the environmental layers it reads; pass raster="
        )
        return same(Wrap())
    values = torch.as_tensor(raster)
    if values.ndim != 3:
        file.problems.append(f"raster: expected shape (H, W, C), got {tuple(values.shape)}")
        return same(Wrap())
    height, width, channels = values.shape
    position = Raster(channels, height=height, width=width).fit(values)
    return Code(position, channels, state=dict(position.state_dict()))
