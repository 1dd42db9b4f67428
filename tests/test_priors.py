"""Priors from counts, against loops over labelled places; GeoPrior, against its formula."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geoenc import priors
from geoenc.data.splits import random_split
from geoenc.metrics import geo_posterior, target_rank, top_k_accuracy
from geoenc.priors import (
    PRIORS,
    PUBLISHED,
    ClassFrequency,
    GeoPrior,
    KernelDensity,
    NearestNeighbors,
    Prior,
    RectangularGrid,
    WithinDistance,
    best_prior,
    class_frequencies,
    published_prior,
)
from geoenc.sampling import uniform

METRICS = ("great_circle", "degrees")
CLASSES = 7


def labelled(num: int = 300) -> tuple[Tensor, Tensor]:
    return uniform(num), torch.randint(CLASSES - 1, (num,))  # the last class is never seen


def distance_degrees(a: list[float], b: list[float], metric: str) -> float:
    """Haversine, or Pythagoras in the plane of longitude and latitude."""
    if metric == "degrees":
        return math.hypot(a[0] - b[0], a[1] - b[1])
    (lon, lat), (lon_b, lat_b) = (map(math.radians, point) for point in (a, b))
    half = math.sin((lat - lat_b) / 2) ** 2
    half += math.cos(lat) * math.cos(lat_b) * math.sin((lon - lon_b) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(half))))


def slow_nearest(place, places, target, neighbors: int, metric: str) -> list[float]:
    order = sorted(range(len(places)), key=lambda i: distance_degrees(place, places[i], metric))
    counts = Counter(target[i] for i in order[:neighbors])
    total = sum(1 + counts[k] for k in range(CLASSES))
    return [(1 + counts[k]) / total for k in range(CLASSES)]


def slow_within(place, places, target, radius: float, metric: str) -> list[float]:
    near = [i for i, p in enumerate(places) if distance_degrees(place, p, metric) <= radius]
    counts = Counter(target[i] for i in near)
    return [(1 + counts[k]) / (len(near) + CLASSES) for k in range(CLASSES)]


def slow_kernel(place, places, target, neighbors: int, size: float, metric: str) -> list[float]:
    """Each class has bins of its own; h is half the distance to the K-th of all of them."""
    bins = Counter(
        (math.floor(lon / size) * size, math.floor(lat / size) * size, k)
        for (lon, lat), k in zip(places, target, strict=True)
    )
    far = {key: distance_degrees(place, list(key[:2]), metric) for key in bins}
    h = sorted(far.values())[min(neighbors, len(far)) - 1] / 2
    scores = [0.0] * CLASSES
    for key, count in bins.items():
        if far[key] <= 2 * h * (1 + 1e-9):
            scores[key[2]] += count * math.exp(-(far[key] ** 2) / (2 * h**2))
    least = min(score for score in scores if score > 0)
    return [(score + least) / (sum(scores) + CLASSES * least) for score in scores]


def slow_grid(place, places, target, columns: int, rows: int, a: float) -> list[float]:
    def cell(lonlat: list[float]) -> tuple[int, int]:
        lon = -180.0 if lonlat[0] == 180 else lonlat[0]
        row = rows - 1 if lonlat[1] == 90 else math.floor((lonlat[1] + 90) / (180 / rows))
        return math.floor((lon + 180) / (360 / columns)), row

    inside = [k for p, k in zip(places, target, strict=True) if cell(p) == cell(place)]
    n, counts = len(inside), Counter(inside)
    return [(counts[k] + a - 1) / (n + CLASSES * a - CLASSES) for k in range(CLASSES)]


def check(prior: Prior, slow, *settings: object) -> None:
    places, target = labelled()
    queries = torch.cat([uniform(40), torch.tensor([(180.0, 0.0), (-180.0, 10.0), (20.0, 90.0)])])
    got = prior.fit(places, target, CLASSES).probabilities(queries)
    wanted = [
        slow(place, places.tolist(), target.tolist(), *settings) for place in queries.tolist()
    ]
    assert got.dtype == torch.float32
    assert torch.allclose(got, torch.tensor(wanted), atol=1e-6)
    assert got.std(0).max() > 1e-3  # the places differ


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("neighbors", [1, 5, 60, 1000])
def test_nearest_neighbors(neighbors: int, metric: str) -> None:
    if neighbors == 1000:
        prior = NearestNeighbors(neighbors, metric=metric).fit(*labelled(), CLASSES)
        everywhere = prior.probabilities(uniform(3))
        assert torch.equal(everywhere[0], everywhere[1])  # more than there are: all of them
    else:
        check(NearestNeighbors(neighbors, metric=metric), slow_nearest, neighbors, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("radius", [5.0, 40.0])
def test_within_distance(radius: float, metric: str) -> None:
    check(WithinDistance(radius, metric=metric), slow_within, radius, metric)


def test_within_half_a_circumference_is_everything() -> None:
    places, target = labelled()
    got = WithinDistance(180.0).fit(places, target, CLASSES).probabilities(uniform(5))
    assert torch.allclose(got.double(), class_frequencies(target, CLASSES).expand(5, -1), atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("neighbors", "size"), [(40, 0.001), (60, 30.0), (7, 5.0), (5000, 15.0)])
def test_kernel_density(neighbors: int, size: float, metric: str) -> None:
    check(
        KernelDensity(neighbors, bin_degrees=size, metric=metric),
        slow_kernel,
        neighbors,
        size,
        metric,
    )


@pytest.mark.parametrize(("columns", "rows", "a"), [(180, 60, 2.0), (4, 3, 1.5), (7, 5, 3.0)])
def test_rectangular_grid(columns: int, rows: int, a: float) -> None:
    check(RectangularGrid(columns, rows, pseudo_count=a), slow_grid, columns, rows, a)


def test_class_frequency_is_the_same_everywhere() -> None:
    target = torch.tensor([0, 2, 2, -1])
    prior = ClassFrequency().fit(uniform(4), target, 4)
    wanted = torch.tensor([2 / 7, 1 / 7, 3 / 7, 1 / 7])
    assert torch.allclose(prior.probabilities(uniform(3)), wanted.expand(3, -1))
    assert torch.allclose(class_frequencies(target, 4).float(), wanted)


# --- the sphere ---------------------------------------------------------------------------------


def test_neighbours_across_the_date_line_and_the_pole() -> None:
    """Class 1 lies nearer on the sphere, class 0 nearer in the plane of degrees."""
    target = torch.tensor([0, 1])
    for place, in_the_plane, on_the_sphere in (
        ((179.9, 0.0), (160.0, 0.0), (-179.9, 0.0)),
        ((0.0, 89.5), (0.0, 80.0), (180.0, 89.5)),
    ):
        places = [in_the_plane, on_the_sphere]
        for build in (
            lambda metric: NearestNeighbors(1, metric=metric),
            lambda metric: WithinDistance(15.0, metric=metric),
            lambda metric: KernelDensity(1, bin_degrees=0.1, metric=metric),
        ):
            sphere = build("great_circle").fit(places, target, 2).probabilities([place])[0]
            plane = build("degrees").fit(places, target, 2).probabilities([place])[0]
            assert sphere[1] >= sphere[0]
            assert plane[0] >= plane[1]
            assert not torch.allclose(sphere, plane)


def test_great_circle_priors_turn_with_the_globe() -> None:
    """A rotation about the axis moves places over the date line; distances stay."""
    places, target = labelled()
    queries = uniform(20)
    turn = torch.tensor([133.0, 0.0])
    for build in (lambda: NearestNeighbors(20), lambda: WithinDistance(20.0)):
        before = build().fit(places, target, CLASSES).probabilities(queries)
        after = build().fit(places + turn, target, CLASSES).probabilities(queries + turn)
        assert torch.allclose(before, after, atol=1e-6)


def test_grid_has_one_meridian_of_180_degrees_and_a_last_row() -> None:
    prior = RectangularGrid(36, 18).fit([(-180.0, 0.0), (0.0, 90.0)], torch.tensor([0, 1]), 2)
    wanted = torch.tensor([2 / 3, 1 / 3])
    assert torch.allclose(prior.probabilities([(180.0, 0.0)]), wanted)
    assert torch.allclose(prior.probabilities([(5.0, 85.0)]), wanted.flip(0))
    beside = np.nextafter(180.0, 0.0)
    assert torch.allclose(prior.probabilities([(beside, 0.0)]).sum(), torch.tensor(1.0))


def test_kernel_of_no_width_counts_what_is_there() -> None:
    """h = 0: three places in the bin where the query lies. The original fails."""
    places = [(10.0, 10.0)] * 3 + [(12.0, 10.0)]
    prior = KernelDensity(1, bin_degrees=1.0).fit(places, torch.tensor([0, 0, 1, 1]), 3)
    got = prior.probabilities([(10.0, 10.0)])
    assert torch.allclose(got, torch.tensor([[3.0, 2.0, 1.0]]) / 6)


# --- what all have in common --------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIORS)
def test_rows_are_distributions_and_missing_places_are_uniform(name: str) -> None:
    places, target = labelled(1500)
    places[3], target[4] = torch.nan, -1
    before = places.clone()
    prior = PRIORS[name]()
    assert prior.fit(places, target, CLASSES) is prior
    queries = uniform(1100)  # more than one chunk
    queries[::100] = torch.nan
    got = prior.probabilities(queries)
    assert torch.allclose(got.sum(1), torch.ones(len(got)), atol=1e-5)
    assert (got > 0).all()
    assert torch.equal(got[::100], torch.full((11, CLASSES), 1 / CLASSES))
    assert torch.equal(prior.probabilities(queries[1050:]), got[1050:])  # rows are independent
    shaped = prior.probabilities(queries[:6].reshape(2, 3, 2))
    assert torch.equal(shaped.reshape(6, CLASSES), got[:6])
    assert torch.equal(places[~before.isnan()], before[~before.isnan()])
    kept = target >= 0
    kept[3] = False
    again = PRIORS[name]().fit(places[kept], target[kept], CLASSES)
    assert torch.equal(again.probabilities(queries), got)


@pytest.mark.parametrize("name", PRIORS)
def test_refuses_what_it_cannot_count(name: str) -> None:
    prior = PRIORS[name]()
    with pytest.raises(ValueError, match=rf"expected a {name} with labelled places.*call .fit"):
        prior.probabilities([(0.0, 0.0)])
    with pytest.raises(ValueError, match="at least one labelled sample, got none"):
        prior.fit([(0.0, 0.0)], torch.tensor([-1]), 2)
    with pytest.raises(ValueError, match="classes below num_classes=2, got 2"):
        prior.fit([(0.0, 0.0)], torch.tensor([2]), 2)
    with pytest.raises(ValueError, match=r"lonlat \(N, 2\) and target \(N,\), got \(1, 2\) and"):
        prior.fit([(0.0, 0.0)], torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="latitude 91"):
        prior.fit([(0.0, 91.0)], torch.tensor([0]), 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NearestNeighbors(0), "neighbors of at least 1, got 0"),
        (lambda: KernelDensity(0), "neighbors of at least 1, got 0"),
        (lambda: KernelDensity(bin_degrees=0.0), "bin_degrees above 0, got 0"),
        (lambda: WithinDistance(-1.0), "radius_degrees above 0, got -1"),
        (lambda: RectangularGrid(0, 3), "num_columns and num_rows of at least 1, got 0 and 3"),
        (lambda: RectangularGrid(pseudo_count=1.0), "pseudo_count above 1, got 1"),
        (lambda: NearestNeighbors(metric="haversine"), "'great_circle' or 'degrees', got 'haver"),
        (lambda: WithinDistance(metric="x"), "'great_circle' or 'degrees', got 'x'"),
        (lambda: KernelDensity(metric="x"), "'great_circle' or 'degrees', got 'x'"),
    ],
)
def test_refuses_hyperparameters(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


# --- settings -----------------------------------------------------------------------------------


def test_published_settings_build_every_prior() -> None:
    for data, settings in PUBLISHED.items():
        assert settings.keys() == PRIORS.keys()
        for name in PRIORS:
            assert published_prior(name, data) == PRIORS[name](**settings[name])
    assert published_prior("KernelDensity", "iNat2018").neighbors == 700
    assert published_prior("NearestNeighbors", "YFCC").metric == "great_circle"
    two_km = published_prior("WithinDistance", "YFCC").radius_degrees
    assert two_km == pytest.approx(2 / 111.2, rel=1e-3)
    with pytest.raises(ValueError, match=r"iNat2018.*got 'fMoW'.*best_prior"):
        published_prior("KernelDensity", "fMoW")
    with pytest.raises(ValueError, match=r"ClassFrequency.*got 'knn'"):
        published_prior("knn", "iNat2018")


def test_the_page_shows_the_published_settings() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "priors.md"
    rows = [line.strip("| ").split(" | ") for line in page.read_text("utf-8").splitlines()]
    shown = {row[0]: row[1:] for row in rows if row[0] in PUBLISHED}
    assert shown.keys() == PUBLISHED.keys()
    for data, settings in PUBLISHED.items():
        near, within, grid, kernel = (settings[name] for name in list(PRIORS)[1:])
        radius = within["radius_degrees"]
        assert shown[data] == [
            str(near["neighbors"]),
            near["metric"],
            f"{radius:g}°" if radius > 1 else f"{math.radians(radius) * 6371.4:g} km",
            f"{grid['num_columns']} x {grid['num_rows']}",
            f"{grid['pseudo_count']:g}",
            f"{kernel['bin_degrees']:g}°, {kernel['neighbors']}",
        ]
        assert kernel["metric"] == "degrees"


def test_best_prior_has_the_highest_accuracy_on_validation_data() -> None:
    """Twelve sectors with a class each, a quarter of the labels wrong: neither 1 nor all."""
    places = uniform(900)
    sector = ((places[:, 0] + 180) / 30).long().clamp_max(11)
    target = torch.where(torch.rand(900) < 0.25, torch.randint(12, (900,)), sector)
    part = random_split(900)
    train = places[part == 0], target[part == 0]
    held = places[part == 1], target[part == 1]
    candidates = [NearestNeighbors(k) for k in (600, 1, 9, 25)]
    found = best_prior(candidates, train, held, 12)
    accuracy = [
        top_k_accuracy(one.fit(*train, 12).probabilities(held[0]), held[1]).item()
        for one in candidates
    ]
    assert found is candidates[accuracy.index(max(accuracy))]
    assert found.neighbors not in (1, 600)
    image = torch.eye(12)[held[1]] + 0.01  # all are equally good with an image that is right
    assert best_prior(candidates, train, held, 12, image_probs=image) is candidates[0]


def test_best_prior_judges_only_what_can_be_judged() -> None:
    train = [(0.0, 0.0), (50.0, 0.0)], torch.tensor([0, 1])
    held = [(1.0, 0.0), (49.0, 0.0), (math.nan, math.nan)], torch.tensor([0, -1, 1])
    candidates = [NearestNeighbors(2), NearestNeighbors(1)]
    assert best_prior(candidates, train, held, 2) is candidates[1]
    with pytest.raises(ValueError, match="a validation sample with a class and a place, got none"):
        best_prior(candidates, train, ([(math.nan, 0.0)], torch.tensor([1])), 2)
    with pytest.raises(ValueError, match="at least one candidate, got none"):
        best_prior([], train, held, 2)


# --- GeoPrior -----------------------------------------------------------------------------------


def speakers(num: int = 40, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """An image and a place that each know a little; some places are missing, one is certain."""
    target = torch.randint(classes, (num,))
    right = torch.eye(classes)[target]
    image = (torch.randn(num, classes) + 1.0 * right).softmax(-1)
    place = (torch.randn(num, classes) + 1.5 * right).sigmoid()
    place[1], place[2] = torch.nan, 0.0
    return image, place, target


@pytest.mark.parametrize(("weight", "floor", "prior_weight"), [(0.5, 0.2, 0.0), (2.0, 1e-6, 0.7)])
def test_geo_prior_is_its_formula(weight: float, floor: float, prior_weight: float) -> None:
    image, place, target = speakers()
    prior = class_frequencies(target, 5)
    got = GeoPrior(weight, floor, prior_weight, prior)(image, place)
    for i in range(40):
        for k in range(5):
            wanted = math.log(image[i, k])
            if i != 1:
                wanted += weight * math.log(max(place[i, k].item(), floor))
                wanted -= prior_weight * math.log(prior[k])
            assert got[i, k].item() == pytest.approx(wanted, rel=1e-6)


def test_geo_prior_of_weight_one_is_the_published_product() -> None:
    image, place, target = speakers()
    for missing in ("image", "error", "drop"):
        wanted = geo_posterior(image, place, missing=missing)
        got = GeoPrior()(image, place, missing)
        right = target[torch.arange(40) != 1] if missing == "drop" else target
        keep = (torch.arange(len(right)) != 2) if missing != "drop" else torch.arange(39) != 1
        assert target_rank(got, right)[keep].equal(target_rank(wanted, right)[keep])


@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
def test_geo_prior_of_weight_zero_is_the_image(prior_weight: float) -> None:
    image, place, target = speakers()
    prior = GeoPrior(0.0, prior_weight=prior_weight, class_prior=class_frequencies(target, 5))
    assert prior(image, place).equal(image.double().log())


def test_geo_prior_boosts_and_never_excludes() -> None:
    image = torch.tensor([[0.999, 0.001]])
    place = torch.tensor([[0.0, 1.0]])
    assert GeoPrior(0.2, 1e-6)(image, place).argmax(1).item() == 0
    assert GeoPrior(1.0, 1e-6)(image, place).argmax(1).item() == 1
    assert GeoPrior(100.0)(image, place).isfinite().all()
    raised = GeoPrior(0.2, 1e-6)(image, place).softmax(-1)
    assert raised[0, 1] > image[0, 1]


def test_geo_prior_is_fitted_on_top_1_and_takes_the_first_of_equals() -> None:
    image, place, target = speakers(600)
    target[5] = -1
    settings = {
        "weights": (1.0, 0.0, 0.5),
        "floors": (1e-6, 0.3),
        "prior_weights": (0.0, 1.0),
    }
    prior = class_frequencies(target, 5)
    scores = {}
    for w in settings["weights"]:
        for p in settings["prior_weights"]:
            for f in settings["floors"]:
                fused = GeoPrior(w, f, p, prior)(image, place)
                scores[w, p, f] = top_k_accuracy(fused[target >= 0], target[target >= 0]).item()
    assert len(set(scores.values())) > 2
    fitted = GeoPrior(class_prior=prior)
    assert fitted.fit(image, place, target, **settings) is fitted
    best = max(scores, key=lambda key: scores[key])
    assert (fitted.weight, fitted.prior_weight, fitted.floor) == best
    assert fitted.class_prior is prior
    assert max(scores.values()) > top_k_accuracy(image, target.clamp_min(0)).item()


def test_geo_prior_leaves_the_place_out_if_it_does_not_help() -> None:
    """A place that knows nothing: the default candidates begin with weight 0."""
    target = torch.arange(200) % 5
    image = torch.eye(5)[target] + 0.1
    assert GeoPrior().fit(image, torch.rand(200, 5), target).weight == 0.0


def test_geo_prior_is_fitted_where_places_are_missing() -> None:
    """Half the places are missing, there the image is right; elsewhere only the place is."""
    target = torch.arange(40) % 5
    right = torch.eye(5)[target]
    missing = torch.arange(40)[:, None] < 20
    image = torch.where(missing, right, right.roll(1, 1)) + 0.1
    place = torch.where(missing, torch.nan, right + 0.01)
    prior = GeoPrior().fit(image, place, target, weights=(0.0, 2.0))
    assert prior.weight == 2.0
    assert top_k_accuracy(prior(image, place), target).item() == 1.0


def test_geo_prior_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image, place, target = speakers(100)
    whole = GeoPrior().fit(image, place, target)
    monkeypatch.setattr(priors.rerank, "_NUMBERS", 35)
    assert GeoPrior().fit(image, place, target).weight == whole.weight


def test_geo_prior_refuses() -> None:
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match=f"weight of at least 0, got {wrong}"):
            GeoPrior(wrong)
    for wrong in (0.0, 2.0):
        with pytest.raises(ValueError, match=rf"floor in \(0, 1\], got {wrong}.*exclude"):
            GeoPrior(floor=wrong)
    with pytest.raises(ValueError, match=r"class_prior with prior_weight=1.0.*class_frequencies"):
        GeoPrior(prior_weight=1.0)
    image, place, target = speakers()
    with pytest.raises(ValueError, match="expected candidates and samples with a class, got 0"):
        GeoPrior().fit(image, place, target, weights=())
    with pytest.raises(ValueError, match="image_probs of at least 0, got negative"):
        GeoPrior().fit(image.log(), place, target)
    with pytest.raises(ValueError, match="got 40 and 0"):
        GeoPrior().fit(image, place, torch.full((40,), -1))


# --- real data ----------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "column", "split", "wanted"),
    [
        ("ne110m_uniform_points", "land", "split", 97.95),
        ("ne110m_uniform_points", "adm0_a3", "split", 95.79),
        ("ocean_basins_1deg", "basin", "split_block", 97.75),
        ("geoclip_gallery_100k", "adm0_a3", "split_block", 69.8),
    ],
)
def test_the_nearest_neighbor_on_real_places(
    shared: Path, name: str, column: str, split: str, wanted: float
) -> None:
    """Top-1 in % as other code measured it where one neighbour was best: README of the data."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = shared / "data" / f"{name}.parquet"
    assert path.is_file(), f"expected {path}; the folder of real data is incomplete"
    frame = parquet.read_table(path, columns=["lon", "lat", column, split]).to_pandas()
    frame = frame.dropna()
    lonlat = torch.tensor(frame[["lon", "lat"]].to_numpy()).double()
    target = torch.tensor(frame[column].astype("category").cat.codes.to_numpy()).long()
    train, test = (torch.tensor((frame[split] == part).to_numpy()) for part in ("train", "test"))
    prior = NearestNeighbors(1).fit(lonlat[train], target[train], int(target.max()) + 1)
    got = 100 * top_k_accuracy(prior.probabilities(lonlat[test]), target[test]).item()
    assert got == pytest.approx(wanted, abs=0.02)
