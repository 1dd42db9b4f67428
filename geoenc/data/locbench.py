"""LocBench, in the layout of TorchSpatial's download: seven sets with classes, ten with values."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.data.dataset import LocationDataset
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.published import read_published
from geoenc.data.rows import ArrayRows, Rows, open_rows
from geoenc.data.sources import HELP, PREFIXES

_TABLES = {"mosaiks": "Y_{short}.csv", "sustainbench": "dhs_{part}_labels.csv"}


def load_locbench(
    root: str | os.PathLike[str], name: str, split: str = "train", **options: Any
) -> LocationDataset:
    """One of the seven classification sets of LocBench, in the layout of TorchSpatial's download.

    The files are those of the geographic-prior download, below ``geo_prior_data/data/``.

    Args:
        root: folder that holds ``geo_prior_data/``, or any folder below it.
        name: as in TorchSpatial: "birdsnap_orig_meta", "birdsnap_ebird_meta",
            "nabirds_ebird_meta", "inat_2017", "inat_2018", "yfcc" or "fmow".
        split: "train", "val" or "test".
        options: as for `load_inat2018`.

    Example:
        >>> import tempfile
        >>> from geoenc.data import load_locbench, make_published
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = make_published("birdsnap", root, num_samples=60)
        ...     len(load_locbench(root, "birdsnap_ebird_meta"))
        60

    Reference:
        Wu et al., TorchSpatial, NeurIPS 2024 Datasets and Benchmarks.
    """
    bare = name.removesuffix("_meta")
    for kind in ("orig", "ebird"):
        if bare.endswith(f"_{kind}"):
            bare = bare.removesuffix(f"_{kind}")
            options = {"metadata": f"{kind}_meta", **options}
    return read_published(bare.replace("_", ""), root, split, **options)


def load_locbench_values(
    root: str | os.PathLike[str], name: str, split: str = "train"
) -> tuple[LocationDataset, Tensor]:
    """One of the regression sets of LocBench: places and features, and the measured values.

    Args:
        root: folder that holds ``geo_prior_data/``, or any folder below it.
        name: as in TorchSpatial, for example "mosaiks_elevation" or "sustainbench_asset_index".
        split: "train", "val" or "test". SustainBench has one table for training and validation,
            which "train" reads whole.

    Returns:
        the samples whose value is known, and the values ``(N,)`` float64 in their order.

    Raises:
        DatasetNotFoundError: the table is not there, or has no rows of this split.
        ValueError: an unknown name, a column that is missing, or features that do not belong.

    Differs:
        TorchSpatial draws a random twentieth of the rows without a seed; here are all of them.
    """
    import pandas

    family, _, what = name.partition("_")
    if family not in _TABLES or not what:
        raise ValueError(
            f"expected mosaiks_... or sustainbench_..., got {name!r}; sets with classes are read "
            "by load_locbench"
        )
    short, part = what.split("_")[0], "test" if split == "test" else "trainval"
    path = _table(
        Path(root), family, [_TABLES[family].format(short=one, part=part) for one in (short, what)]
    )
    table = pandas.read_csv(path)
    if "split" in table:
        table = table[table["split"] == split]
    column = next((c for c in (f"{what}_normalized", what, short) if c in table), None)
    if column is None or not {"lon", "lat"} <= set(table):
        raise ValueError(
            f"{path}: expected columns lon, lat and {what}, got {', '.join(map(str, table))}; "
            "get the file again"
        )
    table = table[table[column].notna()]
    if not len(table):
        raise DatasetNotFoundError(f"{path}: expected rows of {split} with {column}, got none")
    features: Rows | None = None
    stored = path.with_name(path.name.replace("Y_", "X_")).with_suffix(".npy")
    if "nl_mean" in table:
        features = ArrayRows(table[["nl_mean"]].to_numpy(dtype=np.float64), f"{path} nl_mean")
    elif stored.is_file():
        rows = open_rows(stored)
        if len(rows) <= table.index.max():
            raise ValueError(
                f"{stored}: expected a row for each of the table, {table.index.max()} among them, "
                f"got {len(rows)}; take the file that belongs to {path.name}"
            )
        features = rows.select(table.index.to_numpy())
    values = torch.from_numpy(table[column].to_numpy(dtype=np.float64, copy=True))
    return LocationDataset(table[["lon", "lat"]], features=features), values


def score_locbench(path: str | os.PathLike[str]) -> dict[str, float]:
    """What a file of results in the form of TorchSpatial's ``eval_results`` is worth.

    With classes, in %: top-1 and top-3 accuracy and 100 times the mean of 1 / rank, over all rows.
    With values: R² = 1 - sum (y - f)² / sum (y - mean y)², and the root of the mean squared and
    the mean absolute error.

    Args:
        path: a CSV file with the column ``reciprocal_rank``, or ``labels`` and ``predictions``.

    Raises:
        DatasetNotFoundError: there is no such file.
        ValueError: neither of the forms, no rows, or hits that contradict the ranks.

    Reference:
        Wu et al., TorchSpatial, NeurIPS 2024 Datasets and Benchmarks, Tables 1 and 3.
    """
    import pandas

    file = Path(path)
    if not file.is_file():
        raise DatasetNotFoundError(f"expected results in {file}, got no file; {HELP}")
    try:
        table = pandas.read_csv(file)
    except pandas.errors.EmptyDataError:
        table = pandas.DataFrame()
    if not len(table):
        raise ValueError(f"{file}: expected a row for each sample, got none; get the file again")
    if "reciprocal_rank" in table:
        reciprocal = table["reciprocal_rank"].to_numpy(dtype=np.float64)
        hits = {k: reciprocal * (k + 0.5) > 1 for k in (1, 3)}
        for k, hit in hits.items():
            if f"hit@{k}" in table and (hit != (table[f"hit@{k}"] > 0)).any():
                raise ValueError(
                    f"{file}: expected hit@{k} where the rank is at most {k}, got rows that "
                    "contradict it; get the file again"
                )
        return {
            "rows": float(len(table)),
            **{f"top{k}": 100 * float(hit.mean()) for k, hit in hits.items()},
            "reciprocal_rank": 100 * float(reciprocal.mean()),
        }
    if not {"labels", "predictions"} <= set(table):
        raise ValueError(
            f"{file}: expected columns reciprocal_rank, or labels and predictions, got "
            f"{', '.join(map(str, table.columns))}; get the file again"
        )
    true = table["labels"].to_numpy(dtype=np.float64)
    error = table["predictions"].to_numpy(dtype=np.float64) - true
    return {
        "rows": float(len(table)),
        "r2": 1 - float(np.square(error).mean() / true.var()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()),
    }


def _table(root: Path, family: str, names: list[str]) -> Path:
    folders = [root, *(root / prefix / family for prefix in PREFIXES)]
    files = [folder / name for folder in folders for name in names]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DatasetNotFoundError(
            f"LocBench not found in root={str(root)!r}: expected {family}/{names[-1]}; {HELP}"
        )
    return found
