"""Geometric scales, and sines of long phases, against sixty digits."""

import math
from unittest import mock

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc.fourier import check_scales, geometric, sin_cos, turns

mpmath.mp.dps = 60


@pytest.mark.parametrize(("first", "last", "num"), [(0.1, 360, 32), (1e-6, 1, 64), (5, 5, 3)])
def test_geometric_is_the_formula(first: float, last: float, num: int) -> None:
    scales = geometric(first, last, num)
    assert scales.shape == (num,)
    assert scales.dtype == torch.float64
    for s, got in enumerate(scales.tolist()):
        exact = mpmath.mpf(first) * (mpmath.mpf(last) / first) ** (mpmath.mpf(s) / (num - 1))
        assert abs(got - exact) / exact < 5e-15


def test_one_scale_is_the_first() -> None:
    """The published codes divide by zero here."""
    assert geometric(0.25, 360.0, 1).tolist() == [0.25]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(st.floats(-1e6, 1e6))
def test_sin_cos_of_long_phases(dtype: torch.dtype, turns: float) -> None:
    sin, cos = sin_cos(torch.tensor([turns], dtype=torch.float64), dtype)
    angle = 2 * mpmath.pi * mpmath.mpf(turns)
    limit = 1e-15 * (1 + abs(turns)) + (1e-7 if dtype == torch.float32 else 0)
    assert sin.dtype == cos.dtype == dtype
    assert abs(sin.item() - mpmath.sin(angle)) < limit
    assert abs(cos.item() - mpmath.cos(angle)) < limit


@given(st.floats(-1e6, 1e6))
def test_sin_cos_reduces_where_it_narrows_first(turns: float) -> None:
    """As on a GPU and in compiled graphs."""
    with mock.patch("torch.compiler.is_compiling", return_value=True):
        sin, cos = sin_cos(torch.tensor([turns], dtype=torch.float64), torch.float32)
    angle = 2 * mpmath.pi * mpmath.mpf(turns)
    assert abs(sin.item() - mpmath.sin(angle)) < 3e-7
    assert abs(cos.item() - mpmath.cos(angle)) < 3e-7


@given(st.floats(-180, 180, width=32), st.floats(1e-3, 1e4))
def test_turns_of_float32_places_carry_the_error_of_the_product(x: float, frequency: float) -> None:
    wide = torch.tensor([frequency], dtype=torch.float64)
    phase = turns(torch.tensor([x], dtype=torch.float32), wide)
    assert phase.dtype == torch.float32
    away = mpmath.mpf(x) * mpmath.mpf(frequency) - mpmath.mpf(phase.item())
    assert abs(away - mpmath.nint(away)) < 3e-7
    assert turns(torch.tensor([x], dtype=torch.float64), wide).item() == x * frequency


def test_sin_cos_has_the_slope_of_the_whole_phase() -> None:
    turns = torch.tensor([0.0, 0.1, 0.5, 3.2, -7.75], dtype=torch.float64, requires_grad=True)
    sin, cos = sin_cos(turns, torch.float64)
    for value, wanted in ((sin, 2 * math.pi * cos), (cos, -2 * math.pi * sin)):
        slope = torch.autograd.grad(value.sum(), turns, retain_graph=True)[0]
        assert torch.allclose(slope, wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0.1, 1.0), "num_frequencies as an integer of at least 1, got 0"),
        ((4, 0.0, 1.0), "0 < min_radius <= max_radius, got min_radius=0.0"),
        ((4, -1.0, 1.0), "min_radius=-1.0"),
        ((4, 2.0, 1.0), "max_radius=1.0; the smaller radius is the finer scale"),
        ((4, 1.0, math.inf), "max_radius=inf"),
        ((4, math.nan, 1.0), "min_radius=nan"),
    ],
)
def test_refuses_scales(arguments: tuple[int, float, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_scales(*arguments)
