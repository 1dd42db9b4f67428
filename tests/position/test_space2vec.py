"""Space2VecGrid and Space2VecTheory against the printed formulas."""

import math

import pytest
import torch
from reference import grid, places, radii, table, theory

import geoenc

FORMULAS = {geoenc.Space2VecGrid: grid, geoenc.Space2VecTheory: theory}


@pytest.mark.parametrize("cls", FORMULAS)
@pytest.mark.parametrize(
    ("num", "low", "high"), [(1, 0.5, 360.0), (2, 1.0, 10.0), (7, 0.1, 360.0), (3, 5.0, 5.0)]
)
def test_formula(cls: type, num: int, low: float, high: float) -> None:
    encoder = cls(num, min_radius=low, max_radius=high).double()
    wanted = table(places(), FORMULAS[cls], radii(num, low, high))
    assert encoder.out_features == wanted.shape[1]
    assert (encoder(places()) - wanted).abs().max() < 2e-12


@pytest.mark.parametrize("cls", FORMULAS)
@pytest.mark.parametrize("low", [1e-4, 1e-5, 1e-6])
def test_fine_scales_survive_float32(cls: type, low: float) -> None:
    """With float32 phases the error would be 0.1 to 2 here."""
    encoder = cls(6, min_radius=low, max_radius=360.0)
    wanted = table(places(), FORMULAS[cls], radii(6, low, 360.0))
    got = encoder(places())
    assert got.dtype == torch.float32
    assert (got - wanted).abs().max() < 1e-6


def test_grid_at_a_known_place() -> None:
    """Arguments of the first columns: degrees over 0.1, then over 0.1302."""
    code = geoenc.Space2VecGrid(32).double()(torch.tensor([12.3, 45.6], dtype=torch.float64))
    assert code.shape == (128,)
    step = (360 / 0.1) ** (-1 / 31)
    wanted = [math.sin(123), math.cos(123), math.sin(123 * step), math.cos(123 * step)]
    assert code[:4].tolist() == pytest.approx(wanted, abs=1e-9)
    assert code[64:66].tolist() == pytest.approx([math.sin(456), math.cos(456)], abs=1e-9)
    assert step == pytest.approx(0.767857, abs=1e-6)


@pytest.mark.parametrize("cls", FORMULAS)
def test_wavelengths(cls: type) -> None:
    """A step of one wavelength along the first direction repeats the columns of that scale."""
    encoder = cls(4, min_radius=0.5, max_radius=50.0).double()
    assert encoder.wavelengths.tolist() == pytest.approx(
        [2 * math.pi * float(r) for r in radii(4, 0.5, 50.0)], rel=1e-12
    )
    start = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for scale, wavelength in enumerate(encoder.wavelengths):
        step = torch.stack([wavelength, torch.zeros_like(wavelength)])
        before, after = encoder(start), encoder(start + step)
        if cls is geoenc.Space2VecGrid:
            columns = slice(2 * scale, 2 * scale + 2)
        else:
            columns = slice(6 * scale, 6 * scale + 2)
        assert torch.allclose(before[columns], after[columns], atol=1e-10)


def test_theory_directions_sum_to_zero() -> None:
    """The three phases of a scale cancel: their projections are 120 degrees apart."""
    code = geoenc.Space2VecTheory(3, min_radius=100.0).double()(places())
    phase = torch.atan2(code[:, 0::2], code[:, 1::2]).unflatten(-1, (3, 3)).sum(-1)
    turns = phase / (2 * math.pi)
    assert (turns - turns.round()).abs().max() < 1e-10


@pytest.mark.parametrize("cls", FORMULAS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_frequencies": 0}, "num_frequencies as an integer of at least 1, got 0"),
        ({"min_radius": 0.0}, "got min_radius=0.0"),
        ({"min_radius": 2.0, "max_radius": 1.0}, "min_radius=2.0, max_radius=1.0"),
    ],
)
def test_refuses(cls: type, arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cls(**arguments)
