"""Hyperparameters of the priors: as published, and as chosen on validation data."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat
from geoenc.metrics import log_posterior, target_rank
from geoenc.priors.base import Prior
from geoenc.priors.counts import ClassFrequency, RectangularGrid
from geoenc.priors.neighbors import KernelDensity, NearestNeighbors, WithinDistance

PRIORS: dict[str, type[Prior]] = {
    kind.__name__: kind
    for kind in (ClassFrequency, NearestNeighbors, WithinDistance, RectangularGrid, KernelDensity)
}
"""Every prior by its class name, for settings files."""

_PUBLISHED: dict[str, tuple[int, str, float, tuple[int, int, float], tuple[float, int]]] = {
    "iNat2018": (1500, "degrees", 2.0, (180, 60, 2.0), (5.0, 700)),
    "iNat2017": (1450, "degrees", 5.0, (45, 30, 2.0), (5.0, 700)),
    "BirdSnap ebird": (700, "degrees", 5.0, (30, 30, 2.0), (0.001, 500)),
    "BirdSnap orig": (100, "degrees", 9.0, (225, 60, 2.0), (0.001, 600)),
    "NABirds": (500, "degrees", 6.0, (45, 60, 2.0), (0.001, 600)),
    "YFCC": (75, "great_circle", math.degrees(2 / 6371.4), (540, 150, 3.0), (0.001, 300)),
}
"""K, metric, radius of the neighbours; columns, rows, a of the grid; q and K of the kernel."""

PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    data: {
        "ClassFrequency": {},
        "NearestNeighbors": {"neighbors": neighbors, "metric": metric},
        "WithinDistance": {"radius_degrees": radius, "metric": metric},
        "RectangularGrid": {
            "num_columns": grid[0],
            "num_rows": grid[1],
            "pseudo_count": grid[2],
        },
        "KernelDensity": {"neighbors": kernel[1], "bin_degrees": kernel[0], "metric": "degrees"},
    }
    for data, (neighbors, metric, radius, grid, kernel) in _PUBLISHED.items()
}
"""Settings that were cross-validated for the experiments of the geographic-prior papers."""


def published_prior(name: str, data: str) -> Prior:
    """A prior with the settings that were cross-validated for a data set.

    Args:
        name: of `PRIORS`.
        data: of `PUBLISHED`: ``"iNat2018"``, ``"iNat2017"``, ``"BirdSnap ebird"``,
            ``"BirdSnap orig"``, ``"NABirds"`` or ``"YFCC"``.

    Raises:
        ValueError: another name or data set. For fMoW nothing was published.

    Example:
        >>> from geoenc.priors import published_prior
        >>> published_prior("NearestNeighbors", "iNat2018")
        NearestNeighbors(neighbors=1500, metric='degrees')

    Reference:
        The geographic-prior code of Mac Aodha, Cole and Perona, ICCV 2019, and that of CSP.
    """
    if name not in PRIORS:
        raise ValueError(f"expected a prior of {', '.join(PRIORS)}, got {name!r}")
    if data not in PUBLISHED:
        raise ValueError(
            f"expected a data set with published settings, {', '.join(PUBLISHED)}, got {data!r}; "
            "choose settings on validation data with geoenc.priors.best_prior"
        )
    return PRIORS[name](**PUBLISHED[data][name])


def best_prior(
    candidates: Iterable[Prior],
    train: tuple[Any, Tensor],
    validation: tuple[Any, Tensor],
    num_classes: int,
    *,
    image_probs: Tensor | None = None,
) -> Prior:
    """The fitted candidate with the highest top-1 accuracy on validation data; the first of equals.

    Args:
        candidates: priors with the settings to choose from; each is fitted.
        train: places and classes to count.
        validation: places and classes to judge by; samples with -1 are left out.
        num_classes: Q, how many classes.
        image_probs: P(y | image) of the validation samples, to judge P(y | image) P(y | place);
            without it P(y | place) is judged where the place is known.

    Raises:
        ValueError: no candidates, or no validation sample to judge by.

    Example:
        >>> import torch
        >>> from geoenc.priors import NearestNeighbors, best_prior
        >>> places, target = [(0, 0), (1, 0), (50, 0), (51, 0)], torch.tensor([0, 0, 1, 1])
        >>> candidates = [NearestNeighbors(k) for k in (1, 4)]
        >>> best_prior(candidates, (places, target), ([(52, 0)], torch.tensor([1])), 2)
        NearestNeighbors(neighbors=1, metric='great_circle')
    """
    places, target = as_lonlat(validation[0], missing=True), torch.as_tensor(validation[1])
    judged = target >= 0 if image_probs is not None else (target >= 0) & ~places.isnan().any(-1)
    rows = judged.nonzero()[:, 0]
    if len(rows) == 0:
        raise ValueError(
            "expected a validation sample with a class and a place, got none; pass others, or "
            "image_probs"
        )
    best, found = -1, None
    for candidate in candidates:
        candidate.fit(*train, num_classes)
        hits = 0
        for chunk in rows.split(max(1, 2**22 // num_classes)):
            scores = candidate.probabilities(places[chunk])
            if image_probs is not None:
                scores = log_posterior(image_probs[chunk], scores)
            hits += int((target_rank(scores, target[chunk]) == 1).sum())
        if hits > best:
            best, found = hits, candidate
    if found is None:
        raise ValueError("expected at least one candidate, got none; pass priors to choose from")
    return found
