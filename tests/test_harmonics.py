"""Harmonics against sixty digits, exact quadrature, and what defines them; fast against plain."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf
from torch import Tensor

from geoenc import sampling
from geoenc.coordinates import to_xyz
from geoenc.harmonics import Recurrence, _formula, block_rows, spherical_harmonics

PLACES = torch.tensor(
    [(0.0, 0.0), (30.0, 45.0), (-122.27, 37.87), (17.0, 89.9), (-3.0, -88.0), (180.0, -61.5)],
    dtype=torch.float64,
)
POLES = torch.tensor([(lon, lat) for lat in (90.0, -90.0) for lon in (-180.0, 0.0, 77.0)]).double()


def exact(xyz: Tensor, degree: int) -> Tensor:
    """N P(l, |m|)(z) with cosines or sines: Legendre functions by order, factorials, 60 digits.

    The point is the one that the library sees, brought to the unit sphere: rounding of its
    coordinates would cost 1e-14 at degree 100.
    """
    table = torch.empty(len(xyz), (degree + 1) ** 2, dtype=torch.float64)
    with mpmath.workdps(60):
        for row, point in enumerate(xyz.tolist()):
            x, y, z = (mpf(one) for one in point)
            length = mpmath.sqrt(x * x + y * y + z * z)
            z, s, lon = z / length, mpmath.hypot(x, y) / length, mpmath.atan2(y, x)
            for m in range(degree + 1):
                before, value = mpf(0), mpmath.fac2(2 * m - 1) * s**m
                cosine, sine = mpmath.cos(m * lon), mpmath.sin(m * lon)
                for level in range(m, degree + 1):
                    if level > m:
                        step = (2 * level - 1) * z * value - (level + m - 1) * before
                        before, value = value, step / (level - m)
                    norm = (2 * level + 1) / (4 * mpmath.pi) * (2 if m else 1)
                    norm *= mpmath.fac(level - m) / mpmath.fac(level + m)
                    scaled = mpmath.sqrt(norm) * value
                    table[row, level * level + level + m] = float(scaled * cosine)
                    if m:
                        table[row, level * level + level - m] = float(scaled * sine)
    return table


@pytest.mark.parametrize(("degree", "error"), [(0, 1e-16), (1, 1e-15), (40, 1e-13), (100, 1e-12)])
def test_against_sixty_digits(degree: int, error: float) -> None:
    xyz = to_xyz(torch.cat([PLACES, POLES[1:5:3]]))
    wanted = exact(xyz, degree)
    got = spherical_harmonics(xyz, degree)
    assert (got - wanted).abs().max() < error
    narrow = spherical_harmonics(xyz, degree, dtype=torch.float32)
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, got.float())


@pytest.mark.parametrize(("degree", "error"), [(10, 1e-5), (40, 1e-4), (100, 1e-3)])
def test_float32_arithmetic_is_as_good_as_stated(degree: int, error: float) -> None:
    """For devices without float64."""
    xyz = to_xyz(torch.cat([sampling.fibonacci(300), PLACES, POLES]))
    wanted = spherical_harmonics(xyz, degree)
    got = spherical_harmonics(xyz.float(), degree)
    assert got.dtype == torch.float32
    assert (got - wanted).abs().max() < error


@pytest.mark.parametrize("degree", [0, 3, 20, 100])
def test_orthonormal_under_exact_quadrature(degree: int) -> None:
    """Gauss-Legendre nodes in z and equal steps in longitude are exact for all products.

    On a circle of latitude a column is its own wave of the longitude and no other, so columns of
    unlike m are orthogonal there. What is left are products of two columns of the same m.
    """
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    m = torch.arange(-degree, degree + 1)
    lon = 2 * math.pi * torch.arange(len(m), dtype=torch.float64) / len(m)
    waves = torch.where(m[:, None] < 0, (m.abs()[:, None] * lon).sin(), (m[:, None] * lon).cos())
    waves *= math.sqrt(2 * math.pi) / len(m) * math.sqrt(2) ** (m != 0).double()[:, None]
    assert (waves @ waves.T * len(m) / (2 * math.pi) - torch.eye(len(m))).abs().max() < 1e-13
    order = torch.cat([torch.arange(-level, level + 1) for level in range(degree + 1)])
    columns = torch.arange(len(order))
    own = torch.empty(degree + 1, len(order), dtype=torch.float64)
    for row, (z, weight) in enumerate(zip(nodes.tolist(), weights.tolist(), strict=True)):
        s = math.sqrt(1 - z * z)
        xyz = torch.stack([s * lon.cos(), s * lon.sin(), torch.full_like(lon, z)], -1)
        parts = waves @ spherical_harmonics(xyz, degree)
        own[row] = parts[order + degree, columns] * math.sqrt(weight)
        parts[order + degree, columns] = 0
        assert parts.abs().max() < 1e-12
    for one in m:
        chosen = own[:, order == one]
        assert (chosen.T @ chosen - torch.eye(chosen.shape[1])).abs().max() < 1e-10


def test_addition_theorem() -> None:
    """The inner product of degree l is (2 l + 1) / (4 pi) P(l)(cos of the angle)."""
    degree = 60
    xyz = to_xyz(torch.cat([sampling.fibonacci(20), PLACES, POLES]))
    y = spherical_harmonics(xyz, degree)
    cosine = (xyz @ xyz.T).clamp(-1, 1)
    last, legendre = torch.zeros_like(cosine), torch.ones_like(cosine)
    for level in range(degree + 1):
        band = y[:, level * level : (level + 1) ** 2]
        assert (band @ band.T - (2 * level + 1) / (4 * math.pi) * legendre).abs().max() < 1e-11
        step = ((2 * level + 1) * cosine * legendre - level * last) / (level + 1)
        last, legendre = legendre, step


def test_rotation_mixes_orders_but_not_degrees() -> None:
    """Coefficients of a function on the sphere: turning it keeps the power of each degree."""
    degree = 12
    xyz = to_xyz(sampling.fibonacci(5))
    weight = torch.randn(5, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    before = weight @ spherical_harmonics(xyz, degree)
    after = weight @ spherical_harmonics(xyz @ rotation, degree)
    assert (before - after).abs().max() > 0.1
    for level in range(degree + 1):
        band = slice(level * level, (level + 1) ** 2)
        assert before[band].norm() == pytest.approx(after[band].norm().item(), rel=1e-11)


def test_parity_and_signs() -> None:
    xyz = to_xyz(PLACES)
    y = spherical_harmonics(xyz, 1)
    assert torch.allclose(y[:, 1:], math.sqrt(3 / (4 * math.pi)) * xyz[:, [1, 2, 0]], atol=1e-15)
    degree = 7
    sign = torch.cat([(-torch.ones(2 * k + 1)) ** k for k in range(degree + 1)]).double()
    there = spherical_harmonics(-xyz, degree)
    assert torch.allclose(there, sign * spherical_harmonics(xyz, degree), atol=1e-14)


# --- the fast way and the plain one ---------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 17])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (1100,)])
def test_fast_equals_plain(degree: int, shape: tuple[int, ...]) -> None:
    xyz = torch.nn.functional.normalize(torch.randn(*shape, 3, dtype=torch.float64), dim=-1)
    leaves = [xyz.clone().requires_grad_() for _ in range(2)]
    values = [
        function(leaf, degree)
        for function, leaf in zip((spherical_harmonics, _formula), leaves, strict=True)
    ]
    assert values[0].shape == values[1].shape == (*shape, (degree + 1) ** 2)
    assert torch.allclose(*values, rtol=0, atol=1e-13)
    weight = torch.randn_like(values[0])
    slopes = [
        torch.autograd.grad((value * weight).sum(), leaf)[0]
        for value, leaf in zip(values, leaves, strict=True)
    ]
    assert torch.allclose(*slopes, rtol=1e-11, atol=1e-11)


def test_blocks_are_seamless() -> None:
    degree = 20
    count = 2 * block_rows(degree) + 7
    xyz = to_xyz(sampling.fibonacci(count)).requires_grad_()
    y = spherical_harmonics(xyz, degree)
    (slope,) = torch.autograd.grad(y.square().sum(), xyz)
    for rows in (slice(0, 9), slice(block_rows(degree) - 3, block_rows(degree) + 3), slice(-9, 0)):
        part = xyz[rows].detach().requires_grad_()
        alone = _formula(part, degree)
        assert torch.allclose(y[rows], alone, rtol=0, atol=1e-13)
        wanted = torch.autograd.grad(alone.square().sum(), part)[0]
        assert torch.allclose(slope[rows], wanted, rtol=1e-11, atol=1e-11)


def test_derivatives_of_every_kind() -> None:
    xyz = to_xyz(torch.cat([PLACES[:3], POLES[1:2]])).requires_grad_()

    def harmonics(xyz: Tensor) -> Tensor:
        return spherical_harmonics(xyz, 4)

    assert torch.autograd.gradcheck(harmonics, xyz, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(harmonics, xyz)
    assert torch.autograd.gradcheck(
        lambda xyz: spherical_harmonics(xyz, 3, dtype=torch.float32).double(),
        xyz,
        eps=1e-2,
        atol=1e-2,
    )


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd, torch.func.hessian])
def test_transforms(transform: Callable[..., Callable[[Tensor], Tensor]]) -> None:
    xyz = to_xyz(PLACES)

    def plain(xyz: Tensor) -> Tensor:
        return _formula(xyz, 3)

    got = torch.func.vmap(transform(lambda one: spherical_harmonics(one, 3)))(xyz)
    assert torch.allclose(got, torch.func.vmap(transform(plain))(xyz), atol=1e-13)


def test_second_derivative_solves_the_equation_of_laplace() -> None:
    """On the sphere the Laplacian of degree l is -l (l + 1) times it."""
    degree = 5

    def of_place(place: Tensor) -> Tensor:
        lon, lat = place.unbind(-1)
        xyz = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1)
        return spherical_harmonics(xyz, degree)

    place = torch.tensor([0.7, -0.4], dtype=torch.float64)
    slope = torch.func.jacrev(of_place)(place)
    bend = torch.func.hessian(of_place)(place)
    laplacian = bend[:, 1, 1] - place[1].tan() * slope[:, 1] + bend[:, 0, 0] / place[1].cos() ** 2
    levels = torch.repeat_interleave(torch.arange(6), 2 * torch.arange(6) + 1)
    assert torch.allclose(laplacian, -levels * (levels + 1) * of_place(place), atol=1e-11)


def test_gradient_of_the_gradient_reaches_what_came_before() -> None:
    """The points may themselves be computed; create_graph must not cut them off."""
    place = torch.tensor([[0.3, 0.8]], dtype=torch.float64, requires_grad=True)

    def penalty(harmonics: Callable[[Tensor, int], Tensor]) -> Tensor:
        y = harmonics(to_xyz(place.rad2deg()), 6)
        (slope,) = torch.autograd.grad(y.pow(3).sum(), place, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), place)[0]

    assert torch.allclose(penalty(spherical_harmonics), penalty(_formula), rtol=1e-10)


def test_poles_have_one_value_and_a_finite_gradient() -> None:
    poles = POLES.clone().requires_grad_()
    y = spherical_harmonics(to_xyz(poles), 100)
    for pole in (y[:3], y[3:]):
        assert (pole - pole[:1]).abs().max() < 1e-12
    slope = torch.autograd.grad(y.square().sum() + y.sum(), poles)[0]
    assert slope.isfinite().all()
    assert slope[:, 0].abs().max() < 1e-10  # nothing depends on the longitude


def test_missing_places_are_missing_in_every_column() -> None:
    xyz = to_xyz(PLACES).clone()
    xyz[2] = torch.nan
    for y in (spherical_harmonics(xyz, 3), _formula(xyz, 3)):
        assert y[2].isnan().all()
        assert not y[[0, 1, 3, 4, 5]].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_recurrence_writes_into_part_of_something_larger(dtype: torch.dtype) -> None:
    degree, rows = 6, 5
    xyz = to_xyz(sampling.fibonacci(rows)).mT.contiguous()
    larger = torch.full(((degree + 1) ** 2, rows + 2), 7.0, dtype=dtype)
    recurrence = Recurrence(degree, 8, torch.float64, xyz.device)
    for _ in range(2):
        recurrence(xyz, larger[:, 1 : 1 + rows])
    wanted = _formula(xyz.mT, degree).mT
    assert (larger[:, 1 : 1 + rows].double() - wanted).abs().max() <= torch.finfo(dtype).eps
    assert (larger[:, [0, -1]] == 7).all()
