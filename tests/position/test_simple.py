"""Direct, Wrap and XYZ, and what the base class does for all of them."""

import copy
import math

import pytest
import torch
from reference import places
from torch import Tensor

import geoenc
from geoenc.component import Component


@pytest.mark.parametrize("extent", [(-180.0, 180.0, -90.0, 90.0), (-162, -59, 20, 56)])
def test_direct(extent: tuple[float, float, float, float]) -> None:
    west, east, south, north = extent
    code = geoenc.Direct(extent).double()(places())
    for (lon, lat), got in zip(places().tolist(), code.tolist(), strict=True):
        x = -1 + 2 * (lon - west) / (east - west)
        y = -1 + 2 * (lat - south) / (north - south)
        assert got == pytest.approx([x, y], abs=1e-12)


def test_direct_maps_corners_to_corners() -> None:
    corners = torch.tensor([(-10.0, 40.0), (30.0, 40.0), (-10.0, 70.0), (30.0, 70.0)])
    code = geoenc.Direct((-10, 30, 40, 70))(corners)
    assert code.tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]


@pytest.mark.parametrize(
    "extent", [(180, -180, -90, 90), (-180, 180, 0, 0), (0, 1, 0), (math.nan, 1, 0, 1)]
)
def test_direct_refuses(extent: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="west < east and south < north, got") as caught:
        geoenc.Direct(extent)
    assert str(extent) in str(caught.value)


@pytest.mark.parametrize("period", [180.0, 360.0, 90])
def test_wrap(period: float) -> None:
    encoder = geoenc.Wrap(period).double()
    for (lon, lat), got in zip(places().tolist(), encoder(places()).tolist(), strict=True):
        a, b = 2 * math.pi * lon / 360, 2 * math.pi * lat / period
        assert got == pytest.approx([math.sin(a), math.sin(b), math.cos(a), math.cos(b)], abs=1e-14)
    assert encoder.wavelengths.tolist() == [360, period]


def test_wrap_confuses_the_poles_only_with_the_published_period() -> None:
    poles = torch.tensor([(10.0, 90.0), (10.0, -90.0)], dtype=torch.float64)
    north, south = geoenc.Wrap().double()(poles)
    assert torch.allclose(north, south, atol=1e-14)
    north, south = geoenc.Wrap(360.0).double()(poles)
    assert (north - south).abs().max() > 1.9


def test_wrap_refuses() -> None:
    for period in (0, -180.0, math.nan):
        with pytest.raises(ValueError, match=f"above 0 degrees, got {period}"):
            geoenc.Wrap(period)


def test_xyz() -> None:
    code = geoenc.XYZ().double()(places())
    for (lon, lat), got in zip(places().tolist(), code.tolist(), strict=True):
        a, b = math.radians(lon), math.radians(lat)
        wanted = [math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)]
        assert got == pytest.approx(wanted, abs=1e-15)
    assert torch.allclose(code.norm(dim=1), torch.ones(len(code), dtype=torch.float64))


# --- the base class -----------------------------------------------------------------------------


class _Buffered(geoenc.PositionEncoder):
    def __init__(self) -> None:
        super().__init__(out_features=2)
        self.register_buffer("scale", torch.tensor([1.0, 1 / 3], dtype=torch.float64))
        self.register_buffer("order", torch.tensor([1, 0]))
        self.seen: torch.dtype | None = None

    def encode(self, lonlat: Tensor) -> Tensor:
        self.seen = lonlat.dtype
        return (lonlat * self.scale)[..., self.order]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_arithmetic_is_wide_and_the_output_follows_the_module(
    dtype: torch.dtype, given: torch.dtype
) -> None:
    encoder = _Buffered().to(dtype)
    code = encoder(torch.tensor([30, 60]).to(given))
    assert encoder.seen == torch.float64
    assert encoder.dtype == code.dtype == dtype
    assert code.equal(torch.tensor([20.0, 30.0]).to(dtype))
    assert encoder.scale.dtype == torch.float64
    assert encoder.scale[1].item() == 1 / 3
    assert encoder.order.dtype == torch.int64


def test_buffers_survive_moves_through_narrow_types() -> None:
    encoder = torch.nn.Sequential(_Buffered(), torch.nn.Linear(2, 2)).half().float().double()
    assert encoder[0].scale[1].item() == 1 / 3
    moved = copy.deepcopy(_Buffered()).to("meta")
    assert moved.scale.device.type == "meta"
    assert moved.scale.dtype == torch.float64


def test_subclass_writes_only_the_formula() -> None:
    assert "_Buffered" not in Component.registry
    with pytest.raises(NotImplementedError):
        geoenc.PositionEncoder(out_features=2)(torch.zeros(2))


@pytest.mark.parametrize("shape", [(128, 3), (2, 1), (3,), ()])
def test_shape_is_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 2\) in degrees, got") as caught:
        geoenc.XYZ()(torch.zeros(shape))
    assert str(shape) in str(caught.value)
    assert "stack longitude and latitude" in str(caught.value)
