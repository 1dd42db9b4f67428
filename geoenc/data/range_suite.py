"""The seven tasks of the RANGE evaluation, in the layout of its authors' folder of tables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator
from torch.utils.data import random_split

from geoenc.data.answers import Answers, answers, column, table

TEST_SHARE, SEED = 0.2, 42


@dataclass(frozen=True)
class RangeTask:
    """Tables (one after the other), and the column of the answers, by usual names.

    Args:
        files: each with its other names.
        target: candidates.
        classify: whether the answers are classes.
        log: whether ln(1 + y) is asked for.
    """

    files: tuple[tuple[str, ...], ...]
    target: tuple[str, ...]
    classify: bool = False
    log: bool = False


_ECOREGIONS = (("ecoregion_train.csv",), ("ecoregion_val.csv",))
RANGE_SUITE: Mapping[str, RangeTask] = {
    "biome": RangeTask(_ECOREGIONS, ("BIOME_NAME", "biome"), classify=True),
    "ecoregion": RangeTask(_ECOREGIONS, ("ECO_NAME", "ecoregion"), classify=True),
    "country": RangeTask((("country.csv", "countries.csv"),), ("country",), classify=True),
    "temperature": RangeTask((("temp.csv", "temperature.csv"),), ("meanT", "temperature")),
    "elevation": RangeTask((("elevation.csv",),), ("elevation",)),
    "population": RangeTask((("population.csv",),), ("population",), log=True),
    "housing": RangeTask(
        (("housing.csv", "california_housing.csv"),), ("median_house_value", "MedHouseVal")
    ),
}


def load_range_suite(root: str | os.PathLike[str], name: str) -> Answers:
    """A task of the RANGE evaluation with its test part: 20 % of the rows, seed 42.

    Rows are numbered after those without an answer are left out, and permuted as
    `torch.utils.data.random_split` does with a generator of that seed, so that the test rows are
    the published ones. There is no validation part.

    Args:
        root: folder of the tables, ``ecoregion_train.csv`` and so on.
        name: "biome", "ecoregion", "country", "temperature", "elevation", "population" (as
            ln(1 + people)) or "housing".

    Raises:
        DatasetNotFoundError: a table is not there.
        ValueError: an unknown name, or a column that is missing.

    Example:
        >>> import tempfile, pandas
        >>> from pathlib import Path
        >>> from geoenc.data import load_range_suite
        >>> rows = {"lon": [1, 2, 3, 4, 5], "lat": [0] * 5, "elevation": [10, 20, 30, 40, 50]}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     pandas.DataFrame(rows).to_csv(Path(root, "elevation.csv"))
        ...     load_range_suite(root, "elevation").part
        tensor([0, 2, 0, 0, 0])

    Reference:
        Dhakal et al., RANGE, CVPR 2025, section 4.
    """
    import pandas as pd

    if name not in RANGE_SUITE:
        raise ValueError(f"expected a task of {', '.join(RANGE_SUITE)}, got {name!r}; use one")
    task, title = RANGE_SUITE[name], f"RANGE suite, {name}"
    frame = pd.concat([table(root, files, title) for files in task.files], ignore_index=True)
    target = column(frame, task.target, title)
    found = answers(frame, target, title, classify=task.classify, log=task.log)
    rows = list(range(len(found.target)))
    generator = Generator().manual_seed(SEED)
    _, test = random_split(rows, [1 - TEST_SHARE, TEST_SHARE], generator=generator)  # type: ignore[arg-type, var-annotated]
    part = torch.zeros(len(rows), dtype=torch.long)
    part[list(test.indices)] = 2
    return found._replace(part=part)
