"""Splitters: every sample tested once, nothing shared, distances kept, poles and antimeridian."""

import contextlib
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc import sampling
from geoenc.coordinates import great_circle_km, to_lonlat, to_xyz
from geoenc.data.splits import spatial_blocks
from geoenc.splits import BlockKFold, Buffered, Checkerboard, LeaveRegionOut, PlaceKFold

WORLD = sampling.uniform(1500, generator=torch.Generator().manual_seed(3))
SPLITTERS = [
    PlaceKFold(4),
    BlockKFold(5, degrees=20),
    BlockKFold(3, km=700, seed=1),
    Checkerboard(15),
    Checkerboard(km=1500),
    LeaveRegionOut("continent"),
]


def around(lonlat: tuple[float, float], num: int = 200) -> torch.Tensor:
    """Places within about 10 degrees."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(num, 3, generator=generator, dtype=torch.float64) * 0.1
    return to_lonlat(vectors + to_xyz(torch.tensor(lonlat, dtype=torch.float64)))


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_every_sample_is_tested_once_and_never_trained_on_meanwhile(splitter):
    folds = list(splitter.split(WORLD))
    assert len(folds) == splitter.get_n_splits(WORLD)
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(len(WORLD)))
    for train, test in folds:
        assert len(test) > 0
        assert sorted([*train, *test]) == list(range(len(WORLD)))


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_the_same_folds_at_every_call_from_any_form_of_places(splitter):
    import geopandas

    frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*WORLD.T.numpy()), crs=4326)
    mercator = frame[np.abs(WORLD[:, 1].numpy()) < 80].to_crs(3857)
    kept = WORLD[WORLD[:, 1].abs() < 80]
    for places, others in ((WORLD, WORLD.numpy()), (WORLD, frame), (kept, mercator)):
        for one, two in zip(splitter.split(places), splitter.split(others), strict=True):
            assert (one[1] == two[1]).all()
            assert (one[0] == two[0]).all()


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_missing_places_are_refused(splitter):
    holes = WORLD.clone()
    holes[7, 1] = torch.nan
    with pytest.raises(ValueError, match="got none for 1 of 1500; leave them out"):
        next(splitter.split(holes))
    with pytest.raises(ValueError, match="one row per sample"):
        next(splitter.split(WORLD[0]))
    with pytest.raises(ValueError, match="order="):
        next(splitter.split([(48.0, 151.0), (1.0, 2.0)]))


@pytest.mark.parametrize("splitter", [BlockKFold(degrees=20), BlockKFold(km=2000)], ids=str)
def test_blocks_stay_whole_and_folds_are_even(splitter):
    side = 20 if splitter.km is None else 2000 / 111.195
    block = spatial_blocks(WORLD, degrees=side)
    folds = [set(block[test].tolist()) for _, test in splitter.split(WORLD)]
    assert sum(map(len, folds)) == len(set(block.tolist()))
    sizes = [len(test) for _, test in splitter.split(WORLD)]
    assert max(sizes) - min(sizes) <= block.bincount().max()


def test_other_seeds_give_other_folds():
    first, same, other = (
        [test.tolist() for _, test in BlockKFold(degrees=20, seed=seed).split(WORLD)]
        for seed in (0, 0, 1)
    )
    assert first == same != other


def test_samples_of_a_place_stay_together_whatever_it_is_called():
    lonlat = [(180.0, 10.0), (-180.0, 10.0), (0.0, 90.0), (77.0, 90.0), (5.0, 5.0), (365.0, 5.0)]
    folds = [test.tolist() for _, test in PlaceKFold(3).split(lonlat)]
    assert sorted(folds) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("middle", [(10.0, 20.0), (180.0, -17.0), (0.0, 90.0)])
def test_near_samples_stay_together_along_chains(middle):
    lonlat = around(middle, 300)
    splitter = PlaceKFold(3, within_km=40)
    distance = great_circle_km(lonlat[:, None], lonlat[None])
    place = splitter._blocks(lonlat)
    linked = distance < 40
    for _ in range(9):  # 2^9 > 300 steps
        linked = (linked.double() @ linked.double()) > 0
    assert (place[:, None] == place[None]).equal(linked)
    assert 3 < len(place.unique()) < 300
    for train, test in splitter.split(lonlat):
        assert distance[train][:, test].min() >= 40


def test_blocks_are_as_wide_at_the_pole_and_end_at_the_antimeridian():
    pole = torch.tensor([(lon, 89.0) for lon in range(-180, 180, 3)]).double()
    blocks = BlockKFold(2, degrees=10)._blocks(pole)
    for block in blocks.unique():
        inside = pole[blocks == block]
        assert great_circle_km(inside[:, None], inside[None]).max() < 300
    assert len(blocks.unique()) <= 4  # three cells of 10 degrees around the pole, not 36
    at = BlockKFold(2, degrees=10)._blocks(torch.tensor([(-180.0, 5.0), (180.0, 5.0)]))
    assert at[0] == at[1]


@pytest.mark.parametrize("degrees", [5.0, 10.0, 36.0, 90.0])
def test_colours_of_the_board_alternate_around_every_band(degrees):
    bands = round(180 / degrees)
    for band in range(bands):
        lat = -90 + (band + 0.5) * 180 / bands
        lon = torch.arange(-180, 180, 0.25).double() + 0.1
        line = torch.stack([lon, torch.full_like(lon, lat)], -1)
        (_, white), (_, black) = Checkerboard(degrees).split(line)
        colour = np.zeros(len(lon), dtype=int)
        colour[black] = 1
        changes = int((np.diff(colour, append=colour[0]) != 0).sum())
        expected = max(1, round(bands * math.cos(math.radians(lat))))
        assert changes == 2 * expected
        assert abs(len(white) - len(black)) <= 2 * changes


@pytest.mark.parametrize("middle", [(10.0, 20.0), (180.0, -17.0), (0.0, 90.0), (50.0, -90.0)])
@pytest.mark.parametrize("splitter", [PlaceKFold(3), BlockKFold(3, km=400), Checkerboard(6)])
@pytest.mark.parametrize("buffer_km", [5.0, 120.0])
def test_nothing_is_trained_on_nearer_than_the_buffer(middle, splitter, buffer_km):
    lonlat = around(middle)
    plain = list(splitter.split(lonlat))
    crossed = False
    for (before, wanted), (train, test) in zip(
        plain, Buffered(splitter, buffer_km).split(lonlat), strict=True
    ):
        distance = great_circle_km(lonlat[before][:, None], lonlat[test][None]).amin(1)
        assert (test == wanted).all()
        assert great_circle_km(lonlat[train][:, None], lonlat[test][None]).min() >= buffer_km
        assert set(train) == set(before[(distance >= buffer_km).numpy()])  # and no more is lost
        dropped = np.setdiff1d(before, train)
        across = (lonlat[dropped, 0][:, None] * lonlat[test, 0][None] < 0).numpy()
        near = great_circle_km(lonlat[dropped][:, None], lonlat[test][None]).numpy() < buffer_km
        crossed |= bool((across & near).any())
    assert crossed or middle == (10.0, 20.0) or buffer_km == 5.0


@given(
    st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=12, max_size=40),
    st.floats(1, 3000),
)
def test_buffer_holds_for_any_places(lonlat, buffer_km):
    places = torch.tensor(lonlat, dtype=torch.float64)
    folds = []
    with contextlib.suppress(ValueError):  # nothing is left to train on
        folds = list(Buffered(PlaceKFold(2), buffer_km).split(places))
    for train, test in folds:
        closest = great_circle_km(places[train][:, None], places[test][None]).min()
        assert closest >= buffer_km - 1e-6


def test_regions_are_the_groups_or_the_countries():
    lonlat = [(2.35, 48.86), (13.4, 52.5), (2.3, 48.8), (-100.0, 40.0)]
    folds = [test.tolist() for _, test in LeaveRegionOut().split(lonlat)]
    assert folds == [[0, 2], [1], [3]]  # France, Germany, the United States
    groups = ["b", "a", "a", "b"]
    splitter = LeaveRegionOut()
    assert [test.tolist() for _, test in splitter.split(lonlat, groups=groups)] == [[1, 2], [0, 3]]
    assert splitter.get_n_splits(lonlat) == 3
    assert splitter.get_n_splits(groups=groups) == 2


def test_h3_cells_stay_whole(monkeypatch):
    """With a grid in the place of the package: the order of its arguments, and whole cells."""

    def cell(lat, lng, res):
        assert res == 2
        assert -90 <= lat <= 90
        return f"{math.floor(lat / 30)}:{math.floor(lng / 30)}"

    monkeypatch.setitem(sys.modules, "h3", SimpleNamespace(latlng_to_cell=cell))
    lonlat = torch.tensor([(151.0, -33.0), (152.0, -34.0), (10.0, 50.0), (11.0, 51.0)])
    folds = [test.tolist() for _, test in BlockKFold(2, h3=2).split(lonlat)]
    assert sorted(folds) == [[0, 1], [2, 3]]


def test_h3_itself():
    pytest.importorskip("h3", reason="needs the package h3 (extra grids)")
    import h3

    splitter = BlockKFold(5, h3=1)
    cells = [h3.latlng_to_cell(lat, lon, 1) for lon, lat in WORLD.tolist()]
    folds = [{cells[row] for row in test} for _, test in splitter.split(WORLD)]
    assert sum(map(len, folds)) == len(set(cells))


def test_without_h3_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "h3", None)
    with pytest.raises(ImportError, match=r"geoenc\[grids\]"):
        next(BlockKFold(h3=2).split(WORLD))


def test_scikit_learn_takes_them():
    pytest.importorskip("sklearn")
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    target = (WORLD[:, 1] > 0).long().numpy()
    places, model = WORLD.numpy(), KNeighborsClassifier(5)
    at_random = cross_val_score(model, places, target, cv=PlaceKFold(4)).mean()
    blocked = cross_val_score(model, places, target, cv=BlockKFold(4, degrees=30)).mean()
    assert at_random > blocked > 0.5
    buffered = Buffered(KFold(4, shuffle=True, random_state=0), 300.0)
    assert len(cross_val_score(model, places, target, cv=buffered)) == 4
    names = np.where(WORLD[:, 0].numpy() < 0, "west", "east")
    scores = cross_val_score(model, places, target, cv=LeaveRegionOut(), groups=names)
    assert len(scores) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockKFold(1, degrees=5), "n_splits of at least 2"),
        (lambda: PlaceKFold(0), "n_splits of at least 2"),
        (lambda: BlockKFold(), "one of degrees, km and h3"),
        (lambda: BlockKFold(degrees=5, km=5), "one of degrees, km and h3"),
        (lambda: BlockKFold(h3=16), "from 0 to 15"),
        (lambda: BlockKFold(km=1.0), "1.2 to 20,000 km"),
        (lambda: BlockKFold(degrees=math.nan), "0.01 to 180"),
        (lambda: Checkerboard(), "one of degrees and km"),
        (lambda: Checkerboard(5, km=5), "one of degrees and km"),
        (lambda: LeaveRegionOut("county"), "got 'county'"),
        (lambda: LeaveRegionOut().get_n_splits(), "pass the places"),
        (lambda: Buffered(PlaceKFold(), 0.0), "buffer_km above 0"),
        (lambda: Buffered(PlaceKFold(), 20_016.0), "buffer_km above 0"),
        (lambda: PlaceKFold(within_km=0.0), "within_km above 0"),
        (lambda: next(BlockKFold(5, degrees=90).split(WORLD[:3])), "fewer n_splits"),
        (lambda: next(Checkerboard(10).split([(1, 1), (2, 2)])), "smaller squares"),
        (lambda: next(LeaveRegionOut().split([(2, 48), (3, 48)])), "another level"),
        (lambda: next(LeaveRegionOut().split(WORLD, groups=["a"])), "as long as X"),
        (lambda: next(Buffered(PlaceKFold(), 9000.0).split(WORLD)), "smaller buffer_km"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
