"""Which encoder is good on most tasks? Mean ranks, and the differences one can believe."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from geoenc.bench.paired import holm

LEVEL = 0.05


@dataclass(frozen=True)
class Ranking:
    """Rows by their mean rank over tasks.

    Args:
        names: from the best mean rank to the worst.
        mean_ranks: of each; 1 is best.
        tasks: over how many.
        friedman_p: of the test that all rows are alike; NaN for fewer than 3 rows or 2 tasks.
        pairs: ``(first, second)``: p of Wilcoxon's signed-rank test, corrected after Holm.
        groups: first and last row of runs in which no pair differs; none is inside another.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    tasks: int
    friedman_p: float
    pairs: dict[tuple[str, str], float]
    groups: tuple[tuple[int, int], ...]


def rank(scores: NDArray[np.float64], names: Sequence[str]) -> Ranking:
    """Mean over tasks of the rank of each row; Wilcoxon's test, corrected after Holm, of each pair.

    Equal scores share their ranks. The pairs are tested by signed ranks of the differences, not
    by the mean ranks as Nemenyi's test does, so that a third row cannot change what is said of two.

    Args:
        scores: higher is better, none missing; tasks in rows.
        names: of the columns.

    Shape:
        scores ``(T, R)``.

    Example:
        >>> import numpy as np
        >>> from geoenc.bench.ranking import rank
        >>> task = np.arange(8.0)
        >>> found = rank(np.stack([task, task + 1 + task / 10], -1), ["worse", "better"])
        >>> found.names, found.mean_ranks, round(found.pairs["better", "worse"], 4)
        (('better', 'worse'), (1.0, 2.0), 0.0078)

    Reference:
        Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006; Benavoli
        et al., Should we really use post-hoc tests based on mean-ranks?, JMLR 2016.
    """
    from scipy import stats

    tasks, rows = scores.shape
    if rows != len(names) or rows < 2 or not np.isfinite(scores).all():
        raise ValueError(
            f"expected finite scores of at least 2 rows, one column for each of {len(names)} "
            f"names, got shape {scores.shape}; leave out tasks that lack a row"
        )
    mean_ranks = stats.rankdata(-scores, axis=1).mean(0)
    order = mean_ranks.argsort(kind="stable")
    ordered, sorted_names = scores[:, order], tuple(names[i] for i in order)
    friedman = float("nan")
    if rows > 2 and tasks > 1 and np.ptp(scores, axis=1).any():
        friedman = float(stats.friedmanchisquare(*scores.T).pvalue)
    columns = list(combinations(range(rows), 2))
    raw = [_wilcoxon(ordered[:, a] - ordered[:, b]) for a, b in columns]
    p = dict(zip(columns, holm(raw).tolist(), strict=True))
    return Ranking(
        names=sorted_names,
        mean_ranks=tuple(mean_ranks[order].tolist()),
        tasks=tasks,
        friedman_p=friedman,
        pairs={(sorted_names[a], sorted_names[b]): p[a, b] for a, b in columns},
        groups=_groups(rows, p),
    )


def _wilcoxon(difference: NDArray[np.float64]) -> float:
    from scipy import stats

    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference).pvalue)


def _groups(rows: int, p: dict[tuple[int, int], float]) -> tuple[tuple[int, int], ...]:
    groups: list[tuple[int, int]] = []
    for first in range(rows):
        last = first
        while last + 1 < rows and all(p[i, last + 1] >= LEVEL for i in range(first, last + 1)):
            last += 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return tuple(groups)


def diagram(ranking: Ranking, *, width: int = 800) -> str:
    """Critical-difference diagram: rows on an axis of mean ranks; bars join what does not differ.

    Args:
        ranking: what `rank` found.
        width: in pixels.

    Returns:
        An SVG element, in the text colour of the page.
    """
    rows = len(ranking.names)
    left, right, line = 250, width - 250, 20
    lowest, highest = 1, max(2, rows)

    def x(value: float) -> float:
        return right - (right - left) * (value - lowest) / (highest - lowest)

    half = (rows + 1) // 2
    bars = 34 + 9 * len(ranking.groups)
    height = bars + 12 + line * half
    step = max(1, (highest - lowest) // 10)
    parts = [
        f'<svg class="ranks" viewBox="0 0 {width} {height}" role="img" aria-label='
        f'"{escape(_said(ranking))}">',
        f'<path d="M{left} 26H{right}" class="axis"/>',
    ]
    for tick in range(lowest, highest + 1, step):
        parts.append(f'<path d="M{x(tick):.1f} 21v5" class="axis"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="15" text-anchor="middle">{tick}</text>')
    for number, (first, last) in enumerate(ranking.groups):
        ends = (x(ranking.mean_ranks[i]) for i in (first, last))
        start, end = (value + shift for value, shift in zip(ends, (4, -4), strict=True))
        parts.append(f'<path d="M{start:.1f} {35 + 9 * number}H{end:.1f}" class="group"/>')
    for index, (name, mean) in enumerate(zip(ranking.names, ranking.mean_ranks, strict=True)):
        best = index < half  # named on the right, where low ranks are
        y = bars + 12 + line * (index if best else rows - 1 - index)
        edge, anchor, at = (
            (right + 8, "start", right + 12) if best else (left - 8, "end", left - 12)
        )
        parts.append(f'<path d="M{x(mean):.1f} 26V{y}H{edge}" class="lead"/>')
        label = f"{mean:.1f}  {name}" if best else f"{name}  {mean:.1f}"
        parts.append(f'<text x="{at}" y="{y + 4}" text-anchor="{anchor}">{escape(label)}</text>')
    return "".join([*parts, "</svg>"])


def _said(ranking: Ranking) -> str:
    shown = zip(ranking.names, ranking.mean_ranks, strict=True)
    return "mean ranks: " + ", ".join(f"{name} {mean:.1f}" for name, mean in shown)
