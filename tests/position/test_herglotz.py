"""Herglotz against the complex series that it is the real part of."""

import math

import numpy as np
import pytest
import torch
from reference import places
from scipy.spatial.transform import Rotation

import geoenc


def test_atoms_are_sums_of_harmonics_of_all_degrees() -> None:
    """sum_l (2 l + 1) r^l (c . x)^l / l! with c = a + i b, so that c . c = 0: each is harmonic."""
    encoder = geoenc.Herglotz(5, 6).double()
    a, b = encoder.directions.numpy()
    r = np.logaddexp(0, encoder.sigma.detach().numpy())
    xyz = geoenc.coordinates.to_xyz(places()).numpy()
    z = xyz @ (a + 1j * b).T
    assert np.abs(((a + 1j * b) ** 2).sum(1)).max() < 1e-15
    series = sum((2 * n + 1) * (r * z) ** n / float(math.factorial(n)) for n in range(60))
    wanted = np.exp(-r) * series.real / (1 + 2 * 6)
    assert np.abs(encoder(places()).detach().numpy() - wanted).max() < 1e-13


def test_directions_are_orthonormal_fixed_and_drawn_again_from_the_seed() -> None:
    encoder = geoenc.Herglotz(40, 3, generator=torch.Generator().manual_seed(2))
    a, b = encoder.directions
    assert encoder.directions.dtype == torch.float64
    for product, wanted in (((a * a), 1), ((b * b), 1), ((a * b), 0)):
        assert (product.sum(-1) - wanted).abs().max() < 1e-14
    again = geoenc.Herglotz(40, 3, generator=torch.Generator().manual_seed(2))
    assert torch.equal(again.directions, encoder.directions)
    assert torch.equal(again.sigma, encoder.sigma)
    assert 0 <= encoder.sigma.min() < encoder.sigma.max() <= 3
    assert {key for key, _ in encoder.named_parameters()} == {"sigma"}


def test_rotation_starts_as_the_identity() -> None:
    plain, turned = (
        geoenc.Herglotz(6, rotation=rotation, generator=torch.Generator().manual_seed(0))
        for rotation in (False, True)
    )
    assert torch.equal(plain(places()), turned(places()))


def test_rotation_turns_the_directions() -> None:
    encoder = geoenc.Herglotz(6, rotation=True).double()
    assert encoder.quaternion is not None
    encoder.quaternion.data.normal_()
    w_last = encoder.quaternion.detach().roll(-1, -1).numpy()
    turned = geoenc.Herglotz(6).double()
    state = [Rotation.from_quat(w_last).apply(one.numpy()) for one in encoder.directions]
    turned.load_state_dict(
        {"sigma": encoder.sigma, "directions": torch.from_numpy(np.stack(state))}
    )
    assert torch.allclose(encoder(places()), turned(places()), atol=1e-14)


def test_everything_trained_has_a_gradient() -> None:
    encoder = geoenc.Herglotz(6, rotation=True)
    encoder(places()).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


def test_herglotz_refuses() -> None:
    with pytest.raises(ValueError, match="num_atoms of at least 1, got 0"):
        geoenc.Herglotz(0)
    with pytest.raises(ValueError, match="degree of at least 0, got -1"):
        geoenc.Herglotz(4, -1)
