"""NeRF against its formula in sixty digits, and what its doubling frequencies imply."""

import mpmath
import pytest
import torch
from reference import Number, places, radians, table

import geoenc


def nerf(lon: Number, lat: Number, num: int) -> list[Number]:
    lon, lat = radians(lon), radians(lat)
    xyz = (mpmath.cos(lat) * mpmath.cos(lon), mpmath.cos(lat) * mpmath.sin(lon), mpmath.sin(lat))
    return [
        f(2**k * mpmath.pi * c) for f in (mpmath.sin, mpmath.cos) for c in xyz for k in range(num)
    ]


@pytest.mark.parametrize("num", [1, 6, 16])
def test_formula(num: int) -> None:
    encoder = geoenc.NeRF(num).double()
    wanted = table(places(), nerf, num)
    assert encoder.out_features == wanted.shape[1]
    # the unit vector is rounded at 1e-16 before it is multiplied by 2^(num - 1) pi
    assert (encoder(places()) - wanted).abs().max() < 1e-15 * 2**num + 1e-15


def test_float32_module_keeps_fine_scales() -> None:
    assert (geoenc.NeRF(20)(places()) - table(places(), nerf, 20)).abs().max() < 1e-6


def test_both_poles_have_one_code() -> None:
    """Every wave fits a whole number of times between -1 and 1: not an injective code."""
    poles = torch.tensor([[0.0, 90.0], [0.0, -90.0]], dtype=torch.float64)
    north, south = geoenc.NeRF(8).double()(poles)
    assert torch.allclose(north, south, atol=1e-9)


def test_wavelengths() -> None:
    """2^k pi c repeats after 2^(1 - k) of the unit vector."""
    assert torch.allclose(
        torch.deg2rad(geoenc.NeRF(4).wavelengths), torch.tensor([2, 1, 0.5, 0.25]).double()
    )


@pytest.mark.parametrize("num", [0, -1, 31])
def test_refuses(num: int) -> None:
    with pytest.raises(
        ValueError, match=r"expected num_frequencies (as an integer )?of at .*, got"
    ):
        geoenc.NeRF(num)
