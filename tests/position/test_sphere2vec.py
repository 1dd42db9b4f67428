"""The Sphere2Vec family against the printed formulas."""

import mpmath
import pytest
import torch
from reference import Number, places, radians, radii, sphere, table

import geoenc
from geoenc.coordinates import to_xyz

VARIANTS = {
    geoenc.Sphere2VecC: "C",
    geoenc.Sphere2VecCPlus: "C+",
    geoenc.Sphere2VecM: "M",
    geoenc.Sphere2VecMPlus: "M+",
}


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize(
    ("num", "low", "high"), [(1, 1.0, 1.0), (5, 0.05, 1.0), (3, 1.0, 360.0), (2, 0.7, 0.7)]
)
def test_formula(cls: type, num: int, low: float, high: float) -> None:
    encoder = cls(num, min_radius=low, max_radius=high).double()
    wanted = table(places(), sphere, radii(num, low, high), VARIANTS[cls])
    assert encoder.out_features == wanted.shape[1] == len(cls.columns) * num
    assert (encoder(places()) - wanted).abs().max() < 1e-13


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize("low", [1e-4, 1e-5, 1e-6])
def test_fine_scales_survive_float32(cls: type, low: float) -> None:
    encoder = cls(6, min_radius=low)
    wanted = table(places(), sphere, radii(6, low, 1.0), VARIANTS[cls])
    got = encoder(places())
    assert got.dtype == torch.float32
    assert (got - wanted).abs().max() < 1e-6


def test_radius_one_is_the_unit_vector() -> None:
    code = geoenc.Sphere2VecC(1, min_radius=1.0).double()(places())
    assert torch.allclose(code[:, [1, 2, 0]], to_xyz(places()), atol=1e-14)


def dfs(lon: Number, lat: Number, scales: list[Number]) -> list[Number]:
    lon, lat = radians(lon), radians(lat)
    sin, cos = mpmath.sin, mpmath.cos
    east = [f(lon / r) for f in (sin, cos) for r in scales]
    north = [f(lat / r) for f in (sin, cos) for r in scales]
    grid = [f(c / r) for r in scales for c in (lat, lon) for f in (sin, cos)]
    return [a * b for a in east for b in north] + grid


@pytest.mark.parametrize(("num", "low"), [(1, 1.0), (4, 0.01), (3, 1e-5)])
def test_double_fourier_formula(num: int, low: float) -> None:
    encoder = geoenc.Sphere2VecDFS(num, min_radius=low).double()
    wanted = table(places(), dfs, radii(num, low, 1.0))
    assert encoder.out_features == wanted.shape[1] == 4 * num**2 + 4 * num
    assert (encoder(places()) - wanted).abs().max() < 1e-15 / low + 1e-14
    assert (encoder.float()(places()) - wanted).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("low", "num", "antimeridian", "poles"),
    [
        (1 / 64, 7, True, False),
        (1 / 9, 3, True, True),
        (0.3, 4, False, False),
        (1.0, 1, True, True),
    ],
)
def test_wrapping_depends_on_the_scales(
    low: float, num: int, antimeridian: bool, poles: bool
) -> None:
    """1 / r whole: no jump at the antimeridian; 1 / r odd: cos(90 / r) = 0, one code at a pole."""
    for cls in (*VARIANTS, geoenc.Sphere2VecDFS):
        encoder = cls(num, min_radius=low)
        assert encoder.wraps_antimeridian is antimeridian
        single = cls in (geoenc.Sphere2VecC, geoenc.Sphere2VecM)
        assert encoder.wraps_poles is (poles and single)


@pytest.mark.parametrize("cls", VARIANTS)
def test_wavelengths(cls: type) -> None:
    encoder = cls(3, min_radius=0.01, max_radius=0.25).double()
    assert encoder.wavelengths.tolist() == pytest.approx([3.6, 18.0, 90.0])


def test_whole_frequencies_join_at_the_antimeridian() -> None:
    encoder = geoenc.Sphere2VecMPlus(7, min_radius=1 / 64).double()
    lat = torch.linspace(-90, 90, 19, dtype=torch.float64)
    west = encoder(torch.stack([torch.full_like(lat, -180), lat], -1))
    east = encoder(torch.stack([torch.full_like(lat, 180), lat], -1))
    assert (west - east).abs().max() < 1e-11


@pytest.mark.parametrize("cls", VARIANTS)
def test_refuses(cls: type) -> None:
    with pytest.raises(ValueError, match="num_frequencies as an integer of at least 1, got -3"):
        cls(-3)
    with pytest.raises(ValueError, match="0 < min_radius <= max_radius, got min_radius=2"):
        cls(4, min_radius=2)
