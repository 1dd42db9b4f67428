"""The page: one HTML file with its numbers, its style and its script inside."""

import html
import json
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from geoenc._stored import as_encoder, check_time
from geoenc.explore import numbers
from geoenc.explore.numbers import text_of
from geoenc.explore.training import Training
from geoenc.models import LocationClassifier
from geoenc.position import PositionEncoder

_FACTS = ("training_data", "paper", "licence", "source", "method")


def explore_page(
    model: Any,
    *,
    name: str = "",
    training: Training | None = None,
    time: float | None = None,
    rows: int = 120,
    dimensions: int = 96,
) -> str:
    """HTML: principal components as colours, and at a click the most similar places.

    A `geoenc.LocationClassifier` also shows its most probable classes; its names are those in
    ``model.metadata["classes"]``. The page needs no network and no other file. It knows a grid of
    places (18,334 by default, 167 km apart); their embeddings are kept in few directions and in
    steps of 1/127, and the page says how far its cosines are off.

    Args:
        model: an encoder, a position encoder, or a model with an encoder.
        name: the title.
        training: places to name beside a click; see `geoenc.explore.read_training`.
        time: fraction of the year, for models with time.
        rows: of the grid, 180 / rows degrees apart.
        dimensions: of the embeddings, at most.

    Raises:
        TypeError: a model that does not embed places.
        ValueError: a model with time without ``time``, or the reverse.

    Example:
        >>> import geoenc
        >>> from geoenc.explore import explore_page
        >>> page = explore_page(geoenc.published.encoder("SINR"), name="SINR", rows=30)
        >>> page[:15], "://" in page.partition("<script")[0]
        ('<!doctype html>', False)
    """
    if dimensions < 1:
        raise ValueError(f"expected at least 1 dimension, got {dimensions}; 96 is usual")
    bare = isinstance(model, PositionEncoder)
    encoder = model if bare else as_encoder(model)
    if not bare:
        check_time(encoder, time is not None)
    columns, places = numbers.grid(rows)
    moment = None if time is None else torch.tensor(time, dtype=torch.float64)
    embedding = numbers.embeddings(encoder, places, moment)
    short = numbers.vectors(embedding, dimensions)
    names, country = numbers.country_of(places)
    rings, lengths, land = numbers.outlines()
    document = {
        "name": name or type(model).__name__,
        "facts": _facts(model, encoder, time),
        "columns": columns,
        "dimensions": len(short.scale),
        "vectors": text_of(short.quantised, "i1"),
        "scale": [float(f"{one:.6g}") for one in short.scale],
        "error": {"rms": short.rms, "max": short.max},
        "colours": text_of(numbers.colours(embedding, places), "u1"),
        "land": text_of(numbers.on_land(places), "u1"),
        "country": text_of(country, "i2"),
        "countries": names,
        "middles": numbers.middles(),
        "outlines": {"points": text_of(rings, "i2"), "lengths": lengths, "land": land},
        "classes": _classes(model, places, moment),
        "training": None if training is None else _training(training),
    }
    return _filled(document)


def _facts(model: Any, encoder: Any, time: float | None) -> list[tuple[str, str]]:
    """What the page says of the model."""
    count = sum(one.numel() for one in model.parameters())
    facts = [
        ("Model", f"{type(model).__name__}, {count:,} parameters, {encoder.out_features} wide")
    ]
    if time is not None:
        facts.append(("Time", f"{time:.3f} of the year"))
    known = {**getattr(encoder, "metadata", {}), **getattr(model, "metadata", {})}
    facts += [
        (key.replace("_", " ").capitalize(), str(known[key])) for key in _FACTS if key in known
    ]
    return facts


def _classes(model: Any, places: Tensor, time: Tensor | None) -> dict[str, Any] | None:
    if not isinstance(model, LocationClassifier):
        return None
    index, probability = numbers.classes(model, places, time)
    names = model.metadata.get("classes")
    if not isinstance(names, list) or len(names) != model.num_classes:
        names = None
    return {
        "count": model.num_classes,
        "names": names,
        "top": index.shape[1],
        "index": text_of(index, "u4" if model.num_classes > 65536 else "u2"),
        "probability": text_of(probability, "u2"),
    }


def _training(training: Training) -> dict[str, Any]:
    labels = sorted({one for one in training.labels or () if one is not None})
    number = {label: place for place, label in enumerate(labels)}
    return {
        "total": training.total,
        "lonlat": text_of(training.lonlat, "f4"),
        "labels": labels,
        "label": training.labels
        and text_of([-1 if one is None else number[one] for one in training.labels], "i4"),
    }


def _filled(document: dict[str, Any]) -> str:
    """The page with its parts in place; text of the model cannot end a script."""
    folder = resources.files("geoenc.explore")
    page, style, script = (
        folder.joinpath(f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("html", "css", "js")
    )
    packed = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "{{title}}": html.escape(document["name"]),
        "/* style */": style,
        "/* script */": script,
        "{{numbers}}": packed.replace("<", "\\u003c"),
    }
    for mark, text in parts.items():
        before, _, after = page.partition(mark)
        page = before + text + after
    return page
