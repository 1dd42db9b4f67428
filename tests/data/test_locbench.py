"""The layout of TorchSpatial's download: its names, its metadata, its tables of values."""

import json
import os
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
    score_locbench,
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


def results_twin(path: Path, columns: dict[str, Any]) -> Path:
    pandas.DataFrame(columns).to_csv(path)
    return path


def test_scores_of_classes(tmp_path: Path) -> None:
    ranks = np.array([1, 2, 3, 4, 1, 700])
    columns = {"reciprocal_rank": 1 / ranks, "hit@1": ranks <= 1, "hit@3": ranks <= 3}
    found = score_locbench(results_twin(tmp_path / "a.csv", columns))
    assert found["rows"] == 6
    assert found["top1"] == pytest.approx(100 * 2 / 6)
    assert found["top3"] == pytest.approx(100 * 4 / 6)
    assert found["reciprocal_rank"] == pytest.approx(100 * np.mean(1 / ranks))
    columns["hit@3"] = ranks <= 1
    with pytest.raises(ValueError, match=r"expected hit@3 where the rank is at most 3"):
        score_locbench(results_twin(tmp_path / "b.csv", columns))


def test_scores_of_values(tmp_path: Path) -> None:
    columns = {"labels": [1.0, 2, 3, 6], "predictions": [1.0, 2, 4, 4]}
    found = score_locbench(results_twin(tmp_path / "a.csv", columns))
    assert found["r2"] == pytest.approx(1 - 5 / 14)
    assert found["rmse"] == pytest.approx(np.sqrt(5 / 4))
    assert found["mae"] == pytest.approx(3 / 4)


def test_results_that_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"expected results in .*none\.csv"):
        score_locbench(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(ValueError, match="expected a row for each sample, got none"):
        score_locbench(tmp_path / "empty.csv")
    with pytest.raises(ValueError, match="expected columns reciprocal_rank, or labels"):
        score_locbench(results_twin(tmp_path / "other.csv", {"x": [1]}))


SETS = {
    "BirdSnap": "birdsnap_orig_meta_test",
    "BirdSnap†": "birdsnap_ebird_meta_test",
    "NABirds†": "nabirds_ebird_meta_test",
    "iNat2018": "inat_2018__val",
    "YFCC": "yfcc__test",
    "fMoW": "fmow__val",
}


@pytest.mark.real_data
def test_scores_of_the_released_results_are_the_published_ones(shared: Path) -> None:
    """Section 2.2 of the collection of published numbers, every cell, to 0.01 points."""
    folder = Path(os.environ.get("GEOENC_TORCHSPATIAL", "TorchSpatial")) / "eval_results"
    spec = shared / "spec" / "published.md"
    if not folder.is_dir() or not spec.is_file():
        pytest.skip(
            f"expected TorchSpatial's {folder} and {spec}; set GEOENC_TORCHSPATIAL to a checkout "
            "of github.com/seai-lab/TorchSpatial"
        )
    text = spec.read_text(encoding="utf-8").split("### 2.2")[1].split("### 2.3")[0]
    blocks = text.split("| Encoder |")[1:]
    compared = 0
    for block, score in zip(blocks, ("top1", "top3", "reciprocal_rank"), strict=True):
        lines = block.splitlines()
        sets = [cell.strip() for cell in lines[0].split("|") if cell.strip()]
        for line in lines[2:]:
            if not line.startswith("|"):
                break
            encoder, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            for name, cell in zip(sets, cells, strict=True):
                path = folder / "classification" / f"eval_{SETS.get(name, '')}_{encoder}.csv"
                if cell[0].isdigit() and path.is_file() and name in SETS:
                    assert score_locbench(path)[score] == pytest.approx(float(cell), abs=0.0051)
                    compared += 1
    assert compared > 250
