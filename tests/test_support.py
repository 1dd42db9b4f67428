"""Support against its sum over all pairs, and what a map hides."""

import math

import pytest
import torch

from geoenc.coordinates import great_circle_km
from geoenc.sampling import lattice, uniform
from geoenc.support import kernel_blocks, support, support_map


def slow_support(train: torch.Tensor, lonlat: torch.Tensor, bandwidth_km: float) -> torch.Tensor:
    """Every pair, with the kernel cut at four bandwidths."""
    distance = great_circle_km(lonlat[:, None], train)
    return ((-((distance / bandwidth_km) ** 2) / 2).exp() * (distance <= 4 * bandwidth_km)).sum(1)


@pytest.mark.parametrize("bandwidth_km", [1.0, 300.0, 4000.0, 1e6, math.inf])
def test_support_is_the_sum_over_all_pairs(bandwidth_km: float) -> None:
    train, places = uniform(400), torch.cat([uniform(300), torch.tensor([[180.0, 3], [5, -90]])])
    train = torch.cat([train, places[:20], torch.tensor([[-180.0, 3], [77, -90]])])
    found = support(train, places, bandwidth_km=bandwidth_km)
    torch.testing.assert_close(found, slow_support(train, places, bandwidth_km))


def test_support_keeps_shape_and_missing_places() -> None:
    train = torch.tensor([[0.0, 0.0], [math.nan, math.nan]], dtype=torch.float64)
    found = support(train, torch.tensor([[[0.0, 0.0], [math.nan, 0.0]], [[90, 0], [0, 90]]]))
    assert found.shape == (2, 2)
    assert found[0, 0] == 1
    assert found[0, 1].isnan()
    assert (found[1] == 0).all()
    assert support(train[1:], train).nan_to_num(5).tolist() == [0, 5]
    assert support(train, torch.empty(0, 2)).shape == (0,)


def test_blocks_see_only_what_is_near() -> None:
    """The work grows with the neighbours, not with all pairs."""
    train, places = uniform(5000), uniform(5000)
    entries = sum(weight.size for _, _, weight in kernel_blocks(train, places, 50.0))
    assert entries < 0.1 * 5000 * 5000


def test_bandwidth_must_be_positive() -> None:
    with pytest.raises(ValueError, match="expected bandwidth_km above 0, got 0"):
        support([(0, 0)], [(0, 0)], bandwidth_km=0)


def test_map_is_grey_where_support_is_poor() -> None:
    pytest.importorskip("matplotlib")
    train = torch.tensor([[10.0, 50.0]], dtype=torch.float64)
    height = 36
    here = support(train, lattice(height), bandwidth_km=2000) >= 0.5
    for values in (None, torch.ones(height, 2 * height)):
        ax = support_map(train, values, threshold=0.5, bandwidth_km=2000, height=height)
        grey, coloured = (
            ~torch.from_numpy(mesh.get_array().mask).reshape(height, -1) for mesh in ax.collections
            if hasattr(mesh, "get_coordinates")
        )  # fmt: skip
        assert torch.equal(coloured, here)
        assert torch.equal(grey, ~here)
