"""CoordBench: sixty tasks from place to label, in the layout of its download."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat
from geoenc.data.answers import Answers, answers, column, logger, table

FOLDS, BLOCK_DEGREES = 5, 10.0


@dataclass(frozen=True)
class CoordTask:
    """A table of the download, and which of its columns is asked for.

    Args:
        config: folder of the table below ``data/``.
        target: candidates for the column of the answers; none: the caller names one.
        classify: whether the answers are classes; None: few whole numbers are.
        nodata: answers that stand for none.
        log: whether ln(1 + y) is asked for.
        pool: config whose rows with ``random_sample`` 1 say by their ``id`` which rows count.
    """

    config: str
    target: tuple[str, ...] = ()
    classify: bool | None = False
    nodata: float | None = None
    log: bool = False
    pool: str = ""


_PLACES = {
    "phys_health": "phlth",
    "diabetes": "diabetes",
    "copd": "copd",
    "cancer": "cancer",
    "chd": "chd",
    "mental_health": "mhlth",
    "checkup": "checkup",
    "sleep_lt7": "sleep",
    "asthma": "casthma",
    "obesity": "obesity",
    "smoking": "csmoking",
    "high_chol": "highchol",
}
_SUSTAINBENCH = {
    "asset": "asset_index",
    "water": "water_index",
    "sanitation": "sanitation_index",
    "child_mortality": "under5_mort",
    "women_edu": "women_edu",
    "women_bmi": "women_bmi",
}
_MOSAIKS = ("treecover", "elevation", "population", "nightlights", "income", "roads", "housing")
_MOSAIKS_LOG = ("population", "nightlights", "income", "housing")
_ALPHAEARTH = [
    "africa_crop_mask",
    "aster_ged",
    "canada_crops_coarse",
    "canada_crops_fine",
    "descals",
    "ethiopia_crops",
    "glance",
    "lcmap_lc",
    "lcmap_lcc",
    "lcmap_lu",
    "lcmap_luc",
    "lucas_lc",
    "lucas_lu",
    "openet_ensemble",
    "us_trees",
]

COORDBENCH: Mapping[str, CoordTask] = {
    "pdfm-conus27": CoordTask("pdfm_conus27"),
    "satclip-air-temp": CoordTask("air_temp", ("meanT", "temp", "temperature", "mean")),
    "california-housing": CoordTask("california_housing", ("MedHouseVal", "median_house_value")),
    "satclip-country": CoordTask("satclip_country", ("country",), True, nodata=0),
    "satclip-ecoregion": CoordTask(
        "satclip_ecoregion", ("ecoregion_class_index", "ecoregion"), True, nodata=-1
    ),
    "satclip-biome": CoordTask(
        "satclip_ecoregion", ("biome_class_index", "biome"), True, nodata=-1
    ),
    "satclip-population": CoordTask("satclip_population", ("log_population",)),
    "satclip-elevation": CoordTask("satclip_elevation", ("elevation",)),
    **{f"sustainbench-{key}": CoordTask("sustainbench", (c,)) for key, c in _SUSTAINBENCH.items()},
    "bt-cropharvest": CoordTask("bt_cropharvest", ("label_name", "crop_type"), True),
    "bt-biomass": CoordTask("bt_biomass", ("biomass_mean",)),
    "bt-landcover": CoordTask("bt_landcover", pool="bt_landcover"),
    "bt-bioclim": CoordTask("bt_bioclim", pool="bt_landcover"),
    "bt-population": CoordTask("bt_human_footprint", ("pop_density",), pool="bt_landcover"),
    "bt-distroad": CoordTask("bt_human_footprint", ("maxdist_road",), pool="bt_landcover"),
    **{f"places-{key}": CoordTask("cdc_places", (f"{c}_crudeprev",)) for key, c in _PLACES.items()},
    **{
        f"mosaiks-{one}": CoordTask(
            f"usavars_{one}", (one, "price"), nodata=-999, log=one in _MOSAIKS_LOG
        )
        for one in _MOSAIKS
    },
    "country": CoordTask("country", ("country",), True),
    "biome": CoordTask("ecoregions", ("biome",), True),
    "ecoregion": CoordTask("ecoregions", ("ecoregion",), True),
    "worldclim-bio1": CoordTask("worldclim_bio", ("bio1",)),
    "worldclim-bio12": CoordTask("worldclim_bio", ("bio12",)),
    "soilgrids-soc": CoordTask("soilgrids", ("soc",)),
    "soilgrids-phh2o": CoordTask("soilgrids", ("phh2o",)),
    **{f"dm-{one}": CoordTask(f"dm_{one}", ("label",), None) for one in _ALPHAEARTH},
}
"""By the names of CoordBench; its "ecoregions" is two here."""


def load_coordbench(root: str | os.PathLike[str], name: str, target: str | None = None) -> Answers:
    """A task of CoordBench; rows without an answer, and at sea, are left out.

    Args:
        root: folder of the download, which holds ``data/CONFIG/data.parquet``; or its ``data``.
        name: one of `COORDBENCH`.
        target: column of the answers, for tables with many: "pdfm-conus27", "bt-landcover",
            "bt-bioclim".

    Returns:
        the rows, with parts where CoordBench has its own (SustainBench: train and test).

    Raises:
        DatasetNotFoundError: the table is not there.
        ValueError: an unknown name, or a column that is missing.

    Reference:
        CoordBench, torchgeo-bench, 2026: the Hugging Face data set taylor-geospatial/CoordBench.
    """
    if name not in COORDBENCH:
        raise ValueError(f"expected a task of {', '.join(COORDBENCH)}, got {name!r}; use one")
    task, title = COORDBENCH[name], f"CoordBench, {name}"
    frame = _config(root, task.config, title)
    if target is None and not task.target:
        raise ValueError(
            f"{title}: expected target=, which column is asked for, got none; the table has "
            f"{', '.join(map(str, frame.columns))}"
        )
    if task.pool:
        pool = frame if task.pool == task.config else _config(root, task.pool, title)
        frame = frame[frame["id"].isin(pool["id"][pool["random_sample"] == 1])]
    wanted = column(frame, (target,) if target else task.target, title)
    if task.nodata is not None:
        frame = frame[frame[wanted] != task.nodata]
    classify = _few(frame[wanted]) if task.classify is None else task.classify
    if task.classify is None:
        logger.info("%s: takes %s for %s", title, wanted, "classes" if classify else "numbers")
    if name.startswith("sustainbench"):
        frame = frame[frame[wanted].notna() & frame["lon"].notna() & frame["lat"].notna()]
        part = 2 * (frame["split"] == "test").to_numpy(dtype=np.int64)
        found = answers(frame, wanted, title, classify=False)
        return found._replace(part=torch.from_numpy(part))
    return answers(frame, wanted, title, classify=classify, log=task.log)


def random_folds(num: int, *, folds: int = FOLDS, seed: int = 0) -> Tensor:
    """The fold of each row in CoordBench's random cross-validation: rows in turn, permuted.

    Shape:
        ``(num,)`` int64, 0 to ``folds`` - 1.
    """
    fold = torch.empty(num, dtype=torch.long)
    order = np.random.default_rng(seed).permutation(num)
    fold[torch.from_numpy(order)] = torch.arange(num) % folds
    return fold


def spatial_folds(
    lonlat: Any, *, folds: int = FOLDS, degrees: float = BLOCK_DEGREES, seed: int = 0
) -> Tensor:
    """The fold of each place in CoordBench's spatial cross-validation: blocks of 10 degrees.

    Blocks, in the order of latitude and then longitude, get permuted numbers modulo ``folds``.

    Shape:
        ``(N, 2)`` degrees to ``(N,)`` int64, 0 to ``folds`` - 1.
    """
    cells = torch.floor(as_lonlat(lonlat) / degrees).long()
    key = cells[:, 1] * 100_003 + cells[:, 0]
    blocks, block = key.unique(return_inverse=True)
    number = np.random.default_rng(seed).permutation(len(blocks)) % folds
    return torch.from_numpy(number)[block]


def _config(root: str | os.PathLike[str], config: str, title: str) -> Any:
    names = [f"{prefix}{config}{end}" for prefix in ("data/", "") for end in _ENDS]
    return table(root, names, title)


_ENDS = ("/data.parquet", ".parquet", ".csv")


def _few(values: Any) -> bool:
    """Whether all are whole, and no more than 100 differ."""
    if values.dtype.kind not in "iuf":
        return True
    numbers = values.to_numpy(dtype=np.float64)
    whole = np.isfinite(numbers).all() and np.allclose(numbers, np.round(numbers))
    return bool(whole and len(np.unique(numbers)) <= 100)
