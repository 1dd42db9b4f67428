"""RBF against distances in sixty digits; anchors, and slopes where distances have none."""

import math
from typing import Any

import mpmath
import pytest
import torch
from mpmath import mpf
from reference import places, radians
from torch import Tensor

import geoenc


def arc(a: list[float], b: list[float]) -> Any:
    """Degrees along the sphere, by the law of cosines: sixty digits leave enough."""
    (lon, lat), (east, north) = ([radians(mpf(x)) for x in place] for place in (a, b))
    cosine = mpmath.sin(lat) * mpmath.sin(north) + mpmath.cos(lat) * mpmath.cos(north) * mpmath.cos(
        lon - east
    )
    return mpmath.degrees(mpmath.acos(max(min(cosine, 1), -1)))


@pytest.mark.parametrize("bandwidth", [2.0, 40.0])
@pytest.mark.parametrize("distance", ["planar", "great_circle"])
def test_rbf(distance: str, bandwidth: float) -> None:
    rbf = geoenc.RBF(9, bandwidth, distance=distance).double()
    lonlat = torch.cat([places(), rbf.anchors, rbf.anchors + 1e-7])
    for place, code in zip(lonlat.tolist(), rbf(lonlat).tolist(), strict=True):
        for anchor, value in zip(rbf.anchors.tolist(), code, strict=True):
            d = math.dist(place, anchor) if distance == "planar" else arc(place, anchor)
            wanted = float(mpmath.exp(-((mpf(d) / bandwidth) ** 2) / 2))
            assert value == pytest.approx(wanted, abs=1e-12)


def test_float32_loses_nothing_but_digits() -> None:
    for distance in ("planar", "great_circle"):
        for bandwidth in (0.001, 5.0, 100.0):
            rbf = geoenc.RBF(50, bandwidth, distance=distance)
            near = rbf.anchors + bandwidth * torch.randn(50, 2, dtype=torch.float64)
            lonlat = torch.cat([geoenc.sampling.uniform(200), near.clamp(-90, 90)])
            narrow = rbf(lonlat)
            assert narrow.dtype == torch.float32
            assert (narrow - rbf.double()(lonlat)).abs().max() < 3e-7


def test_values_far_away_leave_room_for_small_weights() -> None:
    code = geoenc.RBF(100, 0.5)(geoenc.sampling.uniform(500))
    assert code.min() * 1e-16 >= torch.finfo(torch.float32).tiny
    assert code.min() < 1e-17


@pytest.mark.parametrize("distance", ["planar", "great_circle"])
@pytest.mark.parametrize("bandwidth", [3.0, 90.0])
def test_gradient_is_finite_at_the_anchor_and_its_antipode(distance: str, bandwidth: float) -> None:
    rbf = geoenc.RBF(4, bandwidth, distance=distance).double()
    anchors = torch.tensor([(10.0, 20.0), (0.0, 90.0), (-180.0, 0.0), (0.0, 0.0)]).double()
    rbf.load_state_dict({"anchors": anchors})
    antipodes = torch.stack([anchors[:, 0] + 180, -anchors[:, 1]], -1)
    for lonlat in (anchors, antipodes):
        for jacobian in (torch.func.jacrev, torch.func.jacfwd):
            slopes = torch.func.vmap(jacobian(rbf))(lonlat)
            assert slopes.isfinite().all()
            assert slopes.abs().max() < 1 / bandwidth
    at_anchor = torch.func.vmap(torch.func.jacrev(rbf))(anchors)
    assert at_anchor[range(4), range(4)].abs().max() < 1e-12


def test_great_circle_gradient_near_the_anchor_and_the_antipode() -> None:
    rbf = geoenc.RBF(1, 60.0, distance="great_circle").double()
    rbf.load_state_dict({"anchors": torch.tensor([(10.0, 20.0)]).double()})
    for distance in (1e-7, 1e-3, 1.0, 100.0, 179.0, 179.999):
        lonlat = torch.tensor([10.0, 20.0 + distance], dtype=torch.float64)  # over the pole
        slope = torch.func.jacrev(rbf)(lonlat)[0, 1].item()
        wanted = -distance / 60**2 * math.exp(-((distance / 60) ** 2) / 2)
        assert slope == pytest.approx(wanted, rel=1e-5, abs=0)


def test_only_the_great_circle_wraps() -> None:
    assert not geoenc.RBF(2).wraps_antimeridian
    assert not geoenc.RBF(2).wraps_poles
    assert geoenc.RBF(2, distance="great_circle").wraps_antimeridian
    assert geoenc.RBF(2, distance="great_circle").wraps_poles


def rows(lonlat: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in lonlat.tolist()}


def test_fit_draws_without_replacement() -> None:
    lonlat = geoenc.sampling.uniform(50)
    rbf = geoenc.RBF(20)
    assert rbf.fit(lonlat, generator=torch.Generator().manual_seed(1)) is rbf
    assert len(rows(rbf.anchors)) == 20
    assert rows(rbf.anchors) <= rows(lonlat)
    again = geoenc.RBF(20).fit(lonlat, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.anchors, rbf.anchors)
    assert rows(geoenc.RBF(50).fit(lonlat).anchors) == rows(lonlat)


def test_fit_draws_with_replacement_from_few_places() -> None:
    rbf = geoenc.RBF(20).fit([(2.35, 48.86), (287.6, -33.4)])
    assert rbf.anchors.shape == (20, 2)
    assert rows(rbf.anchors.round(decimals=6)) == {(2.35, 48.86), (-72.4, -33.4)}


def test_fit_passes_through_the_gate() -> None:
    with pytest.raises(ValueError, match="expected known places, got NaN"):
        geoenc.RBF(2).fit([(0.0, math.nan)])
    with pytest.raises(ValueError, match="latitude 151"):
        geoenc.RBF(2).fit([(-33.9, 151.2)])
    with pytest.raises(ValueError, match="got none"):
        geoenc.RBF(2).fit(torch.empty(0, 2))


def test_anchors_are_float64_and_travel_with_the_weights() -> None:
    rbf = geoenc.RBF(7, generator=torch.Generator().manual_seed(1)).half()
    assert rbf.anchors.dtype == torch.float64
    assert rbf.state_dict().keys() == {"anchors"}
    drawn = geoenc.RBF(7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn.anchors, rbf.anchors)
    assert drawn.anchors[:, 1].abs().max() <= 90


def test_rbf_refuses() -> None:
    for bandwidth in (0.0, -2.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="bandwidth above 0 degrees, got"):
            geoenc.RBF(5, bandwidth)
    with pytest.raises(ValueError, match="num_anchors of at least 1, got 0"):
        geoenc.RBF(0)
    with pytest.raises(ValueError, match=r"distance to be one of .*, got 'chord'"):
        geoenc.RBF(5, distance="chord")
