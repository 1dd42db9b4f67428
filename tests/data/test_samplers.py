"""Few-shot subsets and class-balanced epochs, counted class by class."""

from collections import Counter

import geopandas
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc import sampling
from geoenc.data import ClassBalancedSampler, few_shot, place_sampler
from geoenc.data.globe import countries


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def long_tail() -> torch.Tensor:
    """Classes 0 to 6 with 100, 50, 30, 10, 9, 2 and 1 rows, and 20 rows without label."""
    counts = [100, 50, 30, 10, 9, 2, 1]
    target = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    target = torch.cat([target, torch.full((20,), -1)])
    return target[torch.randperm(len(target), generator=seeded(7))]


# --- few_shot -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_every_class_keeps_its_share_and_at_least_one(fraction: float) -> None:
    target = long_tail()
    rows = few_shot(target, fraction, generator=seeded())
    assert rows.dtype == torch.int64
    assert rows.tolist() == sorted(set(rows.tolist()))
    counts = Counter(target.tolist())
    drawn = Counter(target[rows].tolist())
    for label, n in counts.items():
        if label < 0:
            assert label not in drawn
        else:
            assert drawn[label] == max(1, round(n * fraction))


@pytest.mark.parametrize(
    ("n", "fraction", "drawn"),
    [(10, 0.05, 1), (10, 0.25, 2), (10, 0.35, 4), (30, 0.05, 2), (3, 0.5, 2)],
)
def test_halves_round_to_even_as_published(n: int, fraction: float, drawn: int) -> None:
    assert len(few_shot(torch.zeros(n, dtype=torch.long), fraction)) == drawn


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.floats(0.001, 1.0))
def test_few_shot_of_anything(labels: list[int], fraction: float) -> None:
    target = torch.tensor(labels)
    if max(labels) < 0:
        with pytest.raises(ValueError, match="at least one label"):
            few_shot(target, fraction)
        return
    rows = few_shot(target, fraction, generator=seeded())
    assert set(target[rows].tolist()) == {label for label in labels if label >= 0}


def test_the_generator_decides() -> None:
    target = long_tail()
    assert few_shot(target, 0.2, generator=seeded()).equal(
        few_shot(target, 0.2, generator=seeded())
    )
    other = few_shot(target, 0.2, generator=seeded(1))
    assert not few_shot(target, 0.2, generator=seeded()).equal(other)
    state = torch.get_rng_state()
    few_shot(target, 0.2, generator=seeded())
    assert torch.get_rng_state().equal(state)


def test_all_rows_are_drawn_alike() -> None:
    target = torch.zeros(20, dtype=torch.long)
    generator = seeded()
    counts = torch.zeros(20)
    for _ in range(500):
        counts[few_shot(target, 0.25, generator=generator)] += 1
    assert (counts / 500 - 0.25).abs().max() < 0.1


@pytest.mark.parametrize(
    ("target", "fraction", "words"),
    [
        (torch.zeros(3).long(), 0.0, [r"(0, 1]", "got 0.0", "5 % is 0.05"]),
        (torch.zeros(3).long(), 5, [r"(0, 1]", "got 5"]),
        (torch.zeros(3).long(), -0.1, [r"(0, 1]", "got -0.1"]),
        (torch.zeros(3), 0.5, ["integer target", "torch.float32"]),
        (torch.zeros(3, 1).long(), 0.5, ["shape (N,)", "(3, 1)"]),
        (torch.full((4,), -1), 0.5, ["at least one label", "4 rows without any"]),
        (torch.empty(0).long(), 0.5, ["at least one label", "0 rows"]),
    ],
)
def test_few_shot_refuses(target: torch.Tensor, fraction: float, words: list[str]) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        few_shot(target, fraction)
    for word in words:
        assert word in str(caught.value)


# --- ClassBalancedSampler -----------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 10, 1000])
def test_an_epoch_has_each_class_up_to_the_cap(cap: int) -> None:
    target = long_tail()
    sampler = ClassBalancedSampler(target, cap, generator=seeded())
    rows = list(sampler)
    assert len(rows) == len(set(rows)) == len(sampler)
    drawn = Counter(target[rows].tolist())
    counts = Counter(target[target >= 0].tolist())
    assert drawn == {label: min(n, cap) for label, n in counts.items()}


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    target = long_tail()
    sampler = ClassBalancedSampler(target, 10, generator=seeded())
    first, second = list(sampler), list(sampler)
    assert first != second
    assert set(first) != set(second)  # rows are drawn anew, not only shuffled
    again = ClassBalancedSampler(target, 10, generator=seeded())
    assert [list(again), list(again)] == [first, second]


def test_classes_are_mixed() -> None:
    """Shuffled across classes: no run of one class as long as its share."""
    target = torch.arange(10).repeat_interleave(100)
    labels = target[list(ClassBalancedSampler(target, 100, generator=seeded()))]
    changes = (labels[1:] != labels[:-1]).double().mean().item()
    assert changes == pytest.approx(0.9, abs=0.05)


def test_sampler_feeds_a_loader_of_whole_batches() -> None:
    sampler = ClassBalancedSampler(long_tail(), 10, generator=seeded())
    batches = list(torch.utils.data.BatchSampler(sampler, 16, drop_last=False))
    assert sum(map(len, batches)) == len(sampler)


@pytest.mark.parametrize("target", [torch.full((3,), -1), torch.empty(0).long()])
def test_sampler_refuses(target: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=f"at least one label, got {len(target)} rows"):
        ClassBalancedSampler(target)
    with pytest.raises(ValueError, match="max_per_class of at least 1, got 0"):
        ClassBalancedSampler(torch.zeros(3).long(), 0)


def test_an_epoch_at_once_is_what_iteration_gives() -> None:
    sampler = ClassBalancedSampler(long_tail(), 10, generator=seeded())
    again = ClassBalancedSampler(long_tail(), 10, generator=seeded())
    assert sampler.epoch().tolist() == list(again)


# --- place_sampler ------------------------------------------------------------------------------


def test_names_are_the_functions_of_sampling() -> None:
    for name in ("uniform", "legacy_disc", "legacy_quadrant"):
        assert place_sampler(name) is getattr(sampling, name)


def test_land_lies_in_the_countries() -> None:
    places = place_sampler("land")(2000, generator=seeded())
    union = countries().union_all()
    assert shapely.contains_xy(union, *places.T.numpy()).all()
    share = (places[:, 1] > 0).double().mean().item()
    weight = countries().to_crs("EPSG:6933").clip_by_rect(-2e7, 0, 2e7, 1e7).area.sum()
    assert share == pytest.approx(weight / countries().to_crs("EPSG:6933").area.sum(), abs=0.04)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg"])
def test_a_file_of_polygons_in_any_projection(tmp_path, suffix: str) -> None:
    box = shapely.box(10, 50, 12, 51)
    frame = geopandas.GeoDataFrame(geometry=[box], crs="EPSG:4326")
    path = tmp_path / f"region.{suffix}"
    (frame.to_crs("EPSG:3857") if suffix == "gpkg" else frame).to_file(path)
    places = place_sampler(str(path))(500, generator=seeded())
    assert len(places) == 500
    assert shapely.contains_xy(box.buffer(1e-9), *places.T.numpy()).all()


def test_place_sampler_refuses(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"expected random places.*'sea'.*neither"):
        place_sampler("sea")
    (tmp_path / "a.geojson").write_text("no map")
    with pytest.raises(ValueError, match="geopandas cannot read"):
        place_sampler(str(tmp_path / "a.geojson"))
    points = geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2)], crs="EPSG:4326")
    points.to_file(tmp_path / "points.geojson")
    with pytest.raises(ValueError, match="expected a region with an area"):
        place_sampler(str(tmp_path / "points.geojson"))
