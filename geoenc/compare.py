"""Is B better than A? Paired tests over samples, and over seeds."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.predictions import Predictions

CONFIDENCE = 0.95
RESAMPLES = 2000
_NUMBERS = 2**23
"""Resampled values at once."""


@dataclass(frozen=True)
class Difference:
    """B - A of one metric, with an interval that holds the true difference in 95 of 100 cases.

    Args:
        metric: its name.
        first, second: of A and B.
        difference: B - A.
        low, high: ends of the interval; NaN where there are too few numbers for one.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class SampleComparison:
    """Two predictions of the same samples.

    Args:
        samples: how many.
        k: a sample is right if its class is among the k highest.
        only_first, only_second: samples that only A, or only B, has right.
        p_exact, p_mid: of McNemar's test that both are as often right.
        differences: of the accuracy and the mean reciprocal rank.
    """

    samples: int
    k: int
    only_first: int
    only_second: int
    p_exact: float
    p_mid: float
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class SeedComparison:
    """One cell of two tables of results, over the seeds that both have.

    Args:
        split, fraction: which cell.
        first_method, second_method: which rows.
        seeds: how many both have.
        difference: of the metric, with the interval of the paired t-test.
        p: of the paired t-test that the means are equal; NaN for fewer than two seeds.
    """

    split: str
    fraction: float
    first_method: str
    second_method: str
    seeds: int
    difference: Difference
    p: float


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """Two-sided p-values that b and c, of b + c samples, are draws with probability 1/2.

    Exact: 2 P(X <= min(b, c)), at most 1, for X ~ Binomial(b + c, 1/2). Mid-p: P(X = min(b, c))
    enters by half, which is less conservative and still keeps its level nearly always.

    Example:
        >>> from geoenc.compare import mcnemar
        >>> exact, mid = mcnemar(2, 9)
        >>> round(exact, 4), round(mid, 4)
        (0.0654, 0.0386)

    Reference:
        Fagerland, Lydersen and Laake, The McNemar test for binary matched-pairs data: mid-p and
        asymptotic are better than exact conditional, BMC Medical Research Methodology 2013.
    """
    from scipy import stats

    total, least = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0, 1.0
    exact = float(stats.binomtest(least, total).pvalue)
    below, at = stats.binom.cdf(least - 1, total, 0.5), stats.binom.pmf(least, total, 0.5)
    return exact, min(1.0, float(2 * below + at))


def bootstrap(values: Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean: samples are drawn anew with replacement, as pairs.

    Args:
        values: differences of pairs, ``(N,)``.
        resamples: how often.
        seed: of the draws.
    """
    from scipy import stats

    array = values.double().numpy()
    if len(array) < 2:
        return math.nan, math.nan
    interval = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _NUMBERS // len(array)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare_predictions(
    first: Predictions,
    second: Predictions,
    *,
    k: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SampleComparison:
    """McNemar's test of the top-k accuracy, and bootstrap intervals of the differences.

    The samples are taken as independent: several images of one place are not quite, and then
    the intervals are too short.

    Args:
        first, second: A and B, of the same samples in any order.
        k: a sample is right if its class is among the k highest.
        resamples, seed: of the bootstrap.

    Raises:
        ValueError: other samples, or another class for the same sample.
    """
    first_rows, second_rows = _order(first), _order(second)
    _check_samples(first, second, first_rows, second_rows)
    ranks = (1 / first.rank[first_rows].double(), 1 / second.rank[second_rows].double())
    hits = (first.hits(k)[first_rows], second.hits(k)[second_rows])
    only_first, only_second = int((hits[0] & ~hits[1]).sum()), int((~hits[0] & hits[1]).sum())
    p_exact, p_mid = mcnemar(only_first, only_second)
    differences = []
    for name, (a, b) in ((f"top{k}", (hits[0].double(), hits[1].double())), ("mrr", ranks)):
        low, high = bootstrap(b - a, resamples=resamples, seed=seed)
        means = a.mean().item(), b.mean().item()
        differences.append(Difference(name, *means, (b - a).mean().item(), low, high))
    return SampleComparison(
        len(first), k, only_first, only_second, p_exact, p_mid, tuple(differences)
    )


def _order(predictions: Predictions) -> Tensor:
    """Rows by the names of the samples."""
    if isinstance(predictions.sample, Tensor):
        return predictions.sample.argsort()
    names = predictions.sample
    return torch.tensor(sorted(range(len(names)), key=names.__getitem__))


def _check_samples(first: Predictions, second: Predictions, a: Tensor, b: Tensor) -> None:
    names, others = (
        p.sample.tolist() if isinstance(p.sample, Tensor) else p.sample for p in (first, second)
    )
    if set(names) != set(others):
        raise ValueError(
            f"expected two files of the same samples, got {len(names):,} and {len(others):,}, of "
            f"which {len(set(names) & set(others)):,} are in both; predict the same part with both "
            "models"
        )
    wrong = int((first.target[a] != second.target[b]).sum())
    if wrong:
        raise ValueError(
            f"expected the same class of each sample in both files, got {wrong:,} samples of "
            f"{len(first):,} with two; make both files from the same data"
        )


def compare_results(
    first: dict[str, Any],
    second: dict[str, Any],
    *,
    methods: tuple[str, str] | None = None,
    metric: str = "top1",
) -> list[SeedComparison]:
    """Paired t-test over seeds of every cell that both tables have.

    Args:
        first, second: A and B, what ``results.json`` of a run holds; they may be the same.
        methods: the row of A and the row of B; every row with itself if None.
        metric: of the scores.

    Raises:
        ValueError: other data, other classes, or no cell in common.
    """
    settings = [r["config"]["data"] | {"seed": r["config"]["seed"]} for r in (first, second)]
    for key in settings[0].keys() & settings[1].keys():
        if settings[0][key] != settings[1][key]:
            raise ValueError(
                f"expected runs on the same samples, got {key} {settings[0][key]!r} and "
                f"{settings[1][key]!r}; repeat one of them with the settings of the other"
            )
    if first["classes"] != second["classes"]:
        raise ValueError(
            f"expected runs with the same classes, got {len(first['classes'])} and "
            f"{len(second['classes'])} that differ; repeat one of them with the data of the other"
        )
    a, b = _cells(first, metric), _cells(second, metric)
    pairs = [methods] if methods else [(m, m) for m in dict.fromkeys(cell[2] for cell in a)]
    found = []
    for split, fraction in dict.fromkeys(cell[:2] for cell in a):
        for one, other in pairs:
            x, y = a.get((split, fraction, one), {}), b.get((split, fraction, other), {})
            seeds = sorted(x.keys() & y.keys())
            if seeds:
                pair = [x[s] for s in seeds], [y[s] for s in seeds]
                found.append(_paired(split, fraction, one, other, metric, *pair))
    if not found:
        named = " and ".join(repr(m) for m in methods) if methods else "a method"
        known = ", ".join(dict.fromkeys(cell[2] for cell in (*a, *b)))
        raise ValueError(
            f"expected {metric!r} of {named} in both files, for the same split, share of labels "
            f"and seed, got none; there are {known or 'no scores of that name'}"
        )
    return found


def _cells(results: dict[str, Any], metric: str) -> dict[tuple[str, float, str], dict[int, float]]:
    cells: dict[tuple[str, float, str], dict[int, float]] = {}
    for row in results["scores"]:
        if metric in row:
            key = (row["split"], row["fraction"], row["method"])
            cells.setdefault(key, {})[row["seed"]] = row[metric]
    return cells


def _paired(
    split: str,
    fraction: float,
    one: str,
    other: str,
    metric: str,
    first: Sequence[float],
    second: Sequence[float],
) -> SeedComparison:
    from scipy import stats

    a, b = np.array(first), np.array(second)
    p = low = high = math.nan
    if len(a) > 1 and np.ptp(b - a) == 0:  # t is 0 / 0 or infinite
        p, low, high = float(bool((a == b).all())), (b - a)[0], (b - a)[0]
    elif len(a) > 1:
        test = stats.ttest_rel(b, a)
        p, (low, high) = float(test.pvalue), test.confidence_interval(CONFIDENCE)
    means = float(a.mean()), float(b.mean())
    difference = Difference(metric, *means, float((b - a).mean()), float(low), float(high))
    return SeedComparison(split, fraction, one, other, len(a), difference, p)


def compare_files(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    methods: tuple[str, str] | None = None,
    metric: str = "top1",
) -> SampleComparison | list[SeedComparison]:
    """Compare two Parquet files of predictions, or two ``results.json`` (or folders with one).

    Args:
        first, second: A and B.
        methods: for results, see `compare_results`.
        metric: ``"top1"``, ``"top5"``, ...; for results any of their scores.
    """
    paths = [Path(p) / "results.json" if Path(p).is_dir() else Path(p) for p in (first, second)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"expected a file of predictions or results, got {str(path)!r}, which does not "
                "exist; name a run's folder, its results.json, or a file below predictions/"
            )
    kinds = [path.suffix for path in paths]
    if kinds == [".json", ".json"]:
        a, b = (_results(path) for path in paths)
        return compare_results(a, b, methods=methods, metric=metric)
    if kinds != [".parquet", ".parquet"]:
        raise ValueError(
            "expected two files of predictions (.parquet) or two results (.json), got "
            f"{str(paths[0])!r} and {str(paths[1])!r}; compare files of one kind"
        )
    if methods is not None:
        raise ValueError(
            "expected --methods with results (.json), got predictions, which are of one method; "
            "leave it out"
        )
    if not (metric.startswith("top") and metric[3:].isdigit()):
        raise ValueError(f"expected metric top1, top5, ... for predictions, got {metric!r}")
    return compare_predictions(*(Predictions.load(path) for path in paths), k=int(metric[3:]))


def _results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON in {str(path)!r}, got a mistake: {error}") from error
    if not isinstance(results, dict) or not {"config", "classes", "scores"} <= results.keys():
        raise ValueError(
            f"expected the results.json of a run in {str(path)!r}, got other JSON; a run of "
            "geoenc run csp writes it"
        )
    return results


def as_json(result: SampleComparison | list[SeedComparison]) -> str:
    """The numbers of a comparison, for programs; NaN is null."""
    found = [asdict(one) for one in result] if isinstance(result, list) else asdict(result)
    return json.dumps(_without_nan(found), indent=2, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_text(result: SampleComparison | list[SeedComparison]) -> str:
    """The numbers of a comparison as a table, for people; shares in %."""
    if isinstance(result, list):
        return _seed_table(result)
    lines = [
        f"{result.samples:,} samples, the same in A and B",
        "",
        f"{'':8}{'A':>9}{'B':>9}{'B - A':>9}   95 % interval (bootstrap)",
    ]
    for one in result.differences:
        lines.append(
            f"{one.metric:8}{100 * one.first:9.2f}{100 * one.second:9.2f}"
            f"{100 * one.difference:+9.2f}   {_interval(one)}"
        )
    lines += [
        "",
        f"right in A only: {result.only_first:,}   right in B only: {result.only_second:,}",
        f"McNemar's test: p = {_p(result.p_exact)} (exact), p = {_p(result.p_mid)} (mid-p)",
    ]
    return "\n".join(lines)


def _seed_table(rows: list[SeedComparison]) -> str:
    names = [" -> ".join(dict.fromkeys((row.first_method, row.second_method))) for row in rows]
    width = max(len(name) for name in names) + 2
    lines = [
        f"{rows[0].difference.metric} in %, mean over seeds; paired t-test",
        "",
        f"{'split':10}{'labels':>7}  {'method':{width}}{'seeds':>6}{'A':>9}{'B':>9}{'B - A':>9}"
        "   95 % interval       p",
    ]
    for name, row in zip(names, rows, strict=True):
        one = row.difference
        numbers = f"{100 * one.first:9.2f}{100 * one.second:9.2f}{100 * one.difference:+9.2f}"
        lines.append(
            f"{row.split:10}{row.fraction:>7.0%}  {name:{width}}{row.seeds:6}{numbers}   "
            f"{_interval(one):18}  {_p(row.p)}"
        )
    if len(rows) > 1:
        lines += ["", f"{len(rows)} tests: about one in twenty has p < 0.05 by chance alone"]
    return "\n".join(lines)


def _interval(one: Difference) -> str:
    if math.isnan(one.low):
        return "too few seeds"
    return f"[{100 * one.low:+.2f}, {100 * one.high:+.2f}]"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
