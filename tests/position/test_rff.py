"""RFF against its formula and the Gaussian kernel that it approximates."""

import math

import numpy as np
import pytest
import torch
from reference import places
from torch import Generator, Tensor

import geoenc
from geoenc.coordinates import equal_earth, to_xyz


def coordinates(lonlat: Tensor, plane: str) -> np.ndarray:
    if plane == "degrees":
        return (lonlat / torch.tensor([180.0, 90.0], dtype=torch.float64)).numpy()
    if plane == "xyz":
        return to_xyz(lonlat).numpy()
    flat = equal_earth(lonlat)
    return (flat / equal_earth(torch.tensor([180.0, 0.0], dtype=torch.float64))[0]).numpy()


@pytest.mark.parametrize("plane", ["degrees", "xyz", "equal_earth"])
def test_formula(plane: str) -> None:
    encoder = geoenc.RFF(7, scale=20.0, plane=plane).double()
    phase = 2 * np.pi * coordinates(places(), plane) @ encoder.frequency.numpy().T
    wanted = np.concatenate([np.cos(phase), np.sin(phase)], 1)
    # the equator of the published plane is [-1, 1] to seven digits
    limit = 1e-4 if plane == "equal_earth" else 1e-11
    assert np.abs(encoder(places()).numpy() - wanted).max() < limit


def test_formula_with_shift_and_extent() -> None:
    extent = (-162.0, -59.0, 20.0, 56.0)
    encoder = geoenc.RFF(7, scale=0.5, shifted=True, extent=extent).double()
    lonlat = places().numpy()
    scaled = np.stack([2 * (lonlat[:, 0] + 162) / 103 - 1, 2 * (lonlat[:, 1] - 20) / 36 - 1], 1)
    phase = 2 * np.pi * scaled @ encoder.frequency.numpy().T + encoder.shift.numpy()
    wanted = math.sqrt(2 / 7) * np.cos(phase)
    assert np.abs(encoder(places()).numpy() - wanted).max() < 1e-12


@pytest.mark.parametrize("plane", ["degrees", "xyz", "equal_earth"])
@pytest.mark.parametrize("shifted", [False, True])
def test_inner_product_is_a_gaussian_kernel(plane: str, shifted: bool) -> None:
    """E[k] = exp(-2 (pi scale d)^2); the mean of F draws is within 5 / sqrt(F) of it."""
    num, scale = 20_000, 0.4
    encoder = geoenc.RFF(
        num, scale=scale, plane=plane, shifted=shifted, generator=Generator().manual_seed(0)
    ).double()
    lonlat = places()[:12]
    code = encoder(lonlat)
    c = coordinates(lonlat, plane)
    distance = np.linalg.norm(c[:, None] - c[None], axis=-1)
    kernel = (code @ code.T / (1 if shifted else num)).numpy()
    assert np.abs(kernel - np.exp(-2 * (math.pi * scale * distance) ** 2)).max() < 5 / num**0.5


def test_draws_come_from_the_generator_and_travel_with_the_weights() -> None:
    one = geoenc.RFF(5, generator=Generator().manual_seed(3))
    two = geoenc.RFF(5, generator=Generator().manual_seed(3))
    assert torch.equal(one.frequency, two.frequency)
    other = geoenc.RFF(5)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(places()), one(places()))
    assert "generator" not in one.config


@pytest.mark.parametrize("plane", ["degrees", "xyz", "equal_earth"])
def test_wavelengths_are_of_the_order_of_the_scale(plane: str) -> None:
    """The finest feature oscillates along its own direction with its wavelength."""
    encoder = geoenc.RFF(3, scale=30.0, plane=plane).double()
    assert encoder.wavelengths.shape == (3,)
    if plane == "degrees":
        degrees = encoder.frequency / torch.tensor([180.0, 90.0], dtype=torch.float64)
        for k, wavelength in enumerate(encoder.wavelengths):
            step = degrees[k] / degrees[k].norm() * wavelength
            before, after = encoder(torch.stack([step * 0, step]))
            assert torch.allclose(before[[k, k + 3]], after[[k, k + 3]], atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"num_features": 0}, "num_features as an integer of at least 1"),
        ({"scale": 0.0}, "scale above 0"),
        ({"scale": math.inf}, "scale above 0"),
        ({"plane": "mercator"}, "equal_earth, got 'mercator'"),
        ({"extent": (10.0, -10.0, 0.0, 1.0)}, "west < east"),
    ],
)
def test_refuses(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        geoenc.RFF(**arguments)
