"""The report as one HTML file that needs no network: tables, charts, maps, ranks and speed."""

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from geoenc.bench import markdown as words
from geoenc.bench.ranking import Ranking, diagram

Row = dict[str, Any]
_CHART_WIDTH, _NAMES, _LINE = 800, 270, 22
_INLINE = ((r"`([^`]+)`", r"<code>\1</code>"), (r"\*\*([^*]+)\*\*", r"<strong>\1</strong>"))


def page(
    summary: Row, *, maps: Mapping[str, Sequence[tuple[str, bytes]]], speed: Path | None = None
) -> str:
    """The whole page.

    Args:
        summary: what `geoenc.bench.summary.summarise` made.
        maps: pictures of some tasks, PNG, each with its caption.
        speed: folder of Markdown tables.
    """
    assets = resources.files("geoenc.bench")
    parts = {
        "style": assets.joinpath("report.css").read_text(encoding="utf-8"),
        "script": assets.joinpath("report.js").read_text(encoding="utf-8"),
        "lead": _lead(summary),
        "filters": _filters(summary),
        "overview": _overview(summary),
        "ranks": "".join(_ranking(one) for one in summary["ranks"]) or _NO_RANKS,
        "tasks": "".join(
            _task(name, task, maps.get(name, ())) for name, task in summary["tasks"].items()
        ),
        "speed": (shown := _speed(speed)),
        "speed_link": '<a href="#speed">Speed</a>' if shown else "",
        "made": _made(summary),
    }
    template = assets.joinpath("report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


_NO_RANKS = "<p>Ranks need two tasks that have the same rows; these results have not.</p>"


def _lead(summary: Row) -> str:
    """How often the encoders, and the hybrids, beat the floor, in one sentence for each split."""
    counts: dict[tuple[str, str], list[bool]] = {}
    for task in summary["tasks"].values():
        for split, table in task["splits"].items():
            for kind in words.kinds_of(summary):
                chosen = words.champion(table, kind)
                if chosen is not None and chosen["significant"] is not None and not task["control"]:
                    won = chosen["significant"] and words.beats(table, chosen)
                    counts.setdefault((split, kind), []).append(won)
    said = [
        f"On the <b>{escape(split)}</b> split the {escape(kind)} chosen on validation beats the "
        f"best floor significantly on {sum(won)} of {len(won)} tasks."
        for (split, kind), won in counts.items()
    ]
    failed = len(summary["failed"])
    said += [f'<a href="#made">{failed} failed.</a>'] if failed else []
    numbers = f"{len(summary['tasks'])} tasks, {summary['made']['results']:,} results."
    return f"<p>{' '.join([numbers, *said])}</p>"


def _filters(summary: Row) -> str:
    tables = [(n, s, t) for n, task in summary["tasks"].items() for s, t in task["splits"].items()]
    choices = {
        "task": list(summary["tasks"]),
        "split": list(dict.fromkeys(split for _, split, _ in tables)),
        "protocol": sorted({row["protocol"] for _, _, table in tables for row in table["rows"]}),
    }
    selects = (
        f'<label>{key.capitalize()} <select name="{key}"><option value="">all</option>'
        + "".join(f"<option>{escape(one)}</option>" for one in values)
        + "</select></label>"
        for key, values in choices.items()
    )
    search = '<label>Row <input type="search" name="row" placeholder="part of a name"></label>'
    return "".join([*selects, search])


def _table(head: str, body: Iterable[str], caption: str) -> str:
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="sortable"><caption>{escape(caption)}</caption><thead>{head}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _sorter(text: str, more: str = "") -> str:
    return f'<th scope="col"{more}><button type="button">{escape(text)}</button></th>'


def _number(text: str, value: float | None, more: str = "") -> str:
    sort = "" if value is None or math.isnan(value) else f"{value:.10g}"
    return f'<td class="number"{more} data-value="{sort}">{text}</td>'


def _overview(summary: Row) -> str:
    tasks, kinds = summary["tasks"], words.kinds_of(summary)
    splits = list(dict.fromkeys(split for task in tasks.values() for split in task["splits"]))
    titles = ["Floor", *(one for kind in kinds for one in (kind.capitalize(), "− floor"))]
    top = '<th scope="col" colspan="2"></th>'
    head = _sorter("Task") + _sorter("Metric")
    for split in splits:
        more = f' data-split="{escape(split)}"'
        top += f'<th scope="colgroup" colspan="{len(titles)}"{more}>{escape(split)}</th>'
        head += "".join(_sorter(text, more) for text in titles)
    body = []
    for name, task in tasks.items():
        mark = ' <span class="tag">control</span>' if task["control"] else ""
        cells = f'<th scope="row"><a href="#{_slug(name)}">{escape(name)}</a>{mark}</th>'
        cells += f"<td>{escape(task['metric'])}</td>"
        for split in splits:
            more = f' data-split="{escape(split)}"'
            table = task["splits"].get(split, words.NOTHING)
            cells += _score_cell(task["metric"], words.reference(table), more)
            for kind in kinds:
                chosen = words.champion(table, kind)
                cells += _score_cell(task["metric"], chosen, more, name=True)
                cells += _difference_cell(task, split, chosen, more)
        body.append(f'<tr data-task="{escape(name)}">{cells}</tr>')
    caption = "Best floor and best row of each kind, chosen on validation"
    return _table(f"<tr>{top}</tr><tr>{head}</tr>", body, caption)


def _score_cell(metric: str, row: Row | None, more: str, *, name: bool = False) -> str:
    if row is None:
        return _number("", None, more)
    text = escape(words.score(metric, row)).replace(" ±", '<span class="error"> ±', 1)
    text += "</span>" if "<span" in text else ""
    named = f'<span class="name">{escape(row["row"])}, {escape(row["protocol"])}</span>'
    return _number(text + named if name else text, row["mean"], more)


def _difference_cell(task: Row, split: str, row: Row | None, more: str) -> str:
    text = words.difference(task["metric"], row).removesuffix(" *")
    if row is None or not text:
        return _number("", None, more)
    kind, mark = "", ""
    if row["significant"]:
        good = words.beats(task["splits"][split], row)
        kind = "better" if good else "worse"
        mark = "▲ " if good else "▼ "
    found = words.interval(task["metric"], row)
    title = f' title="95 % interval {found}"' if found else ""
    return _number(
        f'<span class="{kind}"{title}>{mark}{escape(text)}</span>', row["difference"], more
    )


def _ranking(one: Row) -> str:
    ranking = Ranking(
        tuple(one["names"]),
        tuple(one["mean_ranks"]),
        len(one["tasks"]),
        math.nan if one["friedman_p"] is None else one["friedman_p"],
        {(a, b): p for a, b, p in one["pairs"]},
        tuple(tuple(group) for group in one["groups"]),
    )
    title = f"{one['split']} split, {one['protocol']}"
    friedman = words.p_value(one["friedman_p"])
    alike = f" That all rows are alike: p {_equal(friedman)} (Friedman)." if friedman else ""
    few = (
        f" With {ranking.tasks} tasks no pair can differ significantly, whatever the scores are."
        if 2.0 ** (1 - ranking.tasks) * len(ranking.pairs) > 0.05
        else ""
    )
    return (
        f'<figure data-split="{escape(one["split"])}" data-protocol="{escape(one["protocol"])}">'
        f"<h3>{escape(title)}</h3>"
        f'<div class="wide">{diagram(ranking)}</div><figcaption>Mean ranks over {ranking.tasks} '
        f"tasks, best on the right; a bar joins rows of which no pair differs (Wilcoxon, "
        f"p &lt; 0.05 after Holm).{alike}{few}</figcaption></figure>"
    )


def _equal(p: str) -> str:
    return escape(p) if p.startswith("<") else f"= {p}"


def _slug(name: str) -> str:
    return "task-" + re.sub(r"[^a-z0-9]+", "-", name.lower())


def _task(name: str, task: Row, maps: Sequence[tuple[str, bytes]]) -> str:
    facts = [words.METRIC_WORDS[task["metric"]]]
    facts += [f"{task['classes']:,} classes"] if task["classes"] else []
    facts += [f"licence {task['licence']}"] if task["licence"] else []
    facts += [words.sizes(split, table) for split, table in task["splits"].items()]
    warned = "".join(
        f'<p class="warning" role="alert">{escape(text)}.</p>' for text in words.warnings(task)
    )
    pictures = "".join(
        f'<figure class="map"><img alt="{escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, png in maps
    )
    tag = ' <span class="tag">control</span>' if task["control"] else ""
    return (
        f'<section class="task" id="{_slug(name)}" data-task="{escape(name)}">'
        f"<h3>{escape(name)}{tag}</h3><p>{escape(task['about'] or '')}</p>"
        f'<p class="facts">{escape("; ".join(facts))}.</p>{warned}'
        f"{_rows(name, task)}{_chart(name, task)}"
        f'<div class="maps">{pictures}</div>{_search(name, task)}</section>'
    )


def _rows(name: str, task: Row) -> str:
    splits, metric = task["splits"], task["metric"]
    top = '<th scope="col" colspan="2"></th>'
    head = _sorter("Row") + _sorter("Protocol")
    for split in splits:
        more = f' data-split="{escape(split)}"'
        top += f'<th scope="colgroup" colspan="3"{more}>{escape(split)}</th>'
        head += "".join(_sorter(text, more) for text in ("Score", "− floor", "p"))
    top += '<th scope="col"></th>'
    head += _sorter("Seconds")
    winners = {split: words.best(table) for split, table in splits.items()}
    body = []
    for row_name, kind, protocol, by_split in words.lines_up(task):
        tag = ' <span class="tag">floor</span>' if kind == "floor" else ""
        cells = f'<th scope="row">{escape(row_name)}{tag}</th><td>{escape(protocol)}</td>'
        for split in splits:
            row = by_split.get(split)
            more = f' data-split="{escape(split)}"'
            best = " data-best" if row is not None and row is winners[split] else ""
            cells += _score_cell(metric, row, more + best)
            cells += _difference_cell(task, split, row, more)
            p = None if row is None else row["p_holm"]
            cells += _number(escape(words.p_value(p)), p, more)
        seconds = sum(row["seconds"] or 0.0 for row in by_split.values())
        cells += _number(f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}", seconds)
        body.append(
            f'<tr class="{kind}" data-kind="{kind}" {_kept(row_name, protocol)}>{cells}</tr>'
        )
    return _table(f"<tr>{top}</tr><tr>{head}</tr>", body, f"Scores of {name}")


def _chart(name: str, task: Row) -> str:
    """Scores of all rows on one axis, with a line for the best floor of each split."""
    rows, splits = words.lines_up(task), list(task["splits"])[:2]
    scale = 100.0 if task["metric"] == "top1" else 1.0
    values = [scale * r["mean"] for *_, found in rows for s, r in found.items() if s in splits]
    if task["metric"] == "r2":  # a few rows far below zero would flatten all others
        values = [max(value, -0.5) for value in values]
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    width, height = _CHART_WIDTH, 30 + _LINE * len(rows)

    def x(value: float) -> float:
        share = (min(max(scale * value, low), high) - low) / (high - low)
        return _NAMES + (width - _NAMES - 20) * share

    label = escape(f"scores of {name}, also in the table")
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">']
    for tick in ticks:
        at = x(tick / scale)
        parts.append(f'<path class="grid" d="M{at:.1f} 20V{height}"/>')
        parts.append(f'<text x="{at:.1f}" y="13" text-anchor="middle">{tick:g}</text>')
    for number, split in enumerate(splits):
        floor = words.reference(task["splits"][split])
        if floor is not None:
            at = x(floor["mean"])
            parts.append(
                f'<path class="floor s{number}" data-split="{escape(split)}" '
                f'd="M{at:.1f} 20V{height}"/>'
            )
    for index, (row_name, kind, protocol, found) in enumerate(rows):
        y = 30 + _LINE * index + 5
        shown = row_name if kind == "floor" else f"{row_name}, {protocol}"
        shown = shown if len(shown) < 40 else f"{shown[:38]}…"
        parts.append(
            f'<g class="{kind}" data-kind="{kind}" {_kept(row_name, protocol)}>'
            f'<text x="{_NAMES - 12}" y="{y + 4}" text-anchor="end">{escape(shown)}</text>'
        )
        for number, split in enumerate(splits):
            if split in found:
                mean, error = found[split]["mean"], found[split]["standard_error"] or 0.0
                parts.append(
                    f'<g class="s{number}" data-split="{escape(split)}">'
                    f'<path d="M{x(mean - error):.1f} {y}H{x(mean + error):.1f}"/>'
                    f'<circle cx="{x(mean):.1f}" cy="{y}" r="4.5"/></g>'
                )
        parts.append("</g>")
    key = " ".join(
        f'<span class="key s{number}">{escape(split)}</span>' for number, split in enumerate(splits)
    )
    return (
        f'<figure><div class="wide">{"".join(parts)}</svg></div><figcaption>{key} mean and '
        "standard error; dashed: the best floor of that split</figcaption></figure>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers that enclose two."""
    span = max(high - low, 1e-3 * max(abs(low), abs(high), 1e-3))
    step = 10 ** math.floor(math.log10(span))
    step = next(one for one in (step / 5, step / 2, step, 2 * step) if span / one <= 8)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]


def _search(name: str, task: Row) -> str:
    """What was tried on validation, what was chosen, and what it cost."""
    head = "".join(
        _sorter(t) for t in ("Row", "Protocol", "Split", "Tried", "Seconds", "Space", "Chosen")
    )
    body = [
        _search_row(split, row)
        for split, table in task["splits"].items()
        for row in table["rows"]
        if row["search"]
    ]
    if not body:
        return ""
    table = _table(f"<tr>{head}</tr>", body, f"Search on the validation part of {name}")
    return f"<details><summary>Search space and cost</summary>{table}</details>"


def _search_row(split: str, row: Row) -> str:
    search, seconds = row["search"], row["search_seconds"]
    return (
        f'<tr {_kept(row["row"], row["protocol"])} data-split="{escape(split)}">'
        f'<th scope="row">{escape(row["row"])}</th><td>{escape(row["protocol"])}</td>'
        f"<td>{escape(split)}</td>{_number(str(len(search)), len(search))}"
        + _number(f"{seconds:,.1f}", seconds)
        + f"<td>{escape(_space(search))}</td><td>{escape(_settings(row['chosen']))}</td></tr>"
    )


def _kept(name: str, protocol: str) -> str:
    """What the filter looks at."""
    return f'data-protocol="{escape(protocol)}" data-row="{escape(name.lower())}"'


def _settings(settings: Mapping[str, Any] | None) -> str:
    return ", ".join(
        f"{key} {_short(value)}" for key, value in (settings or {}).items() if value is not None
    )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _space(search: Sequence[Row]) -> str:
    """Every setting with the values it took."""
    values: dict[str, dict[str, None]] = {}
    for one in search:
        for key, value in one["settings"].items():
            values.setdefault(key, {})[_short(value)] = None
    return "; ".join(f"{key}: {', '.join(found)}" for key, found in values.items())


def _made(summary: Row) -> str:
    rows = []
    for one in summary["made"]["machines"]:
        cells = (_settings(one[key]) for key in ("versions", "hardware"))
        rows.append(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}"
            f"{_number(str(one['results']), one['results'])}</tr>"
        )
    head = "".join(_sorter(text) for text in ("Versions", "Hardware", "Results"))
    parts = [_table(f"<tr>{head}</tr>", rows, "With what the results were made")]
    failed = [
        "<tr>" + "".join(f"<td>{escape(value or '')}</td>" for value in one.values()) + "</tr>"
        for one in summary["failed"]
    ]
    if failed:
        titles = ("Task", "Split", "Row", "Protocol", "Error")
        head = "".join(_sorter(text) for text in titles)
        parts.append(_table(f"<tr>{head}</tr>", failed, "Results that failed"))
    parts += [f"<p>{escape(note)}.</p>" for note in summary["notes"]]
    return "".join(parts)


def _speed(folder: Path | None) -> str:
    files = sorted(folder.glob("*.md")) if folder is not None else []
    if not files:
        return ""
    parts = [
        f"<section><h3>{escape(file.stem.replace('_', ' '))}</h3>"
        f"{from_markdown(file.read_text(encoding='utf-8'), file.stem.replace('_', ' '))}</section>"
        for file in files
    ]
    return f'<section id="speed"><h2>Speed</h2>{"".join(parts)}</section>'


def from_markdown(text: str, caption: str) -> str:
    """Paragraphs and tables of a generated Markdown file as HTML, tables sortable."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if len(lines) > 1 and re.fullmatch(r"\|[\s:|-]+\|", lines[1]):
            titles = [c.strip() for c in lines[0].strip()[1:-1].split("|")]
            cells = [[_inline(c.strip()) for c in line.strip()[1:-1].split("|")] for line in lines]
            body = [
                f'<tr><th scope="row">{first}</th>{"".join(_plain(cell) for cell in rest)}</tr>'
                for first, *rest in cells[2:]
            ]
            head = "".join(_sorter(title.replace("`", "") or "row") for title in titles)
            parts.append(_table(f"<tr>{head}</tr>", body, caption))
        else:
            parts.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(parts)


def _inline(text: str) -> str:
    found = escape(text, quote=False)
    for pattern, html in _INLINE:
        found = re.sub(pattern, html, found)
    return found


def _plain(cell: str) -> str:
    match = re.match(r"[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?", cell)
    if match is None:
        return f"<td>{cell}</td>"
    return _number(cell, float(match[0].replace(",", "").replace("−", "-")))
