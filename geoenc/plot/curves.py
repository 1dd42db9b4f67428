"""Curves: similarity against distance, accuracy against labels."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geoenc._optional import require
from geoenc.coordinates import EARTH_RADIUS_KM, as_lonlat, to_lonlat, to_xyz
from geoenc.plot.colours import MARKERS, PALETTE
from geoenc.plot.models import Encoder, directions
from geoenc.plot.views import basis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BEARINGS = 36
_STEPS = 201
_METRICS = {
    "top1": "top-1 accuracy",
    "location_top1": "top-1 accuracy of the place alone",
    "mrr": "mean reciprocal rank",
}
_HALF_WAY_KM = math.pi * EARTH_RADIUS_KM


def kernel_curve(
    encoder: Encoder,
    at: Any = (0.0, 0.0),
    *,
    reach_km: float = _HALF_WAY_KM,
    label: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """cos(e(x), e(y)) against the distance of x and y along great circles.

    The line is the mean over 36 bearings from each place, the band reaches from the least to the
    greatest: an encoder that treats all directions alike has none.

    Args:
        encoder: any location encoder, or a position encoder, whose kernel this is.
        at: one place x, or several.
        reach_km: the greatest distance; half around the Earth by default.
        label: the name of the line.
        ax: where to draw, beside the lines already there; new ones if None.

    Shape:
        at ``(..., 2)``.

    Example:
        >>> import geoenc
        >>> from geoenc.plot import kernel_curve
        >>> ax = kernel_curve(geoenc.XYZ(), (10, 50), label="XYZ")
        >>> ax = kernel_curve(geoenc.SphericalHarmonics(10), (10, 50), label="harmonics", ax=ax)
    """
    if not 0 < reach_km <= _HALF_WAY_KM:
        raise ValueError(
            f"expected reach_km above 0 and up to {_HALF_WAY_KM:.0f}, half around the Earth, got "
            f"{reach_km:g}"
        )
    places = as_lonlat(at).reshape(-1, 2)
    distance = torch.linspace(0, reach_km, _STEPS, dtype=torch.float64)
    bearing = torch.arange(_BEARINGS, dtype=torch.float64) * (2 * math.pi / _BEARINGS)
    angle = (distance / EARTH_RADIUS_KM)[:, None]
    found = []
    for place in places:
        _, east, north = basis((place[0].item(), place[1].item()))
        heading = bearing.sin()[:, None] * east + bearing.cos()[:, None] * north
        ends = angle[..., None].cos() * to_xyz(place) + angle[..., None].sin() * heading
        found.append(directions(encoder, to_lonlat(ends)) @ directions(encoder, place[None])[0])
    similarity = torch.cat(found, 1).double()
    ax = _axes_of_curves(ax, "distance, km", "cosine similarity")
    colour = PALETTE[len(ax.lines) % len(PALETTE)]
    ax.plot(distance, similarity.mean(1), color=colour, linewidth=1.8, label=label)
    low, high = similarity.amin(1), similarity.amax(1)
    ax.fill_between(distance, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_xlim(0, reach_km)
    if label is not None:
        ax.legend(frameon=False, fontsize=9)
    return ax


def few_shot_curves(
    results: str | os.PathLike[str] | Mapping[str, Any],
    *,
    split: str | None = None,
    metric: str = "top1",
    methods: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """A score in % against the share of labels: a line per method, bars of one standard deviation.

    Args:
        results: ``results.json`` of a run of a recipe, or what it holds.
        split: which one; may be left out if there is only one.
        metric: ``"top1"``, ``"location_top1"`` (the place alone) or ``"mrr"``.
        methods: which, in the order of the legend; all that have the score if None.
        ax: where to draw; new ones if None.

    Example:
        >>> from geoenc.plot import few_shot_curves
        >>> cells = [
        ...     {"split": "random", "method": "CSP", "fraction": share, "top1": top1,
        ...      "top1_std": 0.01}
        ...     for share, top1 in ((0.05, 0.71), (0.1, 0.75), (1.0, 0.82))
        ... ]
        >>> ax = few_shot_curves({"summary": cells})
    """
    if isinstance(results, Mapping):
        read: Mapping[str, Any] = results
    else:
        read = json.loads(Path(results).read_text(encoding="utf-8"))
    cells = [cell for cell in read["summary"] if metric in cell]
    splits = list(dict.fromkeys(cell["split"] for cell in cells))
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise ValueError(
            f"expected split to be one of {splits} with the metric {metric!r}, got {split!r}"
        )
    cells = [cell for cell in cells if cell["split"] == split]
    known = list(dict.fromkeys(cell["method"] for cell in cells))
    shown = known if methods is None else list(methods)
    if set(shown) - set(known):
        raise ValueError(f"expected methods among {known}, got {shown}")
    ax = _axes_of_curves(ax, "share of labels", f"{_METRICS.get(metric, metric)}, %")
    for number, method in enumerate(shown):
        points = sorted((c for c in cells if c["method"] == method), key=lambda c: c["fraction"])
        beside = 1.015 ** (number - (len(shown) - 1) / 2)  # so that bars do not hide each other
        ax.errorbar(
            [point["fraction"] * beside for point in points],
            [100 * point[metric] for point in points],
            yerr=[100 * point[f"{metric}_std"] for point in points],
            label=method,
            color=PALETTE[number % len(PALETTE)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4.5,
            capsize=2,
            linewidth=1.5,
        )
    shares = sorted({cell["fraction"] for cell in cells})
    ax.set_xscale("log")
    ax.set_xticks(shares, [f"{share:.0%}" for share in shares])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    return ax


def _axes_of_curves(ax: "Axes | None", x: str, y: str) -> "Axes":
    if ax is None:
        pyplot = require("matplotlib.pyplot", extra="plot")
        ax = pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    return ax
