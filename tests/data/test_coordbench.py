"""CoordBench's tables, and the RANGE suite's: twins of their files, read as they would be."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geoenc.data import DatasetNotFoundError, load_coordbench, load_range_suite
from geoenc.data.coordbench import COORDBENCH, random_folds, spatial_folds

ROWS = 40


def values(rng: np.random.Generator, name: str) -> np.ndarray:
    """Invented answers of the kind that the column of this name has."""
    if name in ("country", "biome", "ecoregion", "label_name"):
        return rng.choice(["a", "b", "c"], ROWS)
    if name.endswith("class_index"):
        return rng.integers(-1, 5, ROWS)
    if name == "label":
        return rng.integers(0, 4, ROWS)
    return rng.random(ROWS) * 100


def coordbench_twin(root: Path, seed: int = 0) -> Path:
    """Every table of the download, with few invented rows: ``data/CONFIG/data.parquet``."""
    rng = np.random.default_rng(seed)
    columns: dict[str, set[str]] = {}
    for task in COORDBENCH.values():
        columns.setdefault(task.config, set()).update(task.target[:1])
    columns["pdfm_conus27"] |= {"TreeCover", "Percent_Person_Obesity"}
    columns["bt_landcover"] |= {"water", "trees"}
    columns["bt_bioclim"] |= {f"bioclim_{i:02d}" for i in range(1, 20)}
    for config, names in columns.items():
        frame = pd.DataFrame(
            {
                "lon": rng.uniform(-180, 180, ROWS),
                "lat": rng.uniform(-89, 89, ROWS),
                "timestamp": pd.array([None] * ROWS, dtype="Int64"),
                "split": pd.array([None] * ROWS, dtype="string"),
                "id": [f"row{i}" for i in range(ROWS)],
                **{name: values(rng, name) for name in sorted(names)},
            }
        )
        if config == "sustainbench":
            frame["split"] = ["test" if i % 4 == 0 else "trainval" for i in range(ROWS)]
            frame.loc[3, "asset_index"] = np.nan
        if config == "bt_landcover":
            frame["random_sample"] = [int(i < 10) for i in range(ROWS)]
        if config == "satclip_country":
            frame["country"] = [i % 3 for i in range(ROWS)]
        if config.startswith("usavars"):
            frame.loc[5, frame.columns[-1]] = -999.0
        path = root / "data" / config / "data.parquet"
        path.parent.mkdir(parents=True)
        frame.to_parquet(path)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coordbench_twin(tmp_path_factory.mktemp("coordbench"))


def frame(root: Path, config: str) -> pd.DataFrame:
    return pd.read_parquet(root / "data" / config / "data.parquet")


MANY = {"pdfm-conus27": "TreeCover", "bt-landcover": "water", "bt-bioclim": "bioclim_07"}


@pytest.mark.parametrize("name", COORDBENCH)
def test_every_task_can_be_read(root: Path, name: str) -> None:
    found = load_coordbench(root, name, MANY.get(name))
    assert 0 < len(found.target) == len(found.lonlat) <= ROWS
    assert found.target.dtype == (torch.int64 if found.classes else torch.float64)
    if found.classes:
        assert found.target.unique().tolist() == list(range(len(found.classes)))
    assert len(load_coordbench(root / "data", name, MANY.get(name)).target) == len(found.target)


def test_sixty_tasks_are_known() -> None:
    # 60 in the publication, which counts the 2 columns of "ecoregions" as one
    assert len(COORDBENCH) == 61


def test_answers_are_those_of_the_table(root: Path) -> None:
    table = frame(root, "satclip_elevation")
    found = load_coordbench(root, "satclip-elevation")
    assert found.target.tolist() == table["elevation"].tolist()
    assert found.lonlat.tolist() == table[["lon", "lat"]].to_numpy().tolist()
    table = frame(root, "ecoregions")
    found = load_coordbench(root, "biome")
    assert [found.classes[i] for i in found.target] == table["biome"].tolist()


def test_the_sea_and_rows_without_answer_are_left_out(root: Path) -> None:
    found = load_coordbench(root, "satclip-country")
    assert found.classes == ("1", "2")
    table = frame(root, "satclip_ecoregion")
    land = table["biome_class_index"] != -1
    assert 0 < land.sum() < ROWS
    assert len(load_coordbench(root, "satclip-biome").target) == land.sum()
    table = frame(root, "usavars_population").drop(index=5)
    found = load_coordbench(root, "mosaiks-population")
    assert np.allclose(found.target, np.log1p(table["population"]))
    table = frame(root, "usavars_elevation").drop(index=5)
    assert np.allclose(load_coordbench(root, "mosaiks-elevation").target, table["elevation"])


def test_better_together_takes_the_pool_of_its_paper(root: Path) -> None:
    for name in ("bt-landcover", "bt-bioclim", "bt-population"):
        assert len(load_coordbench(root, name, MANY.get(name)).target) == 10
    assert len(load_coordbench(root, "bt-biomass").target) == ROWS


def test_sustainbench_keeps_its_test_part(root: Path) -> None:
    found = load_coordbench(root, "sustainbench-asset")
    assert found.part is not None
    wanted = [2 * (i % 4 == 0) for i in range(ROWS) if i != 3]
    assert found.part.tolist() == wanted
    assert load_coordbench(root, "country").part is None


def test_kinds_of_labels_are_told_apart(root: Path, tmp_path: Path) -> None:
    assert load_coordbench(root, "dm-glance").classes == ("0", "1", "2", "3")
    table = frame(root, "dm_aster_ged").assign(label=np.linspace(0, 1, ROWS))
    table.to_parquet(tmp_path / "dm_aster_ged.parquet")
    assert load_coordbench(tmp_path, "dm-aster_ged").classes == ()


def test_other_names_are_taken_and_told(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = frame(root, "air_temp").rename(columns={"lon": "Lon", "lat": "Lat", "meanT": "TEMP"})
    table.to_csv(tmp_path / "air_temp.csv")
    with caplog.at_level(logging.INFO, "geoenc.data"):
        found = load_coordbench(tmp_path, "satclip-air-temp")
    assert found.target.tolist() == table["TEMP"].tolist()
    assert "takes column 'TEMP' for 'meanT'" in caplog.text
    assert "air_temp.csv" in caplog.text


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetNotFoundError, match=r"expected data/country/data\.parquet; see docs"
    ):
        load_coordbench(tmp_path, "country")
    with pytest.raises(ValueError, match=r"expected a task of pdfm-conus27.*got 'moon'"):
        load_coordbench(root, "moon")
    with pytest.raises(ValueError, match=r"expected target=.*Percent_Person_Obesity"):
        load_coordbench(root, "pdfm-conus27")
    with pytest.raises(ValueError, match="expected a column height, got lon, lat"):
        load_coordbench(root, "satclip-elevation", "height")


def test_folds_are_those_of_the_publication() -> None:
    order = np.random.default_rng(0).permutation(23)
    for fold in range(5):
        assert sorted(order[fold::5]) == (random_folds(23) == fold).nonzero()[:, 0].tolist()
    rng = np.random.default_rng(7)
    lon, lat = rng.uniform(-180, 180, 300), rng.uniform(-90, 90, 300)
    cells = [
        (int(np.floor(b / 10)) * 100003 + int(np.floor(a / 10)))
        for a, b in zip(lon, lat, strict=True)
    ]
    kinds = sorted(set(cells))
    number = dict(zip(kinds, np.random.default_rng(0).permutation(len(kinds)) % 5, strict=True))
    found = spatial_folds(np.stack([lon, lat], 1))
    assert found.tolist() == [number[cell] for cell in cells]


def range_twin(root: Path, rows: int = 50) -> Path:
    """The tables of the RANGE evaluation with invented rows, columns named as there."""
    rng = np.random.default_rng(3)

    def write(name: str, lon: str, lat: str, **columns: object) -> None:
        places = {lon: rng.uniform(-180, 180, rows), lat: rng.uniform(-80, 80, rows)}
        pd.DataFrame({**places, **columns}).to_csv(root / name, index=False)

    for part in ("train", "val"):
        biome = rng.choice(["Tundra", "Taiga"], rows).astype(object)
        biome[4] = None
        names = rng.choice(["one", "two", "three"], rows)
        write(f"ecoregion_{part}.csv", "X", "Y", BIOME_NAME=biome, ECO_NAME=names)
    write("country.csv", "lon", "lat", country=rng.choice(["FR", "DE"], rows))
    write("temp.csv", "Lon", "Lat", meanT=rng.normal(size=rows))
    write("elevation.csv", "lon", "lat", elevation=rng.normal(size=rows))
    write("population.csv", "lon", "lat", population=rng.exponential(99, rows))
    write("housing.csv", "longitude", "latitude", median_house_value=rng.random(rows))
    return root


def test_range_suite(tmp_path: Path) -> None:
    range_twin(tmp_path)
    both = [pd.read_csv(tmp_path / f"ecoregion_{part}.csv") for part in ("train", "val")]
    biome = load_range_suite(tmp_path, "biome")
    kept = pd.concat(both).dropna(subset="BIOME_NAME")
    assert [biome.classes[i] for i in biome.target] == kept["BIOME_NAME"].tolist()
    assert biome.lonlat.tolist() == kept[["X", "Y"]].to_numpy().tolist()
    assert len(load_range_suite(tmp_path, "ecoregion").classes) == 3
    population = pd.read_csv(tmp_path / "population.csv")["population"]
    assert np.allclose(load_range_suite(tmp_path, "population").target, np.log(1 + population))
    temperature = pd.read_csv(tmp_path / "temp.csv")["meanT"]
    assert np.allclose(load_range_suite(tmp_path, "temperature").target, temperature)
    assert len(load_range_suite(tmp_path, "housing").target) == 50


def test_test_rows_of_the_range_suite_are_the_published_ones(tmp_path: Path) -> None:
    found = load_range_suite(range_twin(tmp_path), "country")
    assert found.part is not None
    order = torch.randperm(50, generator=torch.Generator().manual_seed(42))
    assert sorted(order[40:].tolist()) == (found.part == 2).nonzero()[:, 0].tolist()


def test_what_the_range_suite_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"expected ecoregion_train\.csv; see docs"):
        load_range_suite(tmp_path, "biome")
    with pytest.raises(ValueError, match=r"expected a task of biome.*got 'moon'"):
        load_range_suite(tmp_path, "moon")
    pd.DataFrame({"lon": [1], "lat": [2], "height": [3]}).to_csv(tmp_path / "elevation.csv")
    with pytest.raises(ValueError, match="expected a column elevation, got"):
        load_range_suite(tmp_path, "elevation")
