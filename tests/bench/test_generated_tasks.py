"""Tasks that are made: the published recipes, against formulas written down here."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from geoenc.bench.generated import (
    GENERATED,
    centred_lattice,
    checkerboard,
    equal_area_grid,
    land_ocean,
    vmf_sample,
    von_mises_fisher,
)
from geoenc.bench.load import list_tasks, load_task
from geoenc.coordinates import great_circle_km, to_xyz


def of_part(task, number):
    return task.lonlat[task.fixed["random"] == number]


def slow_centres(num: int) -> np.ndarray:
    """Gonzalez 2010, equation 1, point by point."""
    golden = (1 + math.sqrt(5)) / 2
    rows = []
    for i in range(-num // 2, num // 2):
        lat = math.degrees(math.asin(2 * i / (num + 1)))
        lon = math.fmod(i, golden) * 360 / golden
        rows.append(((lon + 180) % 360 - 180, lat))
    return np.array(rows)


def test_the_lattice_is_that_of_the_paper() -> None:
    gap = centred_lattice(200).numpy() - slow_centres(200)
    gap[:, 0] = (gap[:, 0] + 180) % 360 - 180
    assert np.abs(gap).max() < 1e-9
    with pytest.raises(ValueError, match=r"expected an even number of points .* got 201"):
        centred_lattice(201)


def test_a_place_of_the_checkerboard_has_the_class_of_the_nearest_centre() -> None:
    task = checkerboard(num_samples=200, num_centres=60, num_classes=7)
    centres = torch.from_numpy(slow_centres(60))
    for lonlat, target in zip(task.lonlat, task.target, strict=True):
        assert target == great_circle_km(lonlat, centres).argmin() % 7


def test_the_places_of_the_checkerboard_are_the_published_ones() -> None:
    task = checkerboard(num_samples=1000)
    for part in (0, 1):
        x, y, z = np.random.RandomState(part).normal(size=(3, 1000))
        lonlat = np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))], 1)
        assert np.allclose(of_part(task, part), np.degrees(lonlat), atol=1e-12)
    assert torch.equal(of_part(task, 2), centred_lattice(1000))
    assert len(checkerboard()) == 30_000
    assert checkerboard().classes == 16


def test_another_seed_is_another_draw() -> None:
    first, again, other = (checkerboard(num_samples=50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.lonlat, again.lonlat)
    assert not set(map(tuple, of_part(first, 1).tolist())) & set(
        map(tuple, of_part(other, 0).tolist())
    )
    assert torch.equal(of_part(first, 2), of_part(other, 2))


def test_the_grid_has_cells_of_one_area() -> None:
    grid = equal_area_grid(100.0)
    assert len(grid) == 51_156
    rows = grid[:, 1].unique()
    assert len(rows) == 147
    height = rows.deg2rad().sin().diff()  # of a sphere; the map is that of an ellipsoid
    assert (height / height.mean() - 1).abs().max() < 0.01
    assert (grid[:348, 0].diff() % 360 - 360 * 100 / 34_735.0609).abs().max() < 1e-6


def test_land_is_where_land_is() -> None:
    task = land_ocean(num_samples=500)
    test = task.fixed["random"] == 2
    assert task.target[test].double().mean().item() == pytest.approx(0.290, abs=0.0005)
    known = {(0, 46): 1, (-60, -5): 1, (60, -85): 1, (-30, 30): 0, (-150, 10): 0, (75, -20): 0}
    for place, land in known.items():
        distance = great_circle_km(task.lonlat, torch.tensor(place, dtype=torch.float64))
        assert task.target[distance.argmin()] == land, place


@pytest.mark.real_data
def test_land_and_ocean_are_those_of_the_published_files(shared: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = shared / "data" / "landocean_locationencoder.parquet"
    if not path.is_file():
        pytest.skip(f"expected {path}")
    published = pandas.read_parquet(path)
    task = land_ocean()
    assert np.allclose(task.lonlat[:10_000], published[["lon", "lat"]], atol=2e-5)
    assert (task.target[:10_000].numpy() != published["land"].to_numpy()).sum() <= 1


@pytest.mark.parametrize("kappa", [0.5, 8.0, 300.0])
def test_draws_have_the_density_of_von_mises_and_fisher(kappa: float) -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.nn.functional.normalize(
        torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64), dim=0
    )
    count = 20_000
    xyz = vmf_sample(
        centre.expand(count, 3), torch.full((count,), kappa).double(), generator=generator
    )
    assert torch.allclose(xyz.norm(dim=1), torch.ones(count, dtype=torch.float64))
    along = (xyz @ centre).numpy()

    def distribution(w):
        return np.expm1(kappa * (w + 1)) / np.expm1(2 * kappa)

    assert stats.kstest(along, distribution).pvalue > 1e-3
    first = torch.linalg.cross(centre, torch.tensor([1.0, 0, 0], dtype=torch.float64))
    first /= first.norm()
    angle = torch.atan2(xyz @ torch.linalg.cross(centre, first), xyz @ first)
    assert stats.kstest(angle.numpy(), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_bands_hold_as_many_centres_each() -> None:
    sharp = {"min_kappa": 1e7, "max_kappa": 1e7}
    task = von_mises_fisher(num_strata=5, **sharp)
    centre = torch.stack([to_xyz(task.lonlat[task.target == one]).mean(0) for one in range(50)])
    lat = torch.asin(centre[:, 2] / centre.norm(dim=1)).rad2deg()
    assert torch.histc(lat, 5, -90, 90).tolist() == [10] * 5
    lat = von_mises_fisher(num_classes=2000, per_class=10, **sharp).lonlat[::10, 1]
    uniform = stats.uniform(-1, 2).cdf
    assert stats.kstest(lat.deg2rad().sin().numpy(), uniform).pvalue > 1e-3


def test_parts_hold_every_class_in_one_ratio() -> None:
    task = von_mises_fisher(num_strata=10, max_kappa=64)
    for part, count in enumerate((70, 10, 20)):
        own = task.target[task.fixed["random"] == part].bincount(minlength=50)
        assert own.tolist() == [count] * 50


def test_the_ceiling_is_what_knowing_the_densities_is_worth() -> None:
    assert von_mises_fisher(min_kappa=1e6, max_kappa=1e6).source["ceiling"] > 0.99
    assert von_mises_fisher(min_kappa=1e-3, max_kappa=1e-3).source["ceiling"] < 0.06
    order = [von_mises_fisher(max_kappa=kappa).source["ceiling"] for kappa in (16.0, 128.0)]
    assert order[0] < order[1]


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expected num_classes as a multiple of num_strata"):
        von_mises_fisher(num_strata=7)
    with pytest.raises(ValueError, match="expected 0 < min_kappa <= max_kappa, got 9"):
        von_mises_fisher(min_kappa=9, max_kappa=3)
    with pytest.raises(ValueError, match="expected per_class of at least 10, got 3"):
        von_mises_fisher(per_class=3)


def test_every_made_task_of_the_suite_can_be_loaded() -> None:
    made = [one for one in list_tasks() if one.generator and not one.file]
    assert {"checkerboard", "land-ocean", "vmf-u1", "vmf-s4-4"} <= {one.name for one in made}
    kinds = [tuple(one.parameters.items()) for one in made if one.generator == "vmf"]
    assert len(kinds) == len(set(kinds)) == 20
    for file in made:
        task = load_task(file.name)
        assert set(task.fixed["random"].tolist()) == {0, 1, 2}
        assert task.name == file.name
        assert task.source["generator"] in GENERATED
