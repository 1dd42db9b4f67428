"""Geo-bias: the published score point by point, what it tells apart, regions and densities."""

import math

import numpy as np
import pandas
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from geoenc.coordinates import EARTH_RADIUS_KM, great_circle_km, to_lonlat, to_xyz
from geoenc.metrics import (
    bias,
    density_profile,
    relative_information,
    self_information,
    worst_region,
)
from geoenc.sampling import uniform

CEILING = -math.log(1e-256)


def published(lonlat, values, centre: int, radius_km: float, most: int, *, ceiling: bool) -> float:
    """The published score of one neighbourhood, point by point, without ties."""
    radius = radius_km / EARTH_RADIUS_KM
    distance = great_circle_km(lonlat, lonlat[centre])
    order = distance.argsort()[:most]
    order = order[distance[order] <= radius_km]
    density = math.ceil(5 * len(order) / (math.pi * radius**2))
    step, grid = 1 / math.sqrt(density), []
    for ring in range(1, math.ceil(radius / step) + 1):
        size = math.ceil(2 * math.pi * ring)
        for point in range(size):
            lon, lat = -math.pi + 2 * math.pi / size * point, math.pi / 2 - step * ring
            grid.append(
                [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
            )
    lon, lat = np.radians(lonlat[centre].numpy())
    grid = Rotation.from_euler("yz", [math.pi / 2 - lat, lon]).apply(grid)
    points = np.concatenate([to_xyz(lonlat[order]).numpy(), grid])
    values = np.concatenate([values[order], np.zeros(len(grid))])
    moran, total = 0.0, len(values)
    for i in range(total):
        away = np.linalg.norm(points - points[i], axis=1).round(12)  # the centre is as far from
        away[i] = -1.0  # the first ring as that from the second: the sample comes first
        near = away.argsort(kind="stable")[1:5]
        moran += (values[i] - values.mean()) * (values[near] - values.mean()).sum()

    kinds, counts = np.unique(values, return_counts=True)
    a, background = kinds - values.mean(), counts.argmax()
    mean = variance = 0.0
    for i, n in enumerate(counts):
        for j, other in enumerate(counts):
            pair = background not in (i, j)
            if i == j:
                mean += a[i] ** 2 * ((n - 1) * 4 * n / total - 1)
                chance = 2 * (n - 1) * 4 * n / total * (1 - 4 * (2 * n - 1) / (3 * total))
                variance += pair * chance * (kinds[i] - kinds[background]) ** 4
            else:
                mean += a[i] * a[j] * min(n, other) * 4 * max(n, other) / total
                share = 4 * max(n, other) / total
                sums = a[i] * a[j] - 2 * a[i] * a[background] + a[background] ** 2
                variance += pair * min(n, other) * share * (1 - share) * sums**2
    low, deviation = min(moran, 2 * mean - moran), math.sqrt(variance) + 1
    if ceiling:
        return -math.log(2 * norm.cdf(low, loc=mean, scale=deviation) + 1e-256)
    return -math.log(2) - norm.logcdf(low, loc=mean, scale=deviation)


def cap(num: int, lonlat: tuple[float, float], radius_km: float) -> torch.Tensor:
    """Places spread in a cap, more of them towards its middle."""
    away = radius_km / EARTH_RADIUS_KM * torch.rand(num, dtype=torch.float64)
    turn = 2 * math.pi * torch.rand(num, dtype=torch.float64)
    local = torch.stack([away.sin() * turn.cos(), away.sin() * turn.sin(), away.cos()], -1)
    angles = [math.pi / 2 - math.radians(lonlat[1]), math.radians(lonlat[0])]
    turned = Rotation.from_euler("yz", angles).as_matrix()
    return to_lonlat(local @ torch.from_numpy(turned).mT)


@pytest.mark.parametrize(
    "middle", [(11.0, 48.0), (180.0, -17.0), (30.0, 89.9), (-40.0, -90.0)], ids=str
)
@pytest.mark.parametrize("most", [25, 1000])
def test_equals_the_published_score_where_that_has_no_ceiling(middle, most):
    lonlat = cap(120, middle, 400.0)
    correct = (lonlat[:, 1] > lonlat[:, 1].median()) ^ (torch.rand(120) < 0.3)
    found = self_information(lonlat, correct, radius_km=250.0, max_neighbors=most)
    marked, unmarked = 2 * correct.double().numpy() - 1, np.ones(120)
    for centre in (0, 1, 60, 119):
        arguments = (centre, 250.0, most)
        for values, score in ((marked, found.marked), (unmarked, found.unmarked)):
            expected = published(lonlat, values, *arguments, ceiling=True)
            assert expected < 0.9 * CEILING
            assert score[centre].item() == pytest.approx(expected, rel=1e-9)
        inside = (great_circle_km(lonlat, lonlat[centre]) <= 250.0).sum().item()
        assert found.neighbors[centre] == min(inside, most)


def test_has_no_ceiling():
    lonlat = cap(200, (11.0, 48.0), 2.0)  # a heap in the middle of a wide disc
    found = self_information(lonlat, torch.ones(200, dtype=torch.bool), max_neighbors=200)
    expected = published(lonlat, np.ones(200), 0, 100.0, 200, ceiling=False)
    assert published(lonlat, np.ones(200), 0, 100.0, 200, ceiling=True) == pytest.approx(CEILING)
    assert expected > 1.5 * CEILING
    assert found.unmarked[0].item() == pytest.approx(expected, rel=1e-9)
    assert found.marked.equal(found.unmarked)  # all are right


def test_chunks_and_the_order_of_rows_do_not_matter(monkeypatch):
    lonlat = cap(300, (11.0, 48.0), 500.0)
    lonlat[200:] = lonlat[:100]  # and two samples at a hundred places
    lonlat[290:] = lonlat[0]
    correct = torch.rand(300) < 0.6
    found = self_information(lonlat, correct, max_neighbors=20)
    order = torch.randperm(300)
    monkeypatch.setattr(bias, "_CENTRES", 7)
    other = self_information(lonlat[order], correct[order], max_neighbors=20)
    for name in ("unmarked", "marked", "neighbors"):
        torch.testing.assert_close(getattr(other, name), getattr(found, name)[order])
    assert found.marked[0] == found.marked[295]
    assert found.neighbors.max() > 20  # all samples of the place of the 20th


def test_samples_of_one_place_are_those_of_places_a_hair_apart():
    """Ties shared among samples of a place: the mean over the orders in which they may come."""
    lonlat = cap(60, (11.0, 48.0), 300.0).repeat_interleave(2, 0)  # pairs: none is cut in half
    correct = torch.rand(60).repeat_interleave(2) < 0.5
    apart = lonlat + 1e-9 * torch.randn(120, 2, dtype=torch.float64)
    found = self_information(lonlat, correct, radius_km=1000, max_neighbors=1000)
    other = self_information(apart, correct, radius_km=1000, max_neighbors=1000)
    assert (found.neighbors == 120).all()
    # A pair needs 3 more of the pairs around: one whole, one whole or a half of the next.
    torch.testing.assert_close(found.marked, other.marked, rtol=0.05, atol=0.3)
    torch.testing.assert_close(found.unmarked, other.unmarked, rtol=0.02, atol=0.0)


def test_mistakes_that_lie_together_are_stranger_than_scattered_ones():
    lonlat = cap(200, (0.0, 10.0), 80.0)
    together = lonlat[:, 0] > 0
    scattered = torch.rand(200) < 0.5
    apart = self_information(lonlat, together, max_neighbors=200).marked.mean()
    assert apart > 5 * self_information(lonlat, scattered, max_neighbors=200).marked.mean()


def test_missing_places_have_no_score_and_change_none():
    lonlat, correct = cap(50, (20.0, 0.0), 90.0), torch.rand(50) < 0.5
    holes = torch.cat([lonlat[:20], torch.full((3, 2), torch.nan).double(), lonlat[20:]])
    marks = torch.cat([correct[:20], torch.ones(3, dtype=torch.bool), correct[20:]])
    found, whole = self_information(holes, marks), self_information(lonlat, correct)
    assert found.marked[20:23].isnan().all()
    assert found.neighbors[20:23].tolist() == [0, 0, 0]
    kept = ~holes.isnan().any(-1)
    assert found.marked[kept].equal(whole.marked)
    weights = whole.neighbors.double()
    expected = [(weights * s).sum() / weights.sum() for s in (whole.unmarked, whole.marked)]
    assert found.weighted_mean() == pytest.approx([one.item() for one in expected])
    nowhere = self_information(holes[20:23], marks[20:23])
    assert nowhere.unmarked.isnan().all()


def test_lonely_samples_are_no_surprise():
    lonlat = torch.tensor([(0.0, 0.0), (90.0, 0.0), (0.0, 90.0), (0.0, -90.0)]).double()
    found = self_information(lonlat, torch.tensor([1, 0, 1, 0]))
    assert found.neighbors.tolist() == [1, 1, 1, 1]
    assert (found.unmarked < 1).all()
    assert (found.unmarked >= 0).all()


def test_relative_information_is_that_of_a_loop():
    lonlat = cap(150, (179.0, 60.0), 400.0)
    lonlat[7] = torch.nan
    correct = torch.rand(150) < 0.4
    correct[lonlat[:, 1] > 61] = True
    found = relative_information(lonlat, correct, radius_km=300.0, rings=4, min_samples=5)
    assert found[7].isnan()
    for centre in (0, 3, 149):
        distance = great_circle_km(lonlat, lonlat[centre])
        inside = distance <= 300  # false for NaN
        p, expected = correct[inside].double().mean().item(), 0.0
        for ring in range(4):
            part = inside & (distance >= 75 * ring) & (distance < 75 * (ring + 1))
            if part.sum() >= 5:
                q = correct[part].double().mean().item()
                divergence = p * math.log(p / (q + 1e-8))
                divergence += (1 - p) * math.log((1 - p) / (1 - q + 1e-8))
                expected += part.sum().item() / inside.sum().item() * divergence
        assert expected > 1e-3
        assert found[centre].item() == pytest.approx(expected, rel=1e-9)
    whole = relative_information(lonlat, torch.ones(150), radius_km=300.0)
    assert whole[~lonlat.isnan().any(-1)].abs().max() < 1e-7  # everywhere the same
    assert relative_information(lonlat[7:8], correct[7:8]).isnan().all()
    with pytest.raises(ValueError, match="0 and 1"):
        relative_information(lonlat, torch.rand(150))


@pytest.mark.slow
@pytest.mark.real_data
def test_relative_information_is_that_of_the_released_tables(shared):
    """Distance-lag score of the image classifier on iNat2018: mean .0075 (PyGBS)."""
    file = shared / "data" / "inat2018_val.parquet"
    if not file.is_file():
        pytest.skip(f"real data expected in {file}, got no such file")
    frame = pandas.read_parquet(file)
    lonlat = torch.tensor(frame[["lon", "lat"]].to_numpy(dtype="float64"))
    correct = torch.from_numpy(frame["image_hit1"].to_numpy().astype(bool))
    found = relative_information(lonlat, correct, radius_km=0.05 * EARTH_RADIUS_KM)
    assert found.nanmean().item() == pytest.approx(0.0075, abs=5e-5)


def test_worst_region_is_that_of_a_count():
    score, region = torch.rand(500), torch.randint(-1, 6, (500,))
    region[region == 5] = -1
    region[:9], score[:9] = 5, -1.0  # the worst, but too few
    means = [score[region == r].double().mean().item() for r in range(5)]
    worst, mean = worst_region(score, region, min_samples=20)
    assert worst == min(range(5), key=means.__getitem__)
    assert mean == pytest.approx(min(means))
    assert worst_region(score, region, min_samples=9)[0] == 5
    with pytest.raises(ValueError, match="at least 10000 samples, got at most"):
        worst_region(score, region, min_samples=10_000)
    with pytest.raises(ValueError, match="got at most 0"):
        worst_region(score, torch.full_like(region, -1))


@pytest.mark.parametrize("others", [False, True])
def test_density_is_the_distance_of_the_kth_neighbor(others):
    lonlat, score = uniform(200).double(), torch.rand(200)
    lonlat[5] = torch.nan
    among = torch.cat([uniform(50), torch.full((2, 2), torch.nan)]) if others else None
    found = density_profile(lonlat, score, among=among, neighbors=3, bins=4)
    known = torch.arange(200) != 5
    crowd = lonlat[known] if among is None else among[:50].double()
    distance = great_circle_km(lonlat[known][:, None], crowd[None]).sort(1).values
    distance = distance[:, 2 if others else 3]
    expected = distance.quantile(torch.linspace(0, 1, 5).double())
    torch.testing.assert_close(found.edges_km, expected)
    assert found.samples.sum() == 199
    for index in range(4):
        low, high = expected[index], expected[index + 1]
        inside = (distance > low if index else distance >= low) & (distance <= high + 1e-9)
        assert found.samples[index] == inside.sum()
        assert found.score[index].item() == pytest.approx(score[known][inside].mean().item())


def test_density_of_equal_distances_is_one_bin():
    found = density_profile(torch.zeros(30, 2), torch.arange(30.0), neighbors=5)
    assert found.edges_km.tolist() == [0.0]
    assert found.samples.tolist() == [30]
    assert found.score.tolist() == [14.5]


def test_errors_say_what_to_do():
    lonlat, correct = uniform(5), torch.ones(5)
    with pytest.raises(ValueError, match="give one row per sample"):
        self_information(lonlat, correct[:4])
    with pytest.raises(ValueError, match="0 and 1"):
        self_information(lonlat, 0.5 * correct)
    for options in ({"radius_km": 0.0}, {"max_neighbors": 0}, {"radius_km": math.nan}):
        with pytest.raises(ValueError, match="above 0"):
            self_information(lonlat, correct, **options)
    with pytest.raises(ValueError, match="pass fewer neighbors"):
        density_profile(lonlat, correct, neighbors=5)
