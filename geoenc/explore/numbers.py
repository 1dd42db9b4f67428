"""The numbers of a page: what a model says of a grid of places, small enough for a file."""

import base64
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoenc.data.globe import countries
from geoenc.models import LocationClassifier
from geoenc.plot.drawing import on_land
from geoenc.plot.models import component_colours
from geoenc.position import PositionEncoder

TOP_CLASSES = 8
"""Classes of each place that the page keeps."""
_TAIL = 1e-4
"""Part of the squared length that the directions left out may have."""
_CLASS_ROWS = 4096
_CHECKED = 64
_CENTIDEGREES = 100


class Vectors(NamedTuple):
    """Unit vectors in few dimensions, v = scale q.

    Attributes:
        quantised: q, ``(N, K)`` int8.
        scale: ``(K,)`` float32.
        rms, max: errors of the cosines between them, of those that were compared.
    """

    quantised: Tensor
    scale: Tensor
    rms: float
    max: float


def grid(rows: int) -> tuple[list[int], Tensor]:
    """Centres of cells of nearly equal area, 180 / rows degrees wide: n_i = 2 rows cos(lat_i).

    Args:
        rows: from the north to the south pole.

    Returns:
        The number of places in each row, and the places ``(N, 2)``, north first, west first.

    Example:
        >>> from geoenc.explore.numbers import grid
        >>> columns, places = grid(4)
        >>> columns, places[0]
        ([3, 7, 7, 3], tensor([-120.0000,   67.5000], dtype=torch.float64))
    """
    if rows < 2:
        raise ValueError(f"expected at least 2 rows, got {rows}; 120 is usual")
    lat = 90 - 180 * (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    columns = torch.round(2 * rows * torch.cos(torch.deg2rad(lat))).clamp_min(3).long().tolist()
    parts = []
    for count, here in zip(columns, lat, strict=True):
        lon = 360 * (torch.arange(count, dtype=torch.float64) + 0.5) / count - 180
        parts.append(torch.stack([lon, here.expand(count)], -1))
    return columns, torch.cat(parts)


def embeddings(encoder: Any, places: Tensor, time: Tensor | None) -> Tensor:
    """e(x), of a model or of a position encoder by itself; ``(N, D)`` on the CPU."""
    moment = None if time is None else time.expand(len(places))
    if isinstance(encoder, PositionEncoder):
        with torch.no_grad():
            return encoder.write(places, time=moment).cpu().float()
    found: Tensor = encoder.embed(places, moment).cpu().float()
    return found


def vectors(embedding: Tensor, most: int) -> Vectors:
    """u = e / |e| on the directions with the largest sum of squares, in steps of 1/127 of the top.

    The directions are not centred, so that cosines are kept: u_i . u_j is nearly v_i . v_j.

    Args:
        embedding: ``(N, D)``; a row that is not finite becomes zero, similar to nothing.
        most: directions to keep; fewer if they hold all but 1e-4 of the squared length.
    """
    unit = torch.nn.functional.normalize(torch.nan_to_num(embedding, 0.0, 0.0, 0.0), dim=-1)
    energy, directions = torch.linalg.eigh((unit.mT @ unit).double())
    energy, directions = energy.flip(0).clamp_min(0), directions.flip(1).float()
    left = 1 - energy.cumsum(0) / energy.sum().clamp_min(1e-12)
    kept = min(int((left > _TAIL).sum()) + 1, most, len(energy))
    short = unit @ directions[:, :kept]
    scale = short.abs().amax(0).clamp_min(1e-12) / 127
    quantised = (short / scale).round().to(torch.int8)
    restored = quantised * scale
    some = torch.linspace(0, len(unit) - 1, min(_CHECKED, len(unit))).long()
    error = restored[some] @ restored.mT - unit[some] @ unit.mT
    return Vectors(quantised, scale, error.square().mean().sqrt().item(), error.abs().max().item())


def classes(
    model: LocationClassifier, places: Tensor, time: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The most probable classes of each place, and P(y | x) as 65535 p.

    Shape:
        both ``(N, T)`` int64, T = min(`TOP_CLASSES`, Q).
    """
    count = min(TOP_CLASSES, model.num_classes)
    device = next(model.parameters()).device
    found = []
    for rows in places.to(device).split(_CLASS_ROWS):
        moment = None if time is None else time.to(device).expand(len(rows))
        found.append(model.probabilities(rows, moment).nan_to_num(0.0).topk(count))
    top = torch.cat([one.values for one in found]).cpu().double()
    index = torch.cat([one.indices for one in found]).cpu()
    return index, (top * 65535).round().long()


def country_of(places: Tensor) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the embedded countries, and the number of that of each place; -1 at sea."""
    import shapely

    table = countries()
    tree = shapely.STRtree(table.geometry.to_numpy())
    point, row = tree.query(shapely.points(places.numpy()), predicate="within")
    found = np.full(len(places), -1)
    found[point] = row
    return table["name"].tolist(), found


def outlines() -> tuple[NDArray[np.int64], list[int], int]:
    """Rings of the countries in hundredths of a degree, Antarctica last; lengths; how many before.

    The last number is that of the rings which are land to `geoenc.plot.on_land`.
    """
    import shapely

    table = countries()
    ice = (table["continent"] == "Antarctica").to_numpy()
    parts = []
    for some in (table.geometry[~ice], table.geometry[ice]):
        parts.append(shapely.get_rings(shapely.get_parts(some.to_numpy())))
    points = [shapely.get_coordinates(ring) for ring in np.concatenate(parts)]
    steps = np.round(np.concatenate(points) * _CENTIDEGREES).astype(np.int64)
    return steps, [len(ring) for ring in points], len(parts[0])


def middles() -> list[list[float]]:
    """A place inside the largest part of each country."""
    import shapely

    found = []
    for shape in countries().geometry.to_numpy():
        parts = shapely.get_parts(shape)
        inside = shapely.point_on_surface(parts[shapely.area(parts).argmax()])
        found.append([round(inside.x, 2), round(inside.y, 2)])
    return found


def colours(embedding: Tensor, places: Tensor) -> Tensor:
    """The colours of `geoenc.plot.pca_map`, ``(N, 3)`` uint8."""
    shown = component_colours(torch.nan_to_num(embedding).double(), on_land(places))
    return (255 * shown).round().to(torch.uint8)


def text_of(values: Any, kind: str) -> str:
    """The bytes of an array, little-endian, as base64.

    Args:
        values: a tensor or an array.
        kind: of the numbers: ``"i1"``, ``"u2"``, ``"f4"``, ...
    """
    packed = np.ascontiguousarray(np.asarray(values)).astype(f"<{kind}").tobytes()
    return base64.b64encode(packed).decode("ascii")
