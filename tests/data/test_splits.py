"""Splits: parts of the right size, blocks of the right shape, nothing shared between parts."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoenc import sampling
from geoenc.coordinates import great_circle_km
from geoenc.data.splits import block_split, random_split, spatial_blocks


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_block(lon: float, lat: float, degrees: float) -> tuple[int, int]:
    """Band and cell, one place at a time."""
    bands = max(1, round(180 / degrees))
    height = Fraction(180, bands)
    band = min(int((Fraction(lat) + 90) // height), bands - 1)
    centre = float(-90 + (band + Fraction(1, 2)) * height)
    cells = max(1, round(2 * bands * math.cos(math.radians(centre))))
    return band, int((Fraction(lon) + 180) // Fraction(360, cells)) % cells


@pytest.mark.parametrize("split", [random_split, None])
def test_same_seed_same_split_and_other_seed_another(split):
    lonlat = sampling.fibonacci(2000)

    def made(seed):
        if split is None:
            return block_split(lonlat, generator=seeded(seed))
        return random_split(len(lonlat), generator=seeded(seed))

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))
    assert made(0).dtype == torch.int64
    assert made(0).shape == (2000,)


@given(num=st.integers(0, 300), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=50, deadline=None)
def test_random_split_meets_any_fractions(num, cuts):
    low, high = sorted(cuts)
    fractions = (low, high - low, 1 - high)
    counts = random_split(num, generator=seeded(), fractions=fractions).bincount(minlength=3)
    assert counts.sum() == num
    np.testing.assert_allclose(counts, np.array(fractions) * num, atol=1)


@pytest.mark.parametrize("degrees", [3.0, 7.0, 10.0, 20.0, 90.0, 180.0])
def test_blocks_are_those_of_a_slow_count(degrees):
    lonlat = sampling.uniform(500, generator=seeded())
    lonlat[:4] = torch.tensor([(-180.0, 12.0), (180.0, 12.0), (30.0, 90.0), (30.0, -90.0)])
    slow = [slow_block(*place, degrees) for place in lonlat.tolist()]
    number = {pair: index for index, pair in enumerate(sorted(set(slow)))}
    expected = torch.tensor([number[pair] for pair in slow])
    blocks = spatial_blocks(lonlat, degrees=degrees)
    assert torch.equal(blocks.unique(return_inverse=True)[1], expected)


@pytest.mark.parametrize("degrees", [5.0, 10.0, 20.0])
def test_blocks_have_nearly_the_same_area_and_are_compact(degrees):
    lonlat = sampling.fibonacci(60_000)  # evenly spread: counts measure area
    blocks = spatial_blocks(lonlat, degrees=degrees)
    counts = blocks.bincount().double()
    assert (counts > 0).all()
    assert counts.std() / counts.mean() < 0.1
    # The extent of a block: no two of its places are further apart than about its diagonal.
    for block in blocks.unique()[::37]:
        places = lonlat[blocks == block][::7]
        extent = great_circle_km(places[:, None], places[None]).max()
        assert extent < 111.2 * degrees * 1.75


def test_antimeridian_is_a_border_of_blocks_and_a_single_meridian():
    lat = torch.linspace(-89.9, 89.9, 100).double()
    at = spatial_blocks(torch.stack([torch.full_like(lat, 180.0), lat], -1))
    same = spatial_blocks(torch.stack([torch.full_like(lat, -180.0), lat], -1))
    assert torch.equal(at, same)
    assert torch.equal(at, spatial_blocks(torch.stack([torch.full_like(lat, 540.0), lat], -1)))


@pytest.mark.parametrize("degrees", [10.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_block_is_in_two_parts_and_fractions_are_met(degrees, seed):
    lonlat = sampling.uniform(20_000, generator=seeded(seed))
    split = block_split(lonlat, degrees=degrees, generator=seeded(seed))
    blocks = spatial_blocks(lonlat, degrees=degrees)
    for block in blocks.unique():
        assert len(split[blocks == block].unique()) == 1
    largest = blocks.bincount().max() / len(blocks)
    shares = split.bincount(minlength=3) / len(split)
    assert (shares - torch.tensor([0.7, 0.1, 0.2])).abs().max() <= largest


def test_a_block_goes_where_its_middle_falls():
    lonlat = torch.tensor([(20.0 * column - 99, 1.0) for column in range(10)]).repeat(5, 1)
    split = block_split(lonlat, generator=seeded(), fractions=(0.67, 0.1, 0.23))
    assert (split.bincount() / 5).tolist() == [7, 1, 2]


def test_held_out_places_are_further_from_training_with_blocks_than_at_random():
    lonlat = sampling.fibonacci(8000)

    def nearest(split):
        test, train = lonlat[split == 2][::10], lonlat[split == 0]
        return great_circle_km(test[:, None], train[None]).amin(1).median()

    at_random = nearest(random_split(len(lonlat), generator=seeded()))
    in_blocks = nearest(block_split(lonlat, degrees=20, generator=seeded()))
    assert in_blocks > 1.5 * at_random


def test_missing_places_have_no_block_and_go_to_each_part():
    lonlat = sampling.uniform(2000, generator=seeded())
    lonlat[::2] = torch.nan
    assert (spatial_blocks(lonlat)[::2] == -1).all()
    counts = block_split(lonlat, generator=seeded())[::2].bincount(minlength=3)
    assert counts.tolist() == [700, 100, 200]
    only_missing = torch.full((10, 2), torch.nan)
    assert len(block_split(only_missing, generator=seeded())) == 10


def test_arguments_stay_as_they_were_and_arrays_are_taken():
    lonlat = sampling.uniform(500, generator=seeded())
    before = lonlat.clone()
    split = block_split(lonlat, generator=seeded())
    assert torch.equal(lonlat, before)
    assert torch.equal(split, block_split(lonlat.numpy(), generator=seeded()))


def test_empty_input_gives_empty_parts():
    assert random_split(0).shape == (0,)
    assert block_split(torch.zeros(0, 2)).shape == (0,)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (math.nan, 0.5, 0.5)]
)
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="three fractions"):
        random_split(10, fractions=fractions)
    with pytest.raises(ValueError, match="three fractions"):
        block_split(sampling.fibonacci(100), fractions=fractions)


@pytest.mark.parametrize("degrees", [0.0, -10.0, 181.0, math.nan])
def test_impossible_blocks_are_refused(degrees):
    with pytest.raises(ValueError, match=r"degrees from 0\.01 to 180"):
        spatial_blocks([(0, 0)], degrees=degrees)


def test_other_errors_say_what_to_do():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        random_split(-1)
    with pytest.raises(ValueError, match="one row per sample"):
        spatial_blocks([0.0, 0.0])
    with pytest.raises(ValueError, match="order="):
        spatial_blocks([(48.0, 151.0)])
    town = torch.rand(100, 2, generator=seeded()) * 0.1 + 5
    with pytest.raises(ValueError, match="pass smaller degrees"):
        block_split(town)
    assert block_split(town, degrees=0.01, generator=seeded()).unique().tolist() == [0, 1, 2]
