"""Distances of predictions, counted one place at a time."""

import math

import pytest
import torch

from geoenc.coordinates import EARTH_RADIUS_KM, great_circle_km
from geoenc.metrics import accuracy_within_km, median_error_km
from geoenc.sampling import uniform


def north(kilometres: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places due north of places on the equator, at given distances."""
    true = torch.tensor([(10.0 * i, 0.0) for i in range(len(kilometres))], dtype=torch.float64)
    shift = torch.tensor([math.degrees(km / EARTH_RADIUS_KM) for km in kilometres]).double()
    return torch.stack([true[:, 0], shift], -1), true


def test_share_within_a_radius() -> None:
    predicted, true = north([0.5, 20.0, 150.0, 700.0, 2400.0, 5000.0])
    for radius, count in ((1, 1), (25, 2), (200, 3), (750, 4), (2500, 5), (6000, 6)):
        assert accuracy_within_km(predicted, true, radius).item() == pytest.approx(count / 6)


def test_missing_predictions_are_no_success() -> None:
    predicted, true = north([0.5, 0.5])
    predicted[0] = torch.nan
    assert accuracy_within_km(predicted, true, 1).item() == 0.5


@pytest.mark.parametrize("count", [1, 4, 5])
def test_median_is_the_lower_of_two(count: int) -> None:
    predicted, true = uniform(2 * count).chunk(2)
    wanted = sorted(great_circle_km(predicted, true).tolist())[(count - 1) // 2]
    assert median_error_km(predicted, true).item() == pytest.approx(wanted)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan])
def test_refuses(radius: float) -> None:
    with pytest.raises(ValueError, match=f"radius_km above 0, got {radius}"):
        accuracy_within_km(torch.zeros(1, 2), torch.zeros(1, 2), radius)
