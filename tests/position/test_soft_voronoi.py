"""SoftVoronoi against the formula written out for one place at a time."""

import numpy as np
import pytest
import torch
from reference import places
from scipy.spatial import cKDTree

import geoenc


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def shaken(encoder: geoenc.SoftVoronoi) -> dict[str, np.ndarray]:
    """Moves every parameter away from where it starts."""
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
            if key == "log_tau":
                parameter.mul_(2).clamp_(-2, 8)
    return {key: value.detach().numpy() for key, value in encoder.double().named_parameters()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attention", ["linear", "cosine"])
@pytest.mark.parametrize("site_features", [5, 7])
@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
def test_soft_voronoi(gate: float, site_features: int, attention: str, training: bool) -> None:
    encoder = geoenc.SoftVoronoi(
        7, 11, site_features=site_features, num_tokens=4, gate=gate, attention=attention
    )
    p = shaken(encoder.train(training))
    assert ("projection.weight" in p) == (site_features != 7)
    tau = np.exp(np.clip(p["log_tau"], -0.7, 6.2) if training else p["log_tau"])
    for lonlat, code in zip(places(), encoder(places()), strict=True):
        x = geoenc.coordinates.to_xyz(lonlat).numpy()
        w = softmax(tau * (unit(p["sites"]) @ x))
        e = w @ p["embeddings"]
        if attention == "cosine":
            scores = unit(p["to_tokens.weight"]) @ unit(e)
        else:
            scores = p["to_tokens.weight"] @ e + p["to_tokens.bias"]
        tokens = softmax(scores / np.clip(np.exp(p["log_temperature"]), 0.01, 10)) @ p["tokens"]
        if site_features != 7:
            e = p["projection.weight"] @ e + p["projection.bias"]
        y = (1 - gate) * e + gate * tokens
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-5) * p["norm.weight"] + p["norm.bias"]
        assert np.abs(code.detach().numpy() - y).max() < 1e-12


def test_sharp_cells_are_those_of_the_nearest_site() -> None:
    encoder = geoenc.SoftVoronoi(4, 30, site_features=3, num_tokens=2).double()
    encoder.log_tau.data.fill_(100.0)  # in training as 6.2: tau = 493
    lonlat = geoenc.sampling.uniform(300)
    membership = encoder.membership(lonlat)
    assert torch.allclose(encoder.membership(lonlat.float()), membership, atol=1e-4)
    assert torch.allclose(membership.sum(-1), torch.ones(300, dtype=torch.float64))
    tree = cKDTree(encoder.sites.detach().numpy())
    nearest = tree.query(geoenc.coordinates.to_xyz(lonlat).numpy())[1]
    assert membership.argmax(-1).tolist() == nearest.tolist()
    assert membership.amax(-1).median() > 0.999


def test_length_of_sites_does_not_matter() -> None:
    encoder = geoenc.SoftVoronoi(4, 30, site_features=3, num_tokens=2).double()
    before = encoder(places())
    encoder.sites.data.mul_(5)
    assert torch.allclose(encoder(places()), before, atol=1e-12)


def test_starts_as_published() -> None:
    encoder = geoenc.SoftVoronoi(32, 50, num_tokens=20, generator=torch.Generator().manual_seed(1))
    sites = geoenc.coordinates.to_xyz(geoenc.sampling.fibonacci(50))
    assert torch.allclose(encoder.sites.double(), sites, atol=1e-7)
    assert torch.allclose(encoder.log_tau.exp(), torch.tensor(45.0))
    assert encoder.embeddings.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.allclose(encoder.tokens @ encoder.tokens.T, torch.eye(20), atol=1e-6)
    assert encoder.to_tokens.weight.std().item() == pytest.approx(0.1, rel=0.05)
    again = geoenc.SoftVoronoi(32, 50, num_tokens=20, generator=torch.Generator().manual_seed(1))
    for one, other in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_fit_takes_sites_from_places() -> None:
    lonlat = geoenc.sampling.uniform(12)
    encoder = geoenc.SoftVoronoi(4, 12, site_features=3, num_tokens=2)
    assert encoder.fit(lonlat, generator=torch.Generator().manual_seed(1)) is encoder
    distances = torch.cdist(encoder.sites.detach().double(), geoenc.coordinates.to_xyz(lonlat))
    assert distances.amin(0).max() < 1e-6
    assert encoder.sites.requires_grad


def test_soft_voronoi_refuses() -> None:
    for counts in ((0, 4, 3, 2), (4, 0, 3, 2), (4, 4, 0, 2), (4, 4, 3, 0)):
        width, sites, features, tokens = counts
        with pytest.raises(ValueError, match=f"of at least 1, got \\({width}, {sites}"):
            geoenc.SoftVoronoi(width, sites, site_features=features, num_tokens=tokens)
    with pytest.raises(ValueError, match="at most 268,435,456 numbers"):
        geoenc.SoftVoronoi(4, 10**6)
    with pytest.raises(ValueError, match="gate from 0 to 1, got 2"):
        geoenc.SoftVoronoi(4, 4, gate=2)
    with pytest.raises(ValueError, match=r"attention to be one of .*, got 'dot'"):
        geoenc.SoftVoronoi(4, 4, attention="dot")
