"""Tables of a summary in Markdown, and the words that every report shares."""

from typing import Any

Row = dict[str, Any]
METRIC_WORDS = {
    "top1": "top-1 accuracy in %",
    "r2": "share of the variance explained, R²",
    "auc": "area under the ROC curve",
}
_SCALES = {"top1": (100.0, 2), "r2": (1.0, 3), "auc": (1.0, 3)}


def score(metric: str, row: Row | None) -> str:
    """Mean ± standard error of a row; empty for no row."""
    if row is None:
        return ""
    scale, digits = _SCALES[metric]
    text = f"{scale * row['mean']:z.{digits}f}"
    error = row["standard_error"]
    return text if error is None else f"{text} ± {scale * error:.{digits}f}"


def difference(metric: str, row: Row | None) -> str:
    """Difference to the best floor, with a star where it is significant; empty for that floor."""
    if row is None or row["difference"] is None or is_reference(row):
        return ""
    scale, digits = _SCALES[metric]
    star = " *" if row["significant"] else ""
    return f"{scale * row['difference']:+z.{digits}f}{star}"


def interval(metric: str, row: Row) -> str:
    """The interval of the difference; empty without a test."""
    if row["low"] is None:
        return ""
    scale, digits = _SCALES[metric]
    return f"{scale * row['low']:+.{digits}f} to {scale * row['high']:+.{digits}f}"


def p_value(value: float | None) -> str:
    """Three digits, or that it is less."""
    return "" if value is None else "< 0.001" if value < 1e-3 else f"{value:.3f}"


def is_reference(row: Row) -> bool:
    """Whether a row is the floor that others are compared with."""
    return bool(row["kind"] == "floor" and row["row"] == row["best_floor"])


def lines_up(task: Row) -> list[tuple[str, str, str, dict[str, Row]]]:
    """Each row once, with its results by split: (row, kind, protocol, results), floors first.

    Floors keep their order, the others come by their score in the first split, best first.
    """
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for name, table in task["splits"].items():
        for row in table["rows"]:
            found.setdefault((row["row"], row["kind"], row["protocol"]), {})[name] = row
    first = next(iter(task["splits"].values()))
    sign = 1 if first["higher_is_better"] else -1

    def order(item: tuple[tuple[str, str, str], dict[str, Row]]) -> tuple[bool, float, str]:
        (name, kind, _), by_split = item
        shown = next((by_split[s]["mean"] for s in task["splits"] if s in by_split), 0.0)
        return kind != "floor", 0.0 if kind == "floor" else -sign * shown, name

    return [(*key, by_split) for key, by_split in sorted(found.items(), key=order)]


def best(table: Row, *, by: str = "mean") -> Row | None:
    """The row with the best mean, or validation score, of a split of a task."""
    sign = 1 if table["higher_is_better"] else -1
    rows = [row for row in table["rows"] if row[by] is not None]
    return max(rows, key=lambda row: sign * row[by], default=None)


def reference(table: Row) -> Row | None:
    """The floor that rows without images are compared with."""
    floors = [row for row in table["rows"] if is_reference(row)]
    return next(iter(sorted(floors, key=lambda row: row["protocol"] == "prior-times-image")), None)


def warnings(task: Row) -> list[str]:
    """Rows that beat the floor where place should not help."""
    if not task["control"]:
        return []
    return [
        f"{row['row']} ({row['protocol']}) beats the floor on the {split} split by "
        f"{difference(task['metric'], row).removesuffix(' *')}, where place should not help: "
        "look for rows of one place on both sides of the split"
        for split, table in task["splits"].items()
        for row in table["rows"]
        if row["significant"] and beats(table, row)
    ]


def beats(table: Row, row: Row) -> bool:
    """Whether the difference to the floor has the good sign."""
    return bool((row["difference"] > 0) == table["higher_is_better"] and row["difference"])


def sizes(split: str, table: Row) -> str:
    """Places of the three parts and the hash of the split."""
    parts = [table[f"num_{part}"] for part in ("train", "validation", "test")]
    shown = " / ".join("?" if part is None else f"{part:,}" for part in parts)
    return f"{split}: {shown} places to train / validate / test, split {table['hash']}"


def task_table(task: Row) -> str:
    """One task as a Markdown table: the splits side by side, floors first, best numbers bold."""
    metric, splits = task["metric"], task["splits"]
    top = {name: best(table) for name, table in splits.items()}
    lines = [f"> **Warning:** {text}." for text in warnings(task)]
    lines += [""] if lines else []
    header = ["row", "protocol", *(cell for name in splits for cell in (name, "− floor"))]
    lines.append(f"| {' | '.join(header)} |")
    lines.append(f"| --- | --- |{' ---: |' * (len(header) - 2)}")
    for name, kind, protocol, by_split in lines_up(task):
        cells = [f"{name} (floor)" if kind == "floor" else f"`{name}`", protocol]
        for split in splits:
            row = by_split.get(split)
            text = score(metric, row)
            cells.append(f"**{text}**" if row is not None and row is top[split] else text)
            cells.append(difference(metric, row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _legend(task), ""])


def _legend(task: Row) -> str:
    parts = "; ".join(sizes(name, table) for name, table in task["splits"].items())
    side = f" of {task['block_degrees']:g}°" if task["block_degrees"] else ""
    return (
        f"{METRIC_WORDS[task['metric']]}, mean ± standard error over seeds. "
        "− floor: difference to the floor that is best on validation; * significant: p < 0.05 in "
        f"a paired test over spatial blocks{side}, after Holm over the rows of a split. {parts}."
    )


def overview(summary: Row) -> str:
    """One line for each task: the best floor, and the rows chosen on validation, by split."""
    tasks, kinds = summary["tasks"], kinds_of(summary)
    splits = list(dict.fromkeys(name for task in tasks.values() for name in task["splits"]))
    of_split = ["floor", *(title for kind in kinds for title in (kind, "− floor"))]
    header = ["task", "metric"]
    for split in splits:
        header += [f"{split}: floor", *of_split[1:]]
    rule = " ---: |" + " --- | ---: |" * len(kinds)
    lines = [f"| {' | '.join(header)} |", f"| --- | --- |{rule * len(splits)}"]
    for name, task in tasks.items():
        cells = [f"{name} (control)" if task["control"] else name, task["metric"]]
        for split in splits:
            table = task["splits"].get(split, NOTHING)
            cells.append(score(task["metric"], reference(table)))
            for kind in kinds:
                chosen = champion(table, kind)
                cells += [named(task["metric"], chosen), difference(task["metric"], chosen)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "The row of each cell is that with the best validation score of its kind.", ""]
    for one in summary["failed"]:
        where = ", ".join(one[key] for key in ("task", "split", "row") if one[key])
        lines.append(f"- failed: {where}: {one['error']}")
    lines += [f"- {note}" for note in summary["notes"]]
    lines += [f"- **Warning:** {n}: {w}" for n, task in tasks.items() for w in warnings(task)]
    return "\n".join(lines).rstrip() + "\n"


NOTHING: Row = {"rows": [], "higher_is_better": True}
"""A split that a task has not."""


def kinds_of(summary: Row) -> list[str]:
    """Kinds of rows beside the floors: encoder, hybrid."""
    tables = (table for task in summary["tasks"].values() for table in task["splits"].values())
    return sorted({row["kind"] for table in tables for row in table["rows"]} - {"floor"})


def champion(table: Row, kind: str) -> Row | None:
    """The row of a kind with the best validation score, of those compared with `reference`."""
    floor = reference(table)
    name = None if floor is None else floor["row"]
    rows = [r for r in table["rows"] if r["kind"] == kind and r["best_floor"] == name]
    return best({**table, "rows": rows}, by="validation")


def named(metric: str, row: Row | None) -> str:
    """The score and the name of a row."""
    return "" if row is None else f"{score(metric, row)} `{row['row']}`, {row['protocol']}"
