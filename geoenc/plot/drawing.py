"""Numbers, colours and points on a map with the outlines of countries."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoenc._optional import require
from geoenc.coordinates import as_lonlat
from geoenc.data.globe import countries
from geoenc.data.splits import spatial_blocks
from geoenc.metrics import class_means
from geoenc.plot.colours import LAND, LINES, PALETTE, SEQUENTIAL
from geoenc.plot.views import WORLD, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEAM = 1e-6
_HEXAGONS = 36
"""Half of the rows of a map."""


def draw_map(
    values: Tensor | Callable[[Tensor], Tensor],
    *,
    view: View = WORLD,
    height: int = 180,
    ax: "Axes | None" = None,
    cmap: str = SEQUENTIAL,
    low: float | None = None,
    high: float | None = None,
    label: str | None = None,
) -> "Axes":
    """f(x) for every place x of a map, as colours, with the outlines of countries.

    The numbers are ``ax.collections[0]``, from which ``figure.colorbar`` makes a colour bar.

    Args:
        values: a function of places; or its values at ``view.places(height)``, which for the
            world is `geoenc.sampling.lattice`, of any height.
        view: `World`, `Globe` or `Region`.
        height: rows of the map, if ``values`` is a function.
        ax: where to draw; new ones if None.
        cmap: a colour map of matplotlib.
        low, high: numbers at its ends; the least and the greatest if None.
        label: of the colour bar which new axes get then.

    Shape:
        values ``(rows, columns)`` numbers, NaN left white, or ``(rows, columns, 3)`` colours in
        [0, 1]; the function takes ``(rows, columns, 2)`` degrees.

    Example:
        >>> from geoenc.plot import Globe, draw_map
        >>> ax = draw_map(lambda lonlat: lonlat[..., 1].abs(), view=Globe((10, 50)), height=20)
        >>> ax.collections[0].get_clim()[0] < 10
        True
    """
    if callable(values):
        values = values(view.places(height))
    values = values.detach().cpu()
    corners = view.corners(values.shape[0])
    rows, columns = corners.shape[0] - 1, corners.shape[1] - 1
    if tuple(values.shape[:2]) != (rows, columns) or tuple(values.shape[2:]) not in ((), (3,)):
        raise ValueError(
            f"expected values of shape ({rows}, {columns}) or ({rows}, {columns}, 3) on a map of "
            f"{view}, got {tuple(values.shape)}; evaluate them at view.places({rows})"
        )
    given = ax is not None
    ax = ax if ax is not None else _new_axes(view)
    x, y = corners.numpy().transpose(2, 0, 1)
    mesh = ax.pcolormesh(x, y, values.numpy(), cmap=cmap, vmin=low, vmax=high, rasterized=True)
    _furnish(ax, view, [mesh])
    if label is not None and not given:
        _colour_bar(ax, mesh, label)
    return ax


def points_map(
    lonlat: Any,
    values: Tensor | None = None,
    *,
    labels: Sequence[str] | None = None,
    max_points: int = 5000,
    view: View = WORLD,
    ax: "Axes | None" = None,
    label: str | None = None,
) -> "Axes":
    """Samples on a map: each as a point, or, if there are many, by hexagons of equal area.

    A hexagon shows log10 of the number of its samples, or the mean of their values, or, with
    ``labels``, the class that most of them have.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; missing ones are left out.
        values: a number of each sample, or its class if there are ``labels``.
        labels: names of the classes; beyond eight, colours repeat.
        max_points: on the map are drawn one by one; more by hexagons. A `Globe`, which distorts
            areas, always shows points.
        view: `World`, `Globe` or `Region`.
        ax: where to draw; new ones if None.
        label: of the colour bar of new axes.

    Shape:
        lonlat ``(N, 2)``, values ``(N,)``.

    Example:
        >>> import torch
        >>> from geoenc import sampling
        >>> from geoenc.plot import points_map
        >>> ax = points_map(sampling.uniform(100_000, generator=torch.Generator().manual_seed(0)))
    """
    places = as_lonlat(lonlat, missing=True).cpu()
    if places.ndim != 2 or (values is not None and values.shape != places.shape[:1]):
        raise ValueError(
            f"expected lonlat of shape (N, 2) and values of shape (N,), got "
            f"{tuple(places.shape)} and {None if values is None else tuple(values.shape)}"
        )
    if labels is not None and (
        values is None
        or values.is_floating_point()
        or not bool(((values >= 0) & (values < len(labels))).all())
    ):
        raise ValueError(
            f"expected the number of a class below {len(labels)} for each sample beside labels; "
            "pass it as values"
        )
    given = ax is not None
    ax = ax if ax is not None else _new_axes(view)
    x, y = view.corners(180).numpy().transpose(2, 0, 1)
    land = on_land(view.places(180), antarctica=True)
    colours = require("matplotlib.colors", extra="plot")
    grey, floor = colours.ListedColormap([LAND]), np.where(land, 1.0, np.nan)
    ground = ax.pcolormesh(x, y, floor, cmap=grey, rasterized=True, zorder=0)
    plane = view.project(places)
    shown = ~plane.isnan().any(-1)
    (x, y), number = plane[shown].numpy().T, None if values is None else values.cpu()[shown].numpy()
    options: dict[str, Any] = {}
    if labels is not None:
        options = {
            "cmap": colours.ListedColormap([PALETTE[i % len(PALETTE)] for i in range(len(labels))]),
            "vmin": -0.5,
            "vmax": len(labels) - 0.5,
        }
    counted = values is None and len(x) > max_points and view.equal_area
    if len(x) <= max_points or not view.equal_area:
        size = float(np.clip(12_000 / max(len(x), 1), 1, 25))
        options |= {"c": number} if number is not None else {"color": PALETTE[0]}
        drawn: Any = ax.scatter(x, y, s=size, linewidths=0, rasterized=len(x) > 2000, **options)
    else:
        frame = view.frame()
        (west, south), (east, north) = frame.amin(0).tolist(), frame.amax(0).tolist()
        across = max(1, round(3**0.5 * _HEXAGONS * (east - west) / (north - south)))
        options |= {"gridsize": (across, _HEXAGONS), "extent": (west, east, south, north)}
        reduce = np.mean if labels is None else _most_frequent
        options |= {"bins": "log"} if counted else {"C": number, "reduce_C_function": reduce}
        drawn = ax.hexbin(x, y, mincnt=1, linewidths=0.1, **options)
    _furnish(ax, view, [ground, drawn])
    if labels is not None:
        _legend(ax, labels, options["cmap"].colors)
    elif not given and (counted or (label is not None and values is not None)):
        _colour_bar(ax, drawn, label or "samples in a hexagon")
    return ax


def block_map(
    lonlat: Any,
    score: Tensor,
    *,
    degrees: float = 5.0,
    view: View = WORLD,
    height: int = 180,
    ax: "Axes | None" = None,
    cmap: str = SEQUENTIAL,
    low: float | None = None,
    high: float | None = None,
    label: str | None = None,
) -> "Axes":
    """The mean score of the samples of each block: where a model is right, and where it is biased.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; missing ones are left out.
        score: of each sample: whether it is right, its reciprocal rank, its self-information
            (`geoenc.metrics.self_information`).
        degrees: side of the blocks of `geoenc.data.splits.spatial_blocks`, of about equal area.
        view, height, ax, cmap, low, high, label: see `draw_map`.

    Shape:
        lonlat ``(N, 2)``, score ``(N,)``.

    Example:
        >>> import torch
        >>> from geoenc import sampling
        >>> from geoenc.plot import block_map
        >>> places = sampling.fibonacci(5000)
        >>> ax = block_map(places, places[:, 1] > 0, degrees=20, label="share that is right")
    """
    places = as_lonlat(lonlat, missing=True).cpu()
    known = ~places.isnan().any(-1)
    block = spatial_blocks(places[known], degrees=degrees)
    where = view.places(height)
    pixel = spatial_blocks(where.flatten(0, 1), degrees=degrees)
    count = 1 + int(torch.cat([block, pixel]).max())
    means = class_means(score.cpu()[known], block, count)
    shown = means[pixel].view(where.shape[:2])
    return draw_map(shown, view=view, ax=ax, cmap=cmap, low=low, high=high, label=label)


def graticule(ax: "Axes", *, view: View = WORLD, degrees: float = 30.0) -> "Axes":
    """Add meridians and parallels to a map.

    Args:
        ax: what a function of this module returned.
        view: that of the map.
        degrees: between two lines.

    Example:
        >>> from geoenc.plot import Globe, graticule, draw_map
        >>> pole = Globe((0, 90))
        >>> ax = graticule(draw_map(lambda lonlat: lonlat[..., 1], view=pole), view=pole)
    """
    along = torch.linspace(-1, 1, 361, dtype=torch.float64)
    gap = torch.full((1, 2), torch.nan, dtype=torch.float64)
    lines = []
    for lon in torch.arange(-180, 180, degrees, dtype=torch.float64):
        lines += [torch.stack([lon.expand(361), 90 * along], -1), gap]
    for lat in torch.arange(degrees, 90, degrees, dtype=torch.float64):
        for side in (lat, -lat):
            lines += [torch.stack([180 * along, side.expand(361)], -1), gap]
    lines += [torch.stack([180 * along, 0 * along], -1), gap]
    _line(ax, view, torch.cat(lines), color="0.5", linewidth=0.3)
    return ax


def on_land(lonlat: Tensor, *, antarctica: bool = False) -> Tensor:
    """Whether places lie in a country of the embedded map.

    Args:
        lonlat: places.
        antarctica: count it, which has hardly any data.

    Shape:
        ``(..., 2)`` degrees to ``(...)`` booleans.
    """
    shapely = require("shapely", extra="plot")
    lon, lat = lonlat.unbind(-1)
    found = shapely.contains_xy(_land(antarctica), lon.numpy(), lat.numpy())
    return torch.from_numpy(np.asarray(found))


@functools.cache
def _land(antarctica: bool) -> Any:
    shapely = require("shapely", extra="plot")
    table = countries()
    kept = table.geometry if antarctica else table.geometry[table["continent"] != "Antarctica"]
    land = shapely.union_all(kept.to_numpy())
    shapely.prepare(land)
    return land


@functools.cache
def _outlines() -> tuple[Tensor, Tensor]:
    """Coasts and borders, ``(N, 2)`` degrees, a point at least each degree, NaN between lines.

    Where a country is cut at the antimeridian or at the south pole, that side is left out.
    """
    shapely = require("shapely", extra="plot")
    shapes = countries().geometry.to_numpy()
    coasts = shapely.boundary(shapely.union_all(shapes))
    borders = shapely.difference(shapely.union_all(shapely.boundary(shapes)), coasts)
    return _spaced(coasts), _spaced(shapely.line_merge(borders))


def _spaced(lines: Any) -> Tensor:
    shapely = require("shapely", extra="plot")
    parts = shapely.segmentize(shapely.get_parts(lines), 1.0)
    coordinates, line = shapely.get_coordinates(parts, return_index=True)
    places = torch.from_numpy(coordinates)
    cut = (places[:, 0].abs() > 180 - _SEAM) | (places[:, 1] < -90 + _SEAM)
    new = torch.from_numpy(np.diff(line, prepend=0) != 0)
    row = torch.arange(len(places)) + (new | (cut & cut.roll(1))).cumsum(0)
    spaced = torch.full((int(row[-1]) + 1, 2), torch.nan, dtype=torch.float64)
    spaced[row] = places
    return spaced


def _new_axes(view: View) -> "Axes":
    pyplot = require("matplotlib.pyplot", extra="plot")
    frame = view.frame()
    width, height = (frame.amax(0) - frame.amin(0)).tolist()
    scale = min(8 / width, 5.5 / height)
    size = (max(scale * width, 3.0), max(scale * height, 2.0))
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _furnish(ax: "Axes", view: View, drawn: list[Any]) -> None:
    """Outlines, the frame of the map, and nothing beyond it."""
    patches = require("matplotlib.patches", extra="plot")
    frame = view.frame()
    edge = patches.Polygon(frame.numpy(), fill=False, edgecolor="0.5", linewidth=0.6, zorder=3)
    ax.add_patch(edge)
    coasts, borders = _outlines()
    _line(ax, view, coasts, color=LINES, linewidth=0.5)
    _line(ax, view, borders, color=LINES, linewidth=0.25)
    for artist in drawn:
        artist.set_clip_path(edge)
    low, high = frame.amin(0), frame.amax(0)
    (left, bottom), (right, top) = low - 0.01 * (high - low), high + 0.01 * (high - low)
    ax.set_xlim(left.item(), right.item())
    ax.set_ylim(bottom.item(), top.item())
    ax.set_aspect("equal")
    ax.set_axis_off()


def _line(ax: "Axes", view: View, lonlat: Tensor, **style: Any) -> Any:
    x, y = view.project(lonlat).numpy().T
    patches = require("matplotlib.patches", extra="plot")
    (line,) = ax.plot(x, y, zorder=2, scalex=False, scaley=False, **style)
    line.set_clip_path(patches.Polygon(view.frame().numpy(), transform=ax.transData))
    return line


def _colour_bar(ax: "Axes", drawn: Any, label: str) -> None:
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.7, aspect=25, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)


def _legend(ax: "Axes", labels: Sequence[str], colours: Sequence[str]) -> None:
    lines = require("matplotlib.lines", extra="plot")
    handles = [
        lines.Line2D([], [], color=colour, marker="o", linestyle="", label=name)
        for colour, name in zip(colours, labels, strict=True)
    ]
    ax.legend(handles=handles, loc="lower left", frameon=False, fontsize=8, handletextpad=0.1)


def _most_frequent(classes: Any) -> int:
    return int(np.bincount(np.asarray(classes, dtype=np.int64)).argmax())
