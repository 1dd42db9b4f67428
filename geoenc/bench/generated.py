"""Tasks that are made, not read: the same places for everyone who gives the same seed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from geoenc.bench.disdat import disdat
from geoenc.bench.images import africa_wealth, glc24_habitats, globe_chips, mato_grosso
from geoenc.bench.readers import coordbench, locbench_values, range_suite
from geoenc.bench.species import inat_species
from geoenc.bench.task import Task
from geoenc.coordinates import as_lonlat, to_lonlat, to_xyz
from geoenc.data.regions import OPEN_SEA, region_of
from geoenc.sampling import uniform

GRID_METRES = (17_367_530.45, 7_324_184.56)
"""Half the width and half the height of the map EPSG:6933 that the published grid starts from."""

VMF_STRATA = {"U": 1, "S1": 5, "S2": 10, "S3": 25, "S4": 50}
VMF_KAPPA = (16.0, 32.0, 64.0, 128.0)


def checkerboard(
    *,
    name: str = "checkerboard",
    num_samples: int = 10_000,
    num_centres: int = 200,
    num_classes: int = 16,
    seed: int = 0,
) -> Task:
    """The class of a place is i mod C, with i the nearest point of a Fibonacci lattice.

    Training and validation places are uniform on the sphere, test places are a Fibonacci lattice;
    ``num_samples`` of each. With the defaults, the places are those of the published data.

    Args:
        name: of the task.
        num_samples: places in each part, an even number.
        num_centres: points of the lattice, an even number, from south to north.
        num_classes: C.
        seed: of the random places; 0 is published.

    Example:
        >>> from geoenc.bench.generated import checkerboard
        >>> task = checkerboard(num_samples=500)
        >>> len(task), task.classes, task.fixed["random"].bincount().tolist()
        (1500, 16, [500, 500, 500])

    Reference:
        Rußwurm et al., Geographic location encoding with spherical harmonics and sinusoidal
        representation networks, ICLR 2024, section 4.1.
    """
    lonlat = torch.cat([*_drawn(num_samples, seed), centred_lattice(num_samples)])
    return Task(
        name=name,
        lonlat=lonlat,
        target=nearest(lonlat, centred_lattice(num_centres)) % num_classes,
        classes=num_classes,
        metric="top1",
        fixed={"random": torch.arange(3).repeat_interleave(num_samples)},
        about=f"Which of {num_classes} colours a place of a chequered sphere has",
        source=_source("checkerboard", seed, num_samples=num_samples, num_centres=num_centres),
    )


def land_ocean(*, name: str = "land-ocean", num_samples: int = 5_000, seed: int = 0) -> Task:
    """1 on land, 0 at sea, on the embedded map (Natural Earth 1:110 m, with Antarctica).

    Training and validation places are uniform on the sphere, ``num_samples`` of each; test places
    are the 51,156 points of a grid of 100 km on an equal-area map (EPSG:6933). With the defaults,
    the places are those of the published data.

    Example:
        >>> from geoenc.bench.generated import land_ocean
        >>> task = land_ocean(num_samples=100)
        >>> (task.fixed["random"] == 2).sum().item()
        51156

    Reference:
        Rußwurm et al., ICLR 2024, section 4.1: "land-ocean".
    """
    grid = equal_area_grid(100.0)
    lonlat = torch.cat([*_drawn(num_samples, seed), grid])
    region, names = region_of(lonlat, coast_km=0)
    sea = names.index(OPEN_SEA) if OPEN_SEA in names else -1
    sizes = torch.tensor([num_samples, num_samples, len(grid)])
    return Task(
        name=name,
        lonlat=lonlat,
        target=(region != sea).long(),
        classes=2,
        metric="top1",
        class_names=("ocean", "land"),
        fixed={"random": torch.arange(3).repeat_interleave(sizes)},
        about="Whether a place is land or sea",
        source=_source("land-ocean", seed, num_samples=num_samples),
    )


def von_mises_fisher(
    *,
    name: str = "vmf",
    num_strata: int = 1,
    min_kappa: float = 1.0,
    max_kappa: float = 16.0,
    num_classes: int = 50,
    per_class: int = 100,
    seed: int = 0,
) -> Task:
    """From which of C von Mises-Fisher distributions a place was drawn: p(x) ~ exp(kappa x mu).

    Centres mu are uniform on the sphere, or, with several strata, as many in each of so many
    bands of equal height in latitude, uniform within the band, so that the polar bands have more
    of them. Each kappa is uniform between the two given. Of every class 70 % of the places are
    for training, 10 % for validation and 20 % for the test.

    ``source["ceiling"]`` is the test accuracy of one who knows all densities.

    Args:
        name: of the task.
        num_strata: bands of latitude; 1: uniform on the sphere.
        min_kappa, max_kappa: range of the concentrations.
        num_classes: C, a multiple of ``num_strata``.
        per_class: places of each class, at least 10.
        seed: of centres, concentrations and places.

    Raises:
        ValueError: numbers that do not fit.

    Example:
        >>> from geoenc.bench.generated import von_mises_fisher
        >>> task = von_mises_fisher(num_strata=5, max_kappa=64)
        >>> len(task), task.classes, task.fixed["random"].bincount().tolist()
        (5000, 50, [3500, 500, 1000])

    Reference:
        Mai et al., Sphere2Vec, ISPRS Journal 2023, section 6 (20 sets: U1 to U4, S1.1 to S4.4).

    Differs:
        The paper's sets were not released. 50 classes of 100 places and concentrations from 1
        are those of its code's folder names; strata of 5, 10, 25 and 50 bands, kappa up to 16,
        32, 64 and 128 in this order, and the shares of the parts are ours.
    """
    if num_strata < 1 or num_classes < 1 or num_classes % num_strata:
        raise ValueError(
            f"expected num_classes as a multiple of num_strata, got {num_classes} and "
            f"{num_strata}; each band holds as many centres"
        )
    if not 0 < min_kappa <= max_kappa < math.inf:
        raise ValueError(
            f"expected 0 < min_kappa <= max_kappa, got {min_kappa} and {max_kappa}; 1 and 16 make "
            "the widest classes"
        )
    if per_class < 10:
        raise ValueError(f"expected per_class of at least 10, got {per_class}; 100 is published")
    generator = Generator().manual_seed(seed)
    centre = to_xyz(_centres(num_classes, num_strata, generator))
    draw = torch.rand(num_classes, generator=generator, dtype=torch.float64)
    kappa = min_kappa + (max_kappa - min_kappa) * draw
    target = torch.arange(num_classes).repeat_interleave(per_class)
    xyz = vmf_sample(centre[target], kappa[target], generator=generator)
    train, validation = round(0.7 * per_class), round(0.1 * per_class)
    sizes = torch.tensor([train, validation, per_class - train - validation])
    part = torch.arange(3).repeat_interleave(sizes).repeat(num_classes)
    log_density = kappa * (xyz @ centre.T - 1) + (kappa / -torch.expm1(-2 * kappa)).log()
    known = log_density.argmax(1) == target
    return Task(
        name=name,
        lonlat=to_lonlat(xyz),
        target=target,
        classes=num_classes,
        metric="top1",
        fixed={"random": part},
        about=f"From which of {num_classes} clusters on the sphere a place was drawn",
        source=_source(
            "vmf",
            seed,
            num_strata=num_strata,
            kappa=[min_kappa, max_kappa],
            ceiling=known[part == 2].double().mean().item(),
        ),
    )


GENERATED: dict[str, Callable[..., Task]] = {
    "checkerboard": checkerboard,
    "land-ocean": land_ocean,
    "vmf": von_mises_fisher,
    "disdat": disdat,
    "inat-species": inat_species,
    "globe-chips": globe_chips,
    "africa-wealth": africa_wealth,
    "glc24-habitats": glc24_habitats,
    "mato-grosso": mato_grosso,
    "coordbench": coordbench,
    "range-suite": range_suite,
    "locbench-values": locbench_values,
}
"""What ``generator = ...`` in the file of a task may say: made, or read by rules of its own."""


def nearest(lonlat: Tensor, centres: Tensor) -> Tensor:
    """The number of the nearest of the centres, on the sphere.

    Shape:
        ``(N, 2)`` and ``(M, 2)`` degrees to ``(N,)`` int64.
    """
    from scipy.spatial import cKDTree

    found = cKDTree(to_xyz(centres).numpy()).query(to_xyz(lonlat).numpy())[1]
    return torch.from_numpy(np.asarray(found, dtype=np.int64))


def centred_lattice(num: int) -> Tensor:
    """The Fibonacci lattice of an even number of points, i = -num / 2 .. num / 2 - 1.

    sin(lat_i) = 2 i / (num + 1), and the longitude advances by 360 / golden ratio.

    Shape:
        ``(num, 2)`` float64 degrees, from south to north.

    Reference:
        Gonzalez, Measurement of areas on a sphere using Fibonacci and latitude-longitude
        lattices, Mathematical Geosciences 2010, equation 1, of which the last point is left out.
    """
    if num < 2 or num % 2:
        raise ValueError(f"expected an even number of points of the lattice, got {num}; add one")
    index = torch.arange(-num // 2, num // 2, dtype=torch.float64)
    turns = index * ((5**0.5 - 1) / 2)
    lat = torch.asin(2 * index / (num + 1)).rad2deg()
    return torch.stack([360 * (turns - turns.round()), lat], -1)


def equal_area_grid(step_km: float) -> Tensor:
    """The published test grid: every so many km on the cylindrical equal-area map EPSG:6933.

    It starts in the south-western corner, at 180 degrees west and about 86 degrees south.

    Shape:
        ``(N, 2)`` float64 degrees, row by row from the south.
    """
    import geopandas

    x, y = (np.arange(-half, half, step=1000 * step_km) for half in GRID_METRES)
    points = geopandas.GeoSeries.from_xy(np.tile(x, len(y)), np.repeat(y, len(x)), crs=6933)
    return as_lonlat(points)


def vmf_sample(centre: Tensor, kappa: Tensor, *, generator: Generator | None = None) -> Tensor:
    """One draw from each von Mises-Fisher distribution on the sphere, by its inverse function.

    w = x mu has the distribution function (e^(kappa w) - e^-kappa) / (e^kappa - e^-kappa), and x
    turns around mu evenly: x = w mu + sqrt(1 - w^2) (cos a, sin a) in the plane across mu.

    Shape:
        ``(N, 3)`` unit vectors and ``(N,)`` concentrations above 0 to ``(N, 3)`` unit vectors.

    Reference:
        Ulrich, Computer generation of distributions on the m-sphere, Applied Statistics 1984;
        Mardia and Jupp, Directional statistics, 2000, section 9.3.
    """
    draw = torch.rand(2, len(centre), generator=generator, dtype=torch.float64)
    along = 1 + (draw[0] + (1 - draw[0]) * (-2 * kappa).exp()).log() / kappa
    across = (1 - along.square()).clamp_min(0).sqrt()
    axis = torch.nn.functional.one_hot(centre.abs().argmin(1), 3).to(centre)
    first = torch.nn.functional.normalize(torch.linalg.cross(centre, axis), dim=1)
    second = torch.linalg.cross(centre, first)
    angle = 2 * math.pi * draw[1]
    turned = angle.cos()[:, None] * first + angle.sin()[:, None] * second
    return along[:, None] * centre + across[:, None] * turned


def _drawn(num: int, seed: int) -> list[Tensor]:
    """Training and validation places, uniform: directions of normal vectors, as published."""
    vectors = [np.random.RandomState(2 * seed + part).normal(size=(3, num)) for part in (0, 1)]
    return [to_lonlat(torch.from_numpy(vector.T.copy())) for vector in vectors]


def _centres(num: int, strata: int, generator: Generator) -> Tensor:
    """Centres uniform on the sphere, or as many uniform in each of the bands of latitude."""
    if strata == 1:
        return uniform(num, generator=generator)
    draw = torch.rand(num, 2, generator=generator, dtype=torch.float64)
    band = torch.arange(strata).repeat_interleave(num // strata)
    south, north = (torch.deg2rad(-90 + 180 * (band + side) / strata).sin() for side in (0, 1))
    lat = torch.asin(south + (north - south) * draw[:, 1]).rad2deg()
    return torch.stack([360 * draw[:, 0] - 180, lat], -1)


def _source(generator: str, seed: int, **parameters: Any) -> dict[str, Any]:
    return {"generator": generator, "seed": seed, "licence": "made by geoenc", **parameters}
