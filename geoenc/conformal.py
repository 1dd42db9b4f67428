"""How sure is a prediction here? Conformal intervals and sets with great-circle weights."""

import math
import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoenc.coordinates import as_lonlat
from geoenc.support import kernel_blocks, support

Floats = NDArray[np.float64]

SCORES = ("lac", "aps")


@dataclass
class _Conformal:
    """Scores of calibration samples, and their weighted quantile at a place."""

    alpha: float = 0.1
    bandwidth_km: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"expected alpha, the share of misses, in (0, 1), got {self.alpha}; 0.1 is usual"
            )
        if not self.bandwidth_km > 0:
            raise ValueError(
                f"expected bandwidth_km above 0, got {self.bandwidth_km}; math.inf lets all "
                "samples count the same"
            )

    @property
    def least_support(self) -> float:
        """(1 - alpha) / alpha: with less of it, nothing is excluded at a place."""
        return (1 - self.alpha) / self.alpha * (1 - 1e-12)

    def support(self, lonlat: Any) -> Tensor:
        """sum_i w_i: how many calibration samples speak at a place, ``(..., 2)`` to ``(...)``.

        All of them speak where the place is missing (NaN).
        """
        self._check_calibrated()
        found = support(self._places, lonlat, bandwidth_km=self.bandwidth_km)
        return found.masked_fill(found.isnan(), len(self._places))

    def _remember(self, lonlat: Any, scores: Floats) -> Self:
        places = _places(lonlat, len(scores))
        known = ~places.isnan().any(1)
        if int(known.sum()) < self.least_support:
            raise ValueError(
                f"expected at least {math.ceil(self.least_support)} calibration samples with a "
                f"place for alpha={self.alpha:g}, got {int(known.sum())}; with fewer every "
                "interval is infinite, so take more samples or a larger alpha"
            )
        order = np.argsort(scores[known.numpy()], kind="stable")
        self._places = places[known][torch.from_numpy(order)]
        self._scores = scores[known.numpy()][order]
        self._level = math.nan if math.isinf(self.bandwidth_km) else self._left_out_level()
        return self

    def _left_out_level(self) -> float:
        """beta: 1 - alpha of the samples have at most this share of the weights below their score.

        Of equal scores the first counts as lower. A sample without enough support is not among
        them: nothing is excluded there.
        """
        shares = np.full(len(self._scores), np.nan)
        for rows, near, weight in kernel_blocks(self._places, self._places, self.bandwidth_km):
            weight[rows[:, None] == near] = 0
            below = np.concatenate([np.zeros((len(rows), 1)), weight.cumsum(1)], 1)
            share = below[np.arange(len(rows)), np.searchsorted(near, rows)] / (1 + below[:, -1])
            shares[rows] = np.where(below[:, -1] < self.least_support, np.nan, share)
        return _split_quantile(np.sort(shares[~np.isnan(shares)]), self.alpha)

    def _check_calibrated(self) -> None:
        if not hasattr(self, "_scores"):
            raise ValueError(
                f"expected a calibrated {type(self).__name__}, got one without samples; call "
                ".calibrate first, with samples that the model was not trained on"
            )

    def _quantile(self, lonlat: Any, rows: int) -> Floats:
        """q(x) for each place, infinite where too few samples speak."""
        self._check_calibrated()
        places = _places(lonlat, rows)
        result = np.full(rows, _split_quantile(self._scores, self.alpha))
        if math.isinf(self.bandwidth_km):
            return result
        known = (~places.isnan().any(1)).numpy().nonzero()[0]
        for block, near, weight in kernel_blocks(self._places, places[known], self.bandwidth_km):
            below = weight.cumsum(1)
            total = weight.sum(1, keepdims=True)
            rank = (below <= self._level * (1 + total)).sum(1)
            rank[total[:, 0] < self.least_support] = len(near)
            result[known[block]] = np.append(self._scores[near], np.inf)[rank]
        infinite = int(np.isinf(result).sum())
        if infinite:
            warnings.warn(
                f"{infinite} of {rows} places have too little support for alpha={self.alpha:g}, "
                f"less than about {self.least_support:.3g}, so nothing is excluded there; a larger "
                "bandwidth_km reaches further",
                stacklevel=3,
            )
        return result


@dataclass
class ConformalRegressor(_Conformal):
    """[f(x) - q(x) u(x), f(x) + q(x) u(x)], which holds y in 1 - alpha of the cases, near x too.

    q(x) is the least q with sum_i w_i [s_i <= q] > beta (1 + sum_i w_i): a quantile of the scores
    s_i = |y_i - f_i| / u_i of calibration samples, with weights w_i = exp(-d_i^2 / (2 h^2)) at the
    great-circle distance d_i (0 beyond 4 h), and of x itself, with weight 1 and an infinite score.
    beta is such that 1 - alpha of the calibration samples, each left out in turn, are held. f is
    any regressor; u is 1, or any guess of its error, such as half of a predicted range.

    With h infinite this is split conformal prediction: at least 1 - alpha over all places
    together, however wrong f is. A finite h holds near x too, as far as scores within h are alike.

    Args:
        alpha: share of misses.
        bandwidth_km: h. Shorter follows a changing error more closely and needs more samples.

    Raises:
        ValueError: fewer than (1 - alpha) / alpha calibration samples, rows that do not agree.

    Example:
        >>> import torch
        >>> from geoenc.conformal import ConformalRegressor
        >>> lonlat = torch.stack([torch.linspace(-80, 80, 400), torch.zeros(400)], -1)
        >>> error = torch.tensor([-1.0, 1.0]).repeat(200) * (1 + (lonlat[:, 0] > 0))
        >>> conformal = ConformalRegressor(0.1).calibrate(lonlat, torch.zeros(400), error)
        >>> low, high = conformal.interval([(-40.0, 0.0), (40.0, 0.0)], [5.0, 5.0])
        >>> low, high
        (tensor([4., 3.], dtype=torch.float64), tensor([6., 7.], dtype=torch.float64))

    Reference:
        Lei et al., JASA 2018 (split conformal, u); Tibshirani et al., NeurIPS 2019 (weighted
        quantile); Guan, Biometrika 2023 (beta); Mao, Martin and Reich, JASA 2024 (places).

    Differs:
        Guan finds beta anew at each x, with x among the samples: exact, and n times the work.
    """

    def calibrate(self, lonlat: Any, prediction: Any, target: Any, *, scale: Any = None) -> Self:
        """Remember the errors at samples that the regressor was not trained on.

        Args:
            lonlat: their places, as `geoenc.as_lonlat` reads them; NaN is left out.
            prediction: f_i.
            target: y_i.
            scale: u_i, above 0.

        Shape:
            ``(N, 2)``, then ``(N,)`` each.
        """
        value, wanted = _numbers(prediction, "prediction"), _numbers(target, "target")
        if value.shape != wanted.shape:
            raise ValueError(
                f"expected as many targets as predictions, got {wanted.shape} and {value.shape}"
            )
        return self._remember(lonlat, np.abs(wanted - value) / _scale(scale, value))

    def interval(self, lonlat: Any, prediction: Any, *, scale: Any = None) -> tuple[Tensor, Tensor]:
        """Both ends of the intervals; infinite, with a warning, where too few samples are near.

        A missing place (NaN) gets the interval of ordinary split conformal prediction.

        Shape:
            ``(N, 2)`` and ``(N,)`` to two of ``(N,)`` float64.
        """
        value = _numbers(prediction, "prediction")
        half = torch.from_numpy(self._quantile(lonlat, len(value)) * _scale(scale, value))
        middle = torch.from_numpy(value)
        return middle - half, middle + half


@dataclass
class ConformalClassifier(_Conformal):
    """{k : s(x, k) <= q(x)}, which holds the true class in 1 - alpha of the cases, near x too.

    q(x) is the weighted quantile of the scores s_i = s(x_i, y_i) of calibration samples, as for
    `ConformalRegressor`. With p_k the probability that any classifier gives to class k:

    - ``"lac"``: s = 1 - p_k, the smallest sets on average; empty where no class is likely.
    - ``"aps"``: s = sum of p_j over the classes more likely than k: never empty, and larger where
      the classifier is in doubt.

    Args:
        alpha: share of misses.
        bandwidth_km: h, as for `ConformalRegressor`.
        score: ``"lac"`` or ``"aps"``.

    Example:
        >>> import torch
        >>> from geoenc.conformal import ConformalClassifier
        >>> lonlat, target = torch.zeros(20, 2), torch.tensor([0, 1] * 10)
        >>> probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2]]).repeat(10, 1)
        >>> conformal = ConformalClassifier(0.1).calibrate(lonlat, probabilities, target)
        >>> conformal.sets([(1.0, 0.0)], [[0.5, 0.5, 0.0]])
        tensor([[ True,  True, False]])

    Reference:
        Sadinle, Lei and Wasserman, JASA 2019 (LAC); Romano, Sesia and Candes, NeurIPS 2020 (APS).

    Differs:
        APS without its random number; of equally likely classes the first counts as more likely.
    """

    score: str = "lac"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in SCORES:
            raise ValueError(f"expected score 'lac' or 'aps', got {self.score!r}")

    def calibrate(self, lonlat: Any, probabilities: Any, target: Any) -> Self:
        """Remember the scores of samples that the classifier was not trained on.

        Args:
            lonlat: their places, as `geoenc.as_lonlat` reads them; NaN is left out.
            probabilities: p, in [0, 1].
            target: y_i, the number of the true class.

        Shape:
            ``(N, 2)``, ``(N, K)`` and ``(N,)``.
        """
        scores, classes = self._all_scores(probabilities), _numbers(target, "target")
        if classes.shape != scores.shape[:1]:
            raise ValueError(
                f"expected one target per row of probabilities, got {classes.shape} and "
                f"{scores.shape}"
            )
        label = classes.astype(np.int64)
        if bool((label != classes).any() or (label < 0).any() or (label >= scores.shape[1]).any()):
            raise ValueError(
                f"expected classes from 0 to {scores.shape[1] - 1}, got others; leave samples "
                "without a label out"
            )
        return self._remember(lonlat, scores[np.arange(len(label)), label])

    def sets(self, lonlat: Any, probabilities: Any) -> Tensor:
        """Which classes cannot be excluded; all, with a warning, where too few samples are near.

        A missing place (NaN) gets the set of ordinary split conformal prediction.

        Shape:
            ``(N, 2)`` and ``(N, K)`` to ``(N, K)`` booleans.
        """
        scores = self._all_scores(probabilities)
        return torch.from_numpy(scores <= self._quantile(lonlat, len(scores))[:, None])

    def _all_scores(self, probabilities: Any) -> Floats:
        p = _numbers(probabilities, "probabilities", dimensions=2)
        if bool((p < 0).any() or (p > 1 + 1e-6).any()):
            raise ValueError(
                f"expected probabilities in [0, 1], got {p.min():.3g} to {p.max():.3g}; pass "
                "logits.softmax(-1)"
            )
        if self.score == "lac":
            return 1 - p
        order = np.argsort(-p, axis=1, kind="stable")
        scores = np.empty_like(p)
        likely = np.take_along_axis(p, order, 1)
        np.put_along_axis(scores, order, likely.cumsum(1) - likely, 1)
        return scores


def _split_quantile(ascending: Floats, alpha: float) -> float:
    """The ceil((1 - alpha) (n + 1))-th smallest of n numbers, infinite if there are fewer."""
    rank = math.ceil((1 - alpha) * (len(ascending) + 1) * (1 - 1e-12))
    return float(ascending[rank - 1]) if rank <= len(ascending) else math.inf


def _places(lonlat: Any, rows: int) -> Tensor:
    places = as_lonlat(lonlat, missing=True).double().cpu()
    if places.shape != (rows, 2):
        raise ValueError(
            f"expected one place for each of {rows} samples, got lonlat of shape "
            f"{tuple(places.shape)}; pass ({rows}, 2), NaN where the place is not known"
        )
    return places


def _scale(scale: Any, value: Floats) -> Floats:
    if scale is None:
        return np.ones_like(value)
    given = _numbers(scale, "scale")
    if given.shape != value.shape or not bool((given > 0).all()):
        raise ValueError(
            f"expected one scale above 0 per prediction, got shape {given.shape} and values from "
            f"{given.min(initial=np.inf):.3g}; add a small number to scales that may be 0"
        )
    return given


def _numbers(values: Any, name: str, dimensions: int = 1) -> Floats:
    """Finite numbers of a tensor, array, list or column as float64."""
    given = values.detach().cpu() if isinstance(values, Tensor) else values
    array = np.asarray(given, dtype=np.float64)
    if array.ndim != dimensions or not bool(np.isfinite(array).all()):
        shape = "(N,)" if dimensions == 1 else "(N, K)"
        raise ValueError(
            f"expected {name} of shape {shape} without NaN or infinity, got shape {array.shape} "
            f"with {int((~np.isfinite(array)).sum())} such values; leave those rows out"
        )
    return array
