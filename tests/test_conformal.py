"""Coverage on a field whose noise changes over the globe; formulas in loops over samples."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from geoenc.conformal import ConformalClassifier, ConformalRegressor
from geoenc.coordinates import great_circle_km, to_xyz
from geoenc.sampling import uniform

HERE = torch.zeros(1, 2)


def field(num: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places, the mean that a perfect model predicts, and values around it.

    The standard deviation is exp(2.4 x + 1.2 z) / 3: 0.02 on one side of the Earth, 5 on the other.
    """
    generator = torch.Generator().manual_seed(seed)
    lonlat = uniform(num, generator=generator)
    x, y, z = to_xyz(lonlat).unbind(-1)
    noise = torch.randn(num, generator=generator, dtype=torch.float64)
    mean = 3 * x + y * z
    return lonlat, mean, mean + (2.4 * x + 1.2 * z).exp() / 3 * noise


def quarter(lonlat: Tensor) -> Tensor:
    """Four zones of equal area, from the least noise to the most."""
    x, _, z = to_xyz(lonlat).unbind(-1)
    along = (2 * x + z) / 5**0.5  # which is spread evenly over [-1, 1]
    return (2 * along + 2).long().clamp(0, 3)


def shares(held: Tensor, region: Tensor) -> Tensor:
    return torch.stack([held[region == k].double().mean() for k in region.unique()])


@pytest.mark.parametrize("seed", [0, 1])
def test_interval_covers_everywhere_and_the_unweighted_one_does_not(seed: int) -> None:
    lonlat, mean, value = field(6000, seed + 10)
    region = quarter(lonlat)
    held = {}
    for bandwidth_km in (math.inf, 700.0):
        conformal = ConformalRegressor(0.1, bandwidth_km).calibrate(*field(8000, seed))
        low, high = conformal.interval(lonlat, mean)
        assert low.isfinite().all()
        held[bandwidth_km] = (low <= value) & (value <= high)
    for one in held.values():
        assert abs(one.double().mean() - 0.9) < 0.02
    assert (shares(held[700.0], region) - 0.9).abs().max() < 0.05
    fixed = shares(held[math.inf], region)
    assert fixed.min() < 0.75
    assert fixed.max() > 0.99


def test_sets_cover_where_the_classifier_is_worse() -> None:
    """Its probabilities are the same everywhere, but in the south it errs three times as often."""
    generator = torch.Generator().manual_seed(3)

    def sample(num: int) -> tuple[Tensor, Tensor, Tensor]:
        lonlat = uniform(num, generator=generator)
        target = torch.randint(5, (num,), generator=generator)
        wrong = torch.where(lonlat[:, 1] > 0, 0.2, 0.6)
        guess = torch.where(
            torch.rand(num, generator=generator) < wrong,
            torch.randint(5, (num,), generator=generator), target,
        )  # fmt: skip
        logits = 3 * torch.nn.functional.one_hot(guess, 5)
        return lonlat, (logits + torch.rand(num, 5, generator=generator)).softmax(-1), target

    train, (lonlat, probabilities, target) = sample(4000), sample(6000)
    south = (lonlat[:, 1] < 0).long()
    for score in ("lac", "aps"):
        covered = {}
        for bandwidth_km in (math.inf, 1000.0):
            conformal = ConformalClassifier(0.1, bandwidth_km, score).calibrate(*train)
            sets = conformal.sets(lonlat, probabilities)
            assert sets.shape == (6000, 5)
            covered[bandwidth_km] = sets[torch.arange(6000), target]
            assert abs(covered[bandwidth_km].double().mean() - 0.9) < 0.02
            assert score == "lac" or sets.any(1).all()
        local, fixed = (shares(covered[h], south) for h in (1000.0, math.inf))
        assert (local - 0.9).abs().max() < 0.03
        assert fixed[0] - fixed[1] > 0.08


def slow_quantile(weights: list[float], scores: list[float], level: float) -> float:
    """Least score with more than ``level`` of the weight, of which 1 is at infinity."""
    total = 1 + sum(weights)
    for q in sorted(scores):
        if sum(w for w, s in zip(weights, scores, strict=True) if s <= q) > level * total:
            return q
    return math.inf


def kernel(places: Tensor, samples: Tensor, h: float) -> list[list[float]]:
    rows = great_circle_km(places[:, None], samples).tolist()
    return [[math.exp(-((d / h) ** 2) / 2) if d <= 4 * h else 0.0 for d in row] for row in rows]


def slow_level(lonlat: Tensor, score: list[float], alpha: float, h: float) -> float:
    """beta: 1 - alpha of the samples with enough support, each left out in turn, are held."""
    least, left_out, count = (1 - alpha) / alpha, [], range(len(score))
    for i, row in enumerate(kernel(lonlat, lonlat, h)):
        weights = [row[j] for j in count if j != i]
        others = [(score[j], j) for j in count if j != i]
        if sum(weights) >= least:
            below = sum(w for w, s in zip(weights, others, strict=True) if s < (score[i], i))
            left_out.append(below / (1 + sum(weights)))
    return sorted(left_out)[math.ceil((1 - alpha) * (len(left_out) + 1)) - 1]


@pytest.mark.filterwarnings("ignore:.*too little support")
@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_interval_is_its_formula(alpha: float) -> None:
    h, lonlat, zero = 2500.0, uniform(150), torch.zeros(150)
    lonlat[:, 1].abs_()
    error = torch.randn(150, dtype=torch.float64).round(decimals=1)  # with ties
    places = torch.cat([uniform(40), lonlat[:5]])
    conformal = ConformalRegressor(alpha, h).calibrate(lonlat, zero, error)
    _, high = conformal.interval(places, torch.zeros(45))
    score = error.abs().tolist()
    level = slow_level(lonlat, score, alpha, h)
    wanted = [
        slow_quantile(weights, score, level) if sum(weights) >= (1 - alpha) / alpha else math.inf
        for weights in kernel(places, lonlat, h)
    ]
    assert high.tolist() == pytest.approx(wanted)
    assert 0 < sum(map(math.isinf, wanted)) < 40


@pytest.mark.parametrize("num", [9, 19, 100, 101])
def test_infinite_bandwidth_is_split_conformal_prediction(num: int) -> None:
    error = torch.randperm(num).double() + 1
    conformal = ConformalRegressor(0.1, math.inf).calibrate(uniform(num), torch.zeros(num), error)
    _, high = conformal.interval([(0.0, 0.0)], [0.0])
    assert high.item() == math.ceil(round(0.9 * (num + 1), 9))
    if num < 19:
        return  # one left out, the others have too little support
    wide = ConformalRegressor(0.1, 1e9).calibrate(uniform(num), torch.zeros(num), error)
    assert abs(wide.interval([(0.0, 0.0)], [0.0])[1].item() - high.item()) <= 1


def test_scale_stretches_the_interval() -> None:
    scale = torch.rand(200, dtype=torch.float64) + 0.1
    error = scale * torch.randn(200, dtype=torch.float64)
    lonlat, zero = uniform(200), torch.zeros(200)
    conformal = ConformalRegressor(0.1, math.inf).calibrate(lonlat, zero, error, scale=scale)
    plain = ConformalRegressor(0.1, math.inf).calibrate(lonlat, zero, error / scale)
    _, high = conformal.interval(lonlat[:2], [1.0, 1.0], scale=[1.0, 3.0])
    half = plain.interval(lonlat[:1], [0.0])[1]
    torch.testing.assert_close(high, 1 + half * torch.tensor([1.0, 3.0]))


def test_far_from_all_samples_nothing_is_excluded_and_said_so() -> None:
    lonlat = torch.rand(50, 2)
    target = torch.arange(50) % 2
    classifier = ConformalClassifier(0.1, 300.0).calibrate(
        lonlat, torch.tensor([[0.9, 0.1, 0.0]]).expand(50, 3), target * 0
    )
    places, probabilities = [(0.5, 0.5), (120.0, -40.0)], torch.eye(3)[:2]
    with pytest.warns(UserWarning, match="1 of 2 places have too little support for alpha=0.1"):
        sets = classifier.sets(places, probabilities)
    assert sets.tolist() == [[True, False, False], [True, True, True]]
    found = classifier.support(places)
    assert found[0] > classifier.least_support
    assert found[1] == 0
    regressor = ConformalRegressor(0.1, 300.0).calibrate(lonlat, target, target + 1)
    with pytest.warns(UserWarning, match="nothing is excluded"):
        low, high = regressor.interval(places, [3.0, 3.0])
    assert (low[1].item(), high[1].item()) == (-math.inf, math.inf)
    assert (low[0].item(), high[0].item()) == (2.0, 4.0)


def test_missing_places() -> None:
    lonlat, zero = uniform(300), torch.zeros(300)
    error = torch.randn(300, dtype=torch.float64)
    missing = torch.full((5, 2), math.nan, dtype=torch.float64)
    local = ConformalRegressor(0.1, 3000.0).calibrate(
        torch.cat([lonlat, missing]), torch.zeros(305), torch.cat([error, torch.ones(5) * 99])
    )
    plain = ConformalRegressor(0.1, math.inf).calibrate(lonlat, zero, error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert local.interval(missing[:1], [0.0]) == plain.interval(HERE, [0.0])
    assert local.support(missing[:1]).item() == 300


def test_numpy_and_lists_are_read_and_left_alone() -> None:
    rng = np.random.default_rng(0)
    lonlat, prediction = rng.uniform(-80, 80, (40, 2)), rng.normal(size=40)
    before = lonlat.copy(), prediction.copy()
    conformal = ConformalRegressor(0.2, 9000).calibrate(lonlat, prediction, prediction + 1)
    low, high = conformal.interval(lonlat.tolist(), prediction)
    np.testing.assert_allclose(high - low, 2.0)
    assert (lonlat == before[0]).all()
    assert (prediction == before[1]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConformalRegressor(0.0), "expected alpha"),
        (lambda: ConformalRegressor(0.1, -1.0), "expected bandwidth_km above 0"),
        (lambda: ConformalClassifier(score="margin"), "expected score 'lac' or 'aps'"),
        (lambda: ConformalRegressor().interval(HERE, [0.0]), "call .calibrate first"),
        (
            lambda: ConformalRegressor().calibrate(uniform(8), torch.zeros(8), torch.zeros(8)),
            "expected at least 9 calibration samples",
        ),
        (
            lambda: ConformalRegressor().calibrate(uniform(20), torch.zeros(20), torch.zeros(10)),
            "as many targets as predictions",
        ),
        (
            lambda: ConformalRegressor().calibrate(uniform(19), torch.zeros(20), torch.zeros(20)),
            "one place for each of 20 samples",
        ),
        (
            lambda: ConformalRegressor().calibrate(
                uniform(20), torch.full((20,), math.nan), torch.zeros(20)
            ),
            "expected prediction of shape",
        ),
        (
            lambda: ConformalRegressor().calibrate(
                uniform(20), torch.zeros(20), torch.zeros(20), scale=torch.zeros(20)
            ),
            "expected one scale above 0",
        ),
        (
            lambda: ConformalClassifier().calibrate(
                uniform(20), torch.randn(20, 3) * 5, torch.zeros(20)
            ),
            r"expected probabilities in \[0, 1\]",
        ),
        (
            lambda: ConformalClassifier().calibrate(
                uniform(20), torch.ones(20, 3) / 3, -torch.ones(20)
            ),
            "expected classes from 0 to 2",
        ),
        (
            lambda: ConformalClassifier().calibrate(
                uniform(20), torch.ones(20, 3) / 3, torch.zeros(19)
            ),
            "one target per row",
        ),
    ],
)
def test_errors_say_what_to_do(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert ", got " in str(caught.value)
