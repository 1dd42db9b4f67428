"""The layout of TorchSpatial's download: its names, its metadata, its tables of values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from geoenc.data import (
    DatasetNotFoundError,
    LocationDataset,
    load_birdsnap,
    load_inat2018,
    load_locbench,
    load_locbench_values,
    make_published,
)


def made(name: str, root: Path) -> Path:
    return make_published(name, root, generator=torch.Generator().manual_seed(0))


def edited(path: Path, change: Any) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def same(one: LocationDataset, other: LocationDataset) -> bool:
    return one.lonlat.nan_to_num(7).equal(other.lonlat.nan_to_num(7))


def test_locbench_names(tmp_path: Path) -> None:
    root = tmp_path / "geo_prior_data" / "data"
    for name in ("birdsnap", "inat2018"):
        made(name, root)
    edited(root / "birdsnap/birdsnap_with_loc_2019.json", _move_ebird)
    orig = load_locbench(tmp_path, "birdsnap_orig_meta", "test")
    ebird = load_locbench(tmp_path, "birdsnap_ebird_meta", "test")
    assert orig.lonlat.nan_to_num().ne(0).any()
    assert ebird.with_location().lonlat.unique(dim=0).tolist() == [[10, 20]]
    assert same(orig, load_birdsnap(tmp_path, "test"))
    assert same(ebird, load_birdsnap(tmp_path, "test", metadata="ebird_meta"))
    assert len(load_locbench(tmp_path, "inat_2018", "val")) == 100
    with pytest.raises(ValueError, match=r"expected one of inat2017.*got 'mosaikspopulation'"):
        load_locbench(tmp_path, "mosaiks_population")
    with pytest.raises(ValueError, match="expected metadata of iNat2018 to be one of none"):
        load_inat2018(tmp_path, metadata="ebird_meta")


def _move_ebird(described: Any) -> Any:
    for entry in described["test"]:
        if entry["ebird_meta"]["lon"] is not None:
            entry["ebird_meta"].update(lon=10, lat=20)
    return described


def table(root: Path, family: str, name: str, columns: dict[str, Any]) -> Path:
    folder = root / "geo_prior_data" / "data" / family
    folder.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(columns).to_csv(folder / name, index=False)
    return folder


@pytest.mark.parametrize("column", ["forest", "forest_cover"])
def test_values_of_mosaiks(column: str, tmp_path: Path) -> None:
    columns = {
        "lon": [1.0, 2, 3, 4, 5],
        "lat": [10.0, 20, 30, 40, 50],
        column: [0.1, 0.2, np.nan, 0.4, 0.5],
        "split": ["train", "test", "train", "train", "test"],
    }
    folder = table(tmp_path, "mosaiks", f"Y_{column}.csv", columns)
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.save(folder / f"X_{column}.npy", features)
    for root in (tmp_path, tmp_path / "geo_prior_data/data", folder):
        data, values = load_locbench_values(root, "mosaiks_forest_cover")
        assert data.lonlat.tolist() == [[1, 10], [4, 40]]
        assert values.tolist() == [0.1, 0.4]
        assert data.features[:].tolist() == features[[0, 3]].tolist()
    assert load_locbench_values(tmp_path, "mosaiks_forest_cover", "test")[1].tolist() == [0.2, 0.5]
    np.save(folder / f"X_{column}.npy", features[:3])
    with pytest.raises(ValueError, match=r"expected a row for each of the table, 3 .* got 3"):
        load_locbench_values(tmp_path, "mosaiks_forest_cover")
    with pytest.raises(DatasetNotFoundError, match="expected rows of val with"):
        load_locbench_values(tmp_path, "mosaiks_forest_cover", "val")


def test_values_of_sustainbench(tmp_path: Path) -> None:
    for part, shift in (("trainval", 0), ("test", 1)):
        columns = {
            "lon": [1.0, 2],
            "lat": [3.0, 4],
            "asset_index": [5.0, 6],
            "asset_index_normalized": [0.25 + shift, np.nan],
            "nl_mean": [7.0, 8],
        }
        table(tmp_path, "sustainbench", f"dhs_{part}_labels.csv", columns)
    for split, value in (("train", 0.25), ("test", 1.25)):
        data, values = load_locbench_values(tmp_path, "sustainbench_asset_index", split)
        assert (values.tolist(), data.features[:].tolist()) == ([value], [[7]])


def test_values_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sets with classes are read by load_locbench"):
        load_locbench_values(tmp_path, "inat_2018")
    with pytest.raises(DatasetNotFoundError, match=r"expected mosaiks/Y_elevation\.csv; see docs"):
        load_locbench_values(tmp_path, "mosaiks_elevation")
    table(tmp_path, "mosaiks", "Y_elevation.csv", {"x": [1], "elevation": [2]})
    with pytest.raises(ValueError, match="expected columns lon, lat and elevation, got x, elev"):
        load_locbench_values(tmp_path, "mosaiks_elevation")
