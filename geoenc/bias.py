"""Where is a model right, and for whom? The geo-bias of one file of predictions."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoenc._files import atomic_path
from geoenc._optional import require
from geoenc.coordinates import EARTH_RADIUS_KM, as_lonlat, equal_earth
from geoenc.data.globe import countries
from geoenc.data.regions import OPEN_SEA, region_of
from geoenc.metrics import (
    SelfInformation,
    class_means,
    density_profile,
    relative_information,
    self_information,
    worst_region,
)
from geoenc.plot import block_map
from geoenc.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NEIGHBORS = 10
_BINS = 5
_BLOCK_DEGREES = 5.0
_PEOPLE = (10, 30, 100, 300)
"""Between which densities of population, in people per square kilometre, samples are counted."""


@dataclass(frozen=True)
class Part:
    """Accuracy of some of the samples.

    Args:
        name: of a region, or the distances or densities between which the samples are.
        samples: how many.
        accuracy: share that is right.
        standard_error: sqrt(p (1 - p) / n), for independent samples.
    """

    name: str
    samples: int
    accuracy: float
    standard_error: float


@dataclass(frozen=True)
class BiasReport:
    """How accuracy varies over the globe.

    Args:
        samples: how many; those without a place are in no other number.
        located: samples with a place.
        accuracy: of these.
        radius_km, max_neighbors: of the neighbourhoods of the two scores that follow.
        unmarked, marked: mean spatial self-information, see `geoenc.metrics.self_information`.
        unmarked_weighted, marked_weighted: weighted by the number of neighbours.
        relative: mean relative information of rings, see `geoenc.metrics.relative_information`.
        continents: by continent.
        worst_country: of those with at least ``min_samples``; None if there is no such country.
        min_samples: of a country.
        density: by the distance of the 10th neighbour, from crowded places to lonely ones; empty
            for fewer than 11 samples.
        population: by the people per square kilometre of the country, from empty countries to
            crowded ones; samples in the open sea are in none.
        scores: of each sample, in its row.
    """

    samples: int
    located: int
    accuracy: float
    radius_km: float
    max_neighbors: int
    unmarked: float
    marked: float
    unmarked_weighted: float
    marked_weighted: float
    relative: float
    continents: tuple[Part, ...]
    worst_country: Part | None
    min_samples: int
    density: tuple[Part, ...]
    population: tuple[Part, ...]
    scores: SelfInformation = field(repr=False)


def read_predictions(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
    """Places ``(N, 2)``, NaN where unknown, and whether each sample is right ``(N,)``.

    Args:
        path: a file of `geoenc.predictions.Predictions`, of which the first class counts; a
            table (.parquet or .csv) with columns ``lon``, ``lat`` and ``correct`` (0 or 1); or the
            samples (.npz) of a result of ``geoenc bench``, of which the first seed counts.
    """
    import pandas

    file = Path(path)
    if file.suffix not in (".parquet", ".csv", ".npz"):
        raise ValueError(
            f"expected predictions in a file .parquet or .csv, or .npz of geoenc bench, got "
            f"{file.name!r}; save them so"
        )
    with open(file, "rb"):
        pass  # the error of a missing file, in the words of the system
    if file.suffix == ".npz":
        return _benchmark(file)
    if file.suffix == ".csv":
        table = pandas.read_csv(file)
    else:
        parquet, arrow = (require(f"pyarrow{one}", extra="scale") for one in (".parquet", ""))
        try:
            metadata = parquet.read_schema(file).metadata or {}
        except arrow.ArrowInvalid as error:
            raise ValueError(
                f"expected a Parquet file in {str(path)!r}, got another or a damaged one "
                f"({error}); write it again"
            ) from error
        if b"geoenc" in metadata:
            predictions = Predictions.load(file)
            return as_lonlat(predictions.lonlat, missing=True), predictions.hits(1)
        table = pandas.read_parquet(file)
    lacking = [name for name in ("lon", "lat", "correct") if name not in table.columns]
    if lacking:
        raise ValueError(
            f"expected predictions that geoenc saved, or columns lon, lat and correct, in "
            f"{str(path)!r}, got no {' and no '.join(lacking)} among {list(table.columns)}; rename "
            "or add what is missing"
        )
    correct = torch.tensor(table["correct"].to_numpy(dtype="float64", na_value=float("nan")))
    wrong = int(((correct != 0) & (correct != 1)).sum())
    if wrong:
        raise ValueError(
            f"expected 0 or 1 in column correct, got other values in {wrong} of {len(correct)} "
            "rows; compare scores with a threshold first, and leave out what was not judged"
        )
    return as_lonlat(table[["lon", "lat"]], missing=True), correct.bool()


def _benchmark(file: Path) -> tuple[Tensor, Tensor]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"expected the samples of geoenc bench in {str(file)!r}, got another or a damaged file "
            f"({error}); run that row again"
        ) from error
    if not {"lonlat", "correct"} <= found.keys():
        raise ValueError(
            f"expected places and whether each is right in {str(file)!r}, got {sorted(found)}; "
            "geo-bias is of a task with classes: choose a file of one"
        )
    correct = torch.from_numpy(np.atleast_2d(found["correct"])[0])
    return as_lonlat(found["lonlat"], missing=True), correct.bool()


def bias_report(
    lonlat: Any,
    correct: Tensor,
    *,
    radius_km: float = 100.0,
    max_neighbors: int = 100,
    min_samples: int = 30,
) -> BiasReport:
    """Geo-bias scores, and accuracy by continent, in the worst country and by local density.

    Args:
        lonlat: places, as `geoenc.as_lonlat` takes them; NaN is a missing place.
        correct: whether each sample is right.
        radius_km, max_neighbors: see `geoenc.metrics.self_information`.
        min_samples: of a country that may be the worst.

    Shape:
        lonlat ``(N, 2)``, correct ``(N,)`` booleans.

    Example:
        >>> import torch
        >>> from geoenc import sampling
        >>> from geoenc.bias import bias_report
        >>> lonlat = sampling.uniform(500, generator=torch.Generator().manual_seed(0))
        >>> report = bias_report(lonlat, lonlat[:, 1] > 0)  # right in the north only
        >>> [part.accuracy for part in report.continents if part.name == "Antarctica"]
        [0.0]
    """
    places = as_lonlat(lonlat, missing=True).cpu()
    known = ~places.isnan().any(-1)
    if not bool(known.any()):
        raise ValueError(
            f"expected samples with a place, got none among {len(places)}; predict with lonlat="
        )
    correct = correct.cpu()
    scores = self_information(places, correct, radius_km=radius_km, max_neighbors=max_neighbors)
    weighted = scores.weighted_mean()
    relative = relative_information(places, correct, radius_km=radius_km).nanmean().item()
    samples, places, correct = len(places), places[known], correct[known]
    density = []
    if len(places) > _NEIGHBORS:
        profile = density_profile(places, correct, neighbors=_NEIGHBORS, bins=_BINS)
        edges = profile.edges_km.tolist()
        for index, (count, mean) in enumerate(zip(profile.samples, profile.score, strict=True)):
            low, high = edges[index], edges[min(index + 1, len(edges) - 1)]
            name = f"{_kilometres(low)} to {_kilometres(high)} km"
            density.append(_part(name, int(count), mean.item()))
    country, names = region_of(places, "country")
    if OPEN_SEA in names:
        country[country == names.index(OPEN_SEA)] = -1
    worst = None
    if int(country[country >= 0].bincount(minlength=1).max()) >= min_samples:
        number, mean = worst_region(correct, country, min_samples=min_samples)
        worst = _part(names[number], int((country == number).sum()), mean)
    return BiasReport(
        samples=samples,
        located=len(places),
        accuracy=correct.double().mean().item(),
        radius_km=radius_km,
        max_neighbors=max_neighbors,
        unmarked=scores.unmarked.nanmean().item(),
        marked=scores.marked.nanmean().item(),
        unmarked_weighted=weighted[0],
        marked_weighted=weighted[1],
        relative=relative,
        continents=_by_continent(places, correct),
        worst_country=worst,
        min_samples=min_samples,
        density=tuple(density),
        population=_by_population(correct, country, names),
        scores=scores,
    )


def _by_continent(places: Tensor, correct: Tensor) -> tuple[Part, ...]:
    region, names = region_of(places, "continent")
    counts = region.bincount(minlength=len(names)).tolist()
    means = class_means(correct, region, len(names)).tolist()
    return tuple(_part(*row) for row in zip(names, counts, means, strict=True))


def _by_population(correct: Tensor, country: Tensor, names: Sequence[str]) -> tuple[Part, ...]:
    people = people_per_km2()
    density = torch.tensor([people.get(name, torch.nan) for name in names], dtype=torch.float64)
    group = torch.bucketize(density, torch.tensor(_PEOPLE, dtype=torch.float64), right=True)
    inside = country >= 0
    group = group[country[inside]]
    counts = group.bincount(minlength=len(_PEOPLE) + 1).tolist()
    means = class_means(correct[inside], group, len(counts)).tolist()
    titles = [f"{low} to {high}" for low, high in pairwise(_PEOPLE)]
    titles = [f"below {_PEOPLE[0]}", *titles, f"{_PEOPLE[-1]} or more"]
    parts = zip(titles, counts, means, strict=True)
    return tuple(_part(*row) for row in parts if row[1])


def people_per_km2() -> dict[str, float]:
    """Population of each country of the embedded map by its area, both of Natural Earth.

    Example:
        >>> from geoenc.bias import people_per_km2
        >>> people = people_per_km2()
        >>> people["Mongolia"] < 5 < 300 < people["India"]
        True
    """
    import shapely

    table = countries()
    plane = shapely.transform(
        table.geometry.to_numpy(), lambda degrees: equal_earth(torch.from_numpy(degrees)).numpy()
    )
    area = shapely.area(plane) * EARTH_RADIUS_KM**2
    return dict(zip(table["name"], (table["pop_est"].to_numpy() / area).tolist(), strict=True))


def _kilometres(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _part(name: str, samples: int, accuracy: float) -> Part:
    return Part(name, samples, accuracy, (accuracy * (1 - accuracy) / samples) ** 0.5)


def as_json(report: BiasReport) -> str:
    """The numbers of a report, for programs."""
    numbers = asdict(report)
    del numbers["scores"]
    return json.dumps(numbers, indent=2, allow_nan=False)


def as_text(report: BiasReport) -> str:
    """The numbers of a report as tables, for people; shares in %."""
    unmarked, marked = report.unmarked, report.marked
    lines = [
        f"{report.located:,} samples with a place of {report.samples:,}, "
        f"{100 * report.accuracy:.2f} % right",
        "",
        f"spatial self-information within {report.radius_km:g} km, at most "
        f"{report.max_neighbors} neighbours; lower is fairer",
        f"{'':12}{'mean':>9}{'weighted by neighbours':>25}",
        f"{'unmarked':12}{unmarked:9.2f}{report.unmarked_weighted:25.2f}",
        f"{'marked':12}{marked:9.2f}{report.marked_weighted:25.2f}",
        "",
        f"relative information of 10 rings within {report.radius_km:g} km; lower is fairer",
        f"{'mean':12}{report.relative:9.4f}",
        *_table("continent", report.continents),
    ]
    if report.worst_country is not None:
        lines += _table(
            f"worst country of {report.min_samples} samples or more", [report.worst_country]
        )
    if report.density:
        lines += _table("distance of the 10th neighbour", report.density)
    if report.population:
        lines += _table("people per km² of the country", report.population)
    return "\n".join(lines)


def _table(title: str, parts: Sequence[Part]) -> list[str]:
    width = max(len(text) for text in (title, *(part.name for part in parts))) + 2
    lines = ["", f"{title:{width}}{'samples':>9}{'right':>9}   standard error"]
    for part in parts:
        shares = f"{100 * part.accuracy:9.2f}{100 * part.standard_error:9.2f}"
        lines.append(f"{part.name:{width}}{part.samples:9,}{shares}")
    return lines


def bias_figure(lonlat: Any, correct: Tensor, report: BiasReport) -> "Figure":
    """Two maps of blocks of 5 degrees: the accuracy, and the mean marked self-information.

    Args:
        lonlat, correct: of the report.
        report: what `bias_report` found.

    Returns:
        The figure.
    """
    pyplot = require("matplotlib.pyplot", extra="plot")
    figure, axes = pyplot.subplots(2, 1, figsize=(9, 9), layout="constrained")
    for ax, score, title, cmap, high in (
        (axes[0], correct, "share of samples that are right", "viridis", 1.0),
        (axes[1], report.scores.marked, "marked spatial self-information", "magma_r", None),
    ):
        block_map(lonlat, score, degrees=_BLOCK_DEGREES, ax=ax, cmap=cmap, low=0.0, high=high)
        ax.set_title(title)
        figure.colorbar(ax.collections[0], ax=ax, shrink=0.7)
    return figure


def save_map(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all, in the format that the name ends with."""
    kinds = sorted(figure.canvas.get_supported_filetypes())
    kind = Path(path).suffix.removeprefix(".")
    if kind not in kinds:
        raise ValueError(
            f"expected a map named *.png, *.pdf or *.svg, got {str(path)!r}; matplotlib writes "
            f"{', '.join(kinds)}"
        )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)
