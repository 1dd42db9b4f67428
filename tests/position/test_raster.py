"""Raster against SciPy's interpolation."""

import math

import numpy as np
import pytest
import torch
from reference import places
from scipy.ndimage import map_coordinates

import geoenc


@pytest.mark.parametrize(("height", "width"), [(9, 18), (2, 2), (40, 3)])
def test_raster(height: int, width: int) -> None:
    values = np.random.default_rng(0).normal(size=(height, width, 2)).astype(np.float32)
    raster = geoenc.Raster(2, height=height, width=width).fit(values).double()
    lon, lat = places().numpy().T
    pixels = (90 - lat) / 180 * (height - 1), (lon + 180) / 360 * (width - 1)
    for channel, got in enumerate(raster(places()).T.numpy()):
        image = values[..., channel].astype(np.float64)
        wanted = map_coordinates(image, pixels, order=1, mode="nearest")
        assert np.abs(got - wanted).max() < 1e-13


def test_a_constant_raster_has_one_value_and_a_plane_is_kept() -> None:
    lon = torch.linspace(-180, 180, 13)[None, :, None].expand(7, 13, 1)
    lat = torch.linspace(90, -90, 7)[:, None, None].expand(7, 13, 1)
    plane = torch.cat([lon, lat, torch.ones(7, 13, 1)], -1)
    code = geoenc.Raster(3, height=7, width=13).fit(plane).double()(places())
    assert torch.allclose(code[:, :2], places(), atol=1e-12)
    assert torch.allclose(code[:, 2], torch.ones(len(code), dtype=torch.float64))


def test_wrapping_depends_on_the_values() -> None:
    raster = geoenc.Raster(1, height=4, width=6)
    assert raster.wraps_antimeridian
    assert raster.wraps_poles
    values = torch.rand(4, 6, 1)
    raster.fit(values)
    assert not raster.wraps_antimeridian
    assert not raster.wraps_poles
    values[:, -1] = values[:, 0]
    assert not raster.wraps_antimeridian, "fit copies"
    assert raster.fit(values).wraps_antimeridian
    values[0] = 1.0
    values[-1] = 2.0
    assert raster.fit(values).wraps_poles


def test_missing_pixels_are_not_guessed() -> None:
    values = torch.zeros(5, 9, 1)
    values[2, 4] = torch.nan
    raster = geoenc.Raster(1, height=5, width=9).fit(values)
    code = raster(torch.tensor([(1.0, 1.0), (100.0, 1.0), (0.0, 80.0)]))[:, 0]
    assert code.isnan().tolist() == [True, False, False]


def test_values_travel_with_the_weights() -> None:
    values = torch.rand(4, 6, 2)
    first = geoenc.Raster(2, height=4, width=6).fit(values.tolist())
    again = geoenc.Raster(2, height=4, width=6)
    again.load_state_dict(first.state_dict())
    assert torch.equal(again(places()), first(places()))
    assert again.half().raster.dtype == torch.float32


def test_raster_refuses() -> None:
    for width, size in ((0, (4, 4)), (1, (1, 4)), (1, (4, 1))):
        with pytest.raises(ValueError, match="height and width of at least 2, got"):
            geoenc.Raster(width, height=size[0], width=size[1])
    with pytest.raises(ValueError, match=r"shape \(4, 6, 1\) .* got \(6, 4, 1\)"):
        geoenc.Raster(1, height=4, width=6).fit(torch.zeros(6, 4, 1))
    assert math.isnan(geoenc.Raster(1)(torch.tensor([math.nan, 0.0])).item())
