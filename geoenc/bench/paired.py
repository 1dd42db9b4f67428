"""Is a row better than the floor? Paired tests that draw blocks of places, not samples."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoenc.compare import CONFIDENCE, RESAMPLES

Floats = NDArray[np.float64]
FLIPS = 9999
_NUMBERS = 2**23
"""Drawn values at once."""


class BlockTest(NamedTuple):
    """The mean difference of pairs, with what is known of it from other blocks of places.

    Args:
        difference: mean over samples.
        low, high: ends of the bootstrap interval over blocks; NaN for one block.
        p: of the test that in each block the difference could as well have the other sign.
        blocks: how many.
    """

    difference: float
    low: float
    high: float
    p: float
    blocks: int


def block_tests(
    differences: Floats,
    block: Any,
    *,
    flips: int = FLIPS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[BlockTest]:
    """p = P(|sum_b f_b D_b| >= |sum_b D_b|), f_b = 1 or -1 at random, D_b the sum in block b.

    Neighbours are right or wrong together, so that samples are not independent; blocks nearly
    are. With one sample in each block and differences of hits, this is McNemar's exact test. All
    2^B signs are tried where these are no more than ``flips`` + 1. The interval is that of the
    ratio of sums over blocks drawn anew with replacement.

    Args:
        differences: of each sample, higher is better, one row for each of R comparisons.
        block: of each sample, any numbers.
        flips, resamples: how often signs, and blocks, are drawn.
        seed: of the draws.

    Shape:
        differences ``(R, N)``, block ``(N,)``.

    Example:
        >>> import numpy as np
        >>> from geoenc.bench.paired import block_tests
        >>> apart, together = np.arange(8), np.repeat([0, 1], 4)
        >>> [round(block_tests(np.ones((1, 8)), b)[0].p, 4) for b in (apart, together)]
        [0.0078, 0.5]
    """
    differences = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    rows, samples = differences.shape
    if samples == 0 or np.shape(block) != (samples,):
        raise ValueError(
            f"expected a block for each of at least one sample, got {np.shape(block)} for "
            f"{samples} samples; number the block of each row"
        )
    number = np.unique(np.asarray(block), return_inverse=True)[1].reshape(-1)
    counts: Floats = np.bincount(number).astype(np.float64)
    sums: Floats = np.stack([np.bincount(number, weights=row) for row in differences], 1)
    generator = np.random.default_rng(seed)
    total = sums.sum(0)
    p = _sign_flips(sums, total, flips, generator)
    means = _bootstrap(sums, counts, resamples, generator)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    if len(counts) < 2:
        low, high = np.full((2, rows), math.nan)
    return [
        BlockTest(float(mean), float(start), float(end), float(chance), len(counts))
        for mean, start, end, chance in zip(total / samples, low, high, p, strict=True)
    ]


def _sign_flips(sums: Floats, total: Floats, flips: int, generator: np.random.Generator) -> Floats:
    blocks = len(sums)
    least = np.abs(total) * (1 - 1e-12)
    if 2**blocks <= flips + 1:
        signs = 1 - 2.0 * (np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1)
        return (np.abs(signs @ sums) >= least).mean(0)
    reached, at_once = np.ones(sums.shape[1]), max(1, _NUMBERS // blocks)
    for start in range(0, flips, at_once):
        size = (min(at_once, flips - start), blocks)
        signs = 1 - 2.0 * generator.integers(0, 2, size, dtype=np.int8)
        reached += (np.abs(signs @ sums) >= least).sum(0)
    return reached / (flips + 1)


def _bootstrap(
    sums: Floats, counts: Floats, resamples: int, generator: np.random.Generator
) -> Floats:
    blocks, means = len(sums), []
    at_once = max(1, _NUMBERS // blocks)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(0, blocks, (size, blocks))
        drawn += blocks * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * blocks).reshape(size, blocks)
        means.append(times @ sums / (times @ counts)[:, None])
    return np.concatenate(means)


def auc_parts(score: Any, target: Any) -> Floats:
    """Numbers of the samples whose mean is the area A under the ROC curve.

    With V the share of samples of the other class that a sample is on the right side of, ties
    by half: A + N / N_c (V - A) for a sample of class c. Their variance is that of A
    (DeLong), so that A can be compared and resampled as a mean.

    Args:
        score: higher for class 1.
        target: 0 or 1.

    Shape:
        both ``(N,)``, and the result.

    Example:
        >>> from geoenc.bench.paired import auc_parts
        >>> auc_parts([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1]).mean().item()
        0.75

    Reference:
        DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated
        receiver operating characteristic curves, Biometrics 1988; ranks as Sun and Xu 2014.
    """
    from scipy.stats import rankdata

    score, positive = np.asarray(score, dtype=np.float64), np.asarray(target) == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise ValueError(
            f"expected samples of both classes, got {ones} of class 1 and {zeros} of class 0; "
            "the area under the curve is of two"
        )
    rank = rankdata(score)
    share = np.empty(len(score))
    share[positive] = (rank[positive] - rankdata(score[positive])) / zeros
    share[~positive] = 1 - (rank[~positive] - rankdata(score[~positive])) / ones
    area = share[positive].mean()
    return area + len(score) / np.where(positive, ones, zeros) * (share - area)


def holm(p: Any) -> Floats:
    """p-values of several tests such that any p < a by chance alone has probability at most a.

    Of the sorted p, each is multiplied by the number of tests not yet done; NaN is no test.

    Example:
        >>> from geoenc.bench.paired import holm
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 1979.
    """
    p = np.asarray(p, dtype=np.float64)
    order = p.argsort()[: int((~np.isnan(p)).sum())]
    adjusted = np.full(len(p), math.nan)
    stepped = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted
