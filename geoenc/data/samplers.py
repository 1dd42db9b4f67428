"""Which samples: a share of the labels, epochs that no class dominates, and random places."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from geoenc import sampling


def few_shot(target: Tensor, fraction: float, *, generator: Generator | None = None) -> Tensor:
    """Rows of a stratified random share: max(1, round(n fraction)) of each class with n samples.

    Halves round to even. Every class with a label keeps at least one, so the share of a long
    tail is larger than ``fraction``. Rows with target -1 have no label and are never drawn.

    Args:
        target: class of each row.
        fraction: share of the labels, in (0, 1].
        generator: source of randomness.

    Shape:
        target ``(N,)`` integers; sorted row numbers ``(n,)`` int64.

    Raises:
        ValueError: a fraction outside (0, 1], or no labels at all.

    Example:
        >>> import torch
        >>> from geoenc.data import few_shot
        >>> target = torch.tensor([0] * 100 + [1])
        >>> len(few_shot(target, 0.05))
        6

    Reference:
        Mai et al., CSP, ICML 2023, section 4: the labelled subset.
    """
    if not 0 < fraction <= 1:
        raise ValueError(
            f"expected a fraction of the labels in (0, 1], got {fraction}; 5 % is 0.05"
        )
    if target.ndim != 1 or target.is_floating_point():
        raise ValueError(
            f"expected integer target of shape (N,), got {target.dtype} of {tuple(target.shape)}"
        )
    chosen = []
    for rows in _rows_of_classes(target):
        count = max(1, round(len(rows) * fraction))
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


def _rows_of_classes(target: Tensor) -> list[Tensor]:
    """Row numbers of each class that has any, classes and rows in ascending order."""
    labelled = (target >= 0).nonzero()[:, 0]
    if len(labelled) == 0:
        raise ValueError(f"expected at least one label, got {len(target)} rows without any")
    rows = labelled[target[labelled].argsort(stable=True)]
    counts = target[rows].unique_consecutive(return_counts=True)[1]
    return list(rows.split(counts.tolist()))


class ClassBalancedSampler(Sampler[int]):
    """Each epoch draws at most ``max_per_class`` rows of each class, shuffled.

    It looks at labels: pre-training with it is not free of them, as in the published CSP code.
    Recipes call it ``"class_balanced_leaking_labels"`` there.

    Args:
        target: class of each row, ``(N,)``; rows with -1 are left out.
        max_per_class: cap for each class and epoch.
        generator: source of randomness; each epoch draws anew.

    Example:
        >>> import torch
        >>> from geoenc.data import ClassBalancedSampler
        >>> len(ClassBalancedSampler(torch.tensor([0] * 50 + [1] * 3), max_per_class=10))
        13

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 4.
    """

    max_per_class: int
    generator: Generator | None

    def __init__(
        self, target: Tensor, max_per_class: int = 100, *, generator: Generator | None = None
    ) -> None:
        if max_per_class < 1:
            raise ValueError(f"expected max_per_class of at least 1, got {max_per_class}")
        self.max_per_class, self.generator = max_per_class, generator
        self._rows = _rows_of_classes(target)

    def __len__(self) -> int:
        return sum(min(len(rows), self.max_per_class) for rows in self._rows)

    def __iter__(self) -> Iterator[int]:
        yield from self.epoch().tolist()

    def epoch(self) -> Tensor:
        """The row numbers of one epoch at once, ``(len(self),)`` int64."""
        drawn = torch.cat(
            [
                rows[torch.randperm(len(rows), generator=self.generator)[: self.max_per_class]]
                for rows in self._rows
            ]
        )
        return drawn[torch.randperm(len(drawn), generator=self.generator)]


PLACES: dict[str, Callable[..., Tensor]] = {
    "uniform": sampling.uniform,
    "legacy_disc": sampling.legacy_disc,
    "legacy_quadrant": sampling.legacy_quadrant,
}


def place_sampler(name: str) -> Callable[..., Tensor]:
    """A source of random places by its name, as settings give it.

    Args:
        name: ``"uniform"`` on the sphere; ``"land"``, the embedded countries;
            ``"legacy_disc"`` or ``"legacy_quadrant"``, to reproduce the published CSP code; or a
            file of polygons that geopandas reads (GeoJSON, GeoPackage, shapefile).

    Returns:
        a function ``draw(num, *, generator=None, device=None)`` of places ``(num, 2)``. For a
        shapely geometry take `geoenc.sampling.Within` itself.

    Raises:
        ValueError: no such name and no such file, or a file without polygons.

    Example:
        >>> import torch
        >>> from geoenc.data import place_sampler
        >>> place_sampler("land")(3, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2])
    """
    if name in PLACES:
        return PLACES[name]
    if name == "land":
        return _land()
    if not Path(name).is_file():
        raise ValueError(
            f"expected random places from one of {', '.join((*PLACES, 'land'))}, or a file of "
            f"polygons, got {name!r}, which is neither; check the spelling or the path"
        )
    return _polygons(name)


@functools.cache
def _land() -> Callable[..., Tensor]:
    from geoenc.data.globe import countries

    return sampling.Within(countries().geometry.to_numpy())


@functools.lru_cache(maxsize=8)
def _polygons(path: str) -> Callable[..., Tensor]:
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # whatever the format's reader raises
        raise ValueError(
            f"expected polygons in {path!r}, got a file that geopandas cannot read "
            f"({type(error).__name__}); write it as GeoJSON or GeoPackage"
        ) from error
    if frame.crs is not None:
        frame = frame.to_crs("EPSG:4326")
    return sampling.Within(frame.geometry.to_numpy())
