"""World maps of encoders and classifiers, on the equal-area Equal Earth projection."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoenc import sampling
from geoenc._optional import require
from geoenc.coordinates import as_lonlat, equal_earth
from geoenc.data.globe import countries
from geoenc.encoder import LocationEncoder, SumEncoder
from geoenc.models import LocationClassifier
from geoenc.position import PositionEncoder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEA = 0.25


def pca_map(
    encoder: LocationEncoder | SumEncoder, *, height: int = 180, ax: "Axes | None" = None
) -> "Axes":
    """Three principal components of e(x) over land as red, green and blue.

    Places with like colours have like embeddings. The sea, which no land data trained, is pale.

    Args:
        encoder: any location encoder.
        height: rows of the map; twice as many columns.
        ax: where to draw; new ones if None.

    Returns:
        The axes.
    """
    places = sampling.lattice(height)
    embedding = encoder.embed(places).cpu().double().flatten(0, 1)
    land = on_land(places).flatten()
    centred = embedding - embedding[land].mean(0)
    _, directions = torch.linalg.eigh(centred[land].mT @ centred[land])
    components = centred @ directions[:, -3:].flip(1)
    low, high = (torch.quantile(components[land], q, dim=0) for q in (0.02, 0.98))
    colours = ((components - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    picture = torch.where(land[:, None], colours, 1 - _SEA * (1 - colours))
    return draw_map(picture.view(height, 2 * height, 3), ax=ax)


def similarity_map(
    encoder: LocationEncoder | SumEncoder | PositionEncoder,
    at: Any,
    *,
    height: int = 180,
    ax: "Axes | None" = None,
) -> "Axes":
    """cos(e(x), e(at)) for every place x of the world.

    Of a position encoder this is its kernel: which places a network takes to be alike before it
    has learned anything.

    Args:
        encoder: any location encoder, or a position encoder by itself.
        at: one place, (lon, lat) in degrees.
        height: rows of the map.
        ax: where to draw; new ones if None.
    """
    place = as_lonlat(at)
    if place.shape != (2,):
        raise ValueError(f"expected one place (lon, lat), got shape {tuple(place.shape)}")
    if isinstance(encoder, PositionEncoder):
        device = encoder._dtype_of_module.device
        with torch.no_grad():
            there = encoder(place.to(device))
            everywhere = encoder.write(sampling.lattice(height).flatten(0, 1).to(device))
        everywhere = everywhere.unflatten(0, (height, -1))
    else:
        there, everywhere = encoder.embed(place), encoder.embed(sampling.lattice(height))
    unit = torch.nn.functional.normalize(everywhere.cpu(), dim=-1)
    there = torch.nn.functional.normalize(there.cpu(), dim=-1)
    ax = draw_map(unit @ there, ax=ax, cmap="RdBu_r", low=-1.0, high=1.0)
    x, y = equal_earth(place).tolist()
    ax.plot(x, y, marker="x", color="black", markersize=6)
    return ax


def class_map(
    classifier: LocationClassifier,
    index: int,
    *,
    height: int = 180,
    normalised: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """P(y = index | place) over the world.

    Args:
        classifier: any location classifier.
        index: which class.
        height: rows of the map.
        normalised: divide by the sum over classes, for comparison between classifiers.
        ax: where to draw; new ones if None.
    """
    if not 0 <= index < classifier.num_classes:
        raise ValueError(f"expected a class in [0, {classifier.num_classes}), got {index}")
    places = sampling.lattice(height)
    device = next(classifier.parameters()).device
    probability = classifier.probabilities(places.to(device)).cpu()
    if normalised:
        probability = probability / probability.sum(-1, keepdim=True)
    shown = probability[..., index].where(on_land(places), torch.nan)
    return draw_map(shown, ax=ax, cmap="viridis", low=0.0, high=1.0)


def on_land(lonlat: Tensor) -> Tensor:
    """Whether places lie in a country of the embedded map; Antarctica, without data, is left out.

    Shape:
        ``(..., 2)`` degrees to ``(...)`` booleans.
    """
    shapely = require("shapely", extra="plot")
    lon, lat = lonlat.unbind(-1)
    return torch.from_numpy(np.asarray(shapely.contains_xy(_land(), lon.numpy(), lat.numpy())))


@functools.cache
def _land() -> Any:
    shapely = require("shapely", extra="plot")
    table = countries()
    land = shapely.union_all(table.geometry[table["continent"] != "Antarctica"].to_numpy())
    shapely.prepare(land)
    return land


def draw_map(
    values: Tensor,
    *,
    ax: "Axes | None" = None,
    cmap: str = "viridis",
    low: float | None = None,
    high: float | None = None,
) -> "Axes":
    """Draw numbers, or colours, of a global lattice with the outlines of countries.

    Shape:
        values ``(height, width)`` numbers, NaN left white, or ``(height, width, 3)`` colours in
        [0, 1], as `geoenc.sampling.lattice` orders places.
    """
    pyplot = require("matplotlib.pyplot", extra="plot")
    height, width = values.shape[:2]
    lat = 90 - 180 * torch.arange(height + 1, dtype=torch.float64) / height
    lon = 360 * torch.arange(width + 1, dtype=torch.float64) / width - 180
    corners = torch.stack([lon.expand(height + 1, -1), lat[:, None].expand(-1, width + 1)], -1)
    x, y = equal_earth(corners).unbind(-1)
    if ax is None:
        ax = pyplot.subplots(figsize=(8, 4), layout="constrained")[1]
    ax.pcolormesh(
        x.numpy(), y.numpy(), values.numpy(), cmap=cmap, vmin=low, vmax=high, rasterized=True
    )
    collections = require("matplotlib.collections", extra="plot")
    ax.add_collection(
        collections.LineCollection(_outlines(), colors="black", linewidths=0.3), autolim=False
    )
    lat = torch.linspace(-90, 90, 91, dtype=torch.float64)
    for side in (-180.0, 180.0):
        edge = equal_earth(torch.stack([torch.full_like(lat, side), lat], -1))
        ax.plot(*edge.unbind(-1), color="0.5", linewidth=0.5)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


@functools.cache
def _outlines() -> list[np.ndarray]:
    """Borders and coasts on the plane of the map, one array of points for each ring."""
    shapely = require("shapely", extra="plot")
    rings = shapely.get_rings(shapely.get_parts(countries().geometry.to_numpy()))
    points = [torch.from_numpy(shapely.get_coordinates(ring).copy()) for ring in rings]
    return [equal_earth(ring).numpy() for ring in points]
