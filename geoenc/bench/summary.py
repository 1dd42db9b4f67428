"""All results of a folder in one table of tables, each row tested against the best floor."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoenc.bench.paired import auc_parts, block_tests, holm
from geoenc.bench.ranking import LEVEL, rank

Row = dict[str, Any]
SPLITS = ("random", "blocked", "buffered", "region")
IMAGES = "prior-times-image"
_ABOUT = ("about", "classes", "licence", "url", "control", "block_degrees")
_FAILED = ("task", "split", "row", "protocol", "error")
_NEEDED = ("task", "split", "row", "kind", "protocol", "metric", "test", "validation")


def summarise(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Mean, standard error over seeds, and the difference to the best floor, for every result.

    The best floor of a task and split is that with the best validation score: of the rows with
    images, where ``protocol`` is "prior-times-image", the best one with images. The difference is
    tested on the samples, block by block (`geoenc.bench.paired.block_tests`), and the p-values of
    one task and split are corrected after Holm.

    Args:
        folder: with ``results/TASK/SPLIT/ROW.json`` and, for the tests, ``ROW.npz`` beside them.

    Returns:
        What ``summary.json`` holds: ``made``, ``tasks``, ``ranks``, ``failed`` and ``notes``.

    Raises:
        FileNotFoundError: no results.
        ValueError: results of different splits or data in one table.
    """
    results, failed = _read(Path(folder))
    tasks: dict[str, Any] = {}
    notes: list[str] = []
    for name in sorted({result["task"] for result in results}):
        own = [result for result in results if result["task"] == name]
        _check_same(own, "data_hash", f"task {name!r}")
        _check_same(own, "metric", f"task {name!r}")
        splits = {
            split: _table([one for one in own if one["split"] == split], notes)
            for split in sorted({one["split"] for one in own}, key=_split_order)
        }
        about: Row = next((one["about"] for one in own if one.get("about")), {})
        tasks[name] = {
            **{key: about.get(key) for key in _ABOUT},
            "metric": own[0]["metric"],
            "data_hash": own[0].get("data_hash"),
            "splits": splits,
        }
    return {
        "made": {"results": len(results), "machines": _machines(results)},
        "tasks": tasks,
        "ranks": _ranks(tasks),
        "failed": failed,
        "notes": notes,
    }


def _split_order(name: str) -> tuple[int, str]:
    return (SPLITS.index(name) if name in SPLITS else len(SPLITS), name)


def _read(folder: Path) -> tuple[list[Row], list[Row]]:
    results, failed = [], []
    for path in sorted(folder.glob("results/*/*/*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            lacking = [key for key in _NEEDED if key not in result]
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise ValueError(
                f"expected one result as JSON in {str(path)!r}, got a damaged file ({error}); "
                "delete it and run that row again"
            ) from error
        result["path"] = path
        if result.get("error"):
            failed.append({key: result.get(key) for key in _FAILED})
        elif lacking or not result["test"]:
            raise ValueError(
                f"expected a result with {', '.join(_NEEDED)} in {str(path)!r}, got "
                f"{'no ' + ', '.join(lacking) if lacking else 'no test scores'}; run that row again"
            )
        elif not np.isfinite(np.array(result["test"], dtype=np.float64)).all():
            said = f"scores that are no finite numbers: {result['test']}"
            failed.append({key: result.get(key) for key in _FAILED} | {"error": said})
        else:
            results.append(result)
    for path in sorted(folder.glob("results/*/error.json")):  # of a whole task
        record = json.loads(path.read_text(encoding="utf-8"))
        failed.append({key: record.get(key) for key in _FAILED})
    if not results and not failed:
        raise FileNotFoundError(
            f"expected results/TASK/SPLIT/ROW.json in {str(folder)!r}, found none; run "
            "geoenc bench --out FOLDER first"
        )
    return results, failed


def _check_same(results: Sequence[Row], key: str, where: str) -> None:
    for other in results[1:]:
        if other.get(key) != results[0].get(key):
            raise ValueError(
                f"expected the same {key} in all results of {where}, got {results[0].get(key)!r} "
                f"in {str(results[0]['path'])!r} and {other.get(key)!r} in {str(other['path'])!r}; "
                "they cannot stand in one table: delete the older one and run that row again"
            )


def _table(results: Sequence[Row], notes: list[str]) -> Row:
    where = f"task {results[0]['task']!r}, split {results[0]['split']!r}"
    _check_same(results, "split_hash", where)
    higher = results[0].get("higher_is_better", True)
    rows = [_row(result) for result in results]
    rows.sort(key=lambda row: (row["kind"] != "floor", row["row"], row["protocol"]))
    samples = {_key(result): _samples(result, notes) for result in results}
    sign = 1 if higher else -1
    for images in (False, True):
        group = [row for row in rows if (row["protocol"] == IMAGES) == images]
        floors = [row for row in group if row["kind"] == "floor"]
        floors = floors or [row for row in rows if row["kind"] == "floor"]
        if floors:
            best = max(floors, key=lambda row: _order_of(row["validation"], sign))
            _test(group, best, samples, results[0]["metric"], sign)
    adjusted = holm([math.nan if row["p_value"] is None else row["p_value"] for row in rows])
    for row, p in zip(rows, adjusted.tolist(), strict=True):
        row["p_holm"] = None if math.isnan(p) else p
        row["significant"] = None if math.isnan(p) else p < LEVEL
    first = results[0]
    return {
        "hash": first.get("split_hash"),
        **{key: first.get(key) for key in ("num_train", "num_validation", "num_test")},
        "higher_is_better": higher,
        "rows": rows,
    }


def _order_of(value: float | None, sign: int) -> float:
    return -math.inf if value is None else sign * value


def _key(row: Row) -> tuple[str, str]:
    return row["row"], row["protocol"]


def _row(result: Row) -> Row:
    test = np.array(result["test"], dtype=np.float64)
    if result.get("deterministic"):  # the same number for every seed
        test = test[:1]
    error = test.std(ddof=1).item() / len(test) ** 0.5 if len(test) > 1 else None
    search = result.get("search") or []
    validation = float(np.mean(result["validation"])) if result["validation"] else math.nan
    return {
        **{key: result[key] for key in ("row", "kind", "protocol")},
        "file": "/".join(result["path"].parts[-4:]),
        "mean": test.mean().item(),
        "standard_error": error,
        "seeds": len(test),
        "validation": validation if math.isfinite(validation) else None,
        "best_floor": None,
        "difference": None,
        "low": None,
        "high": None,
        "p_value": None,
        "blocks": None,
        "more": {name: float(np.mean(values)) for name, values in result.get("more", {}).items()},
        "encoder": result.get("encoder"),
        "chosen": result.get("chosen"),
        "search": search,
        "search_seconds": sum(one.get("seconds") or 0.0 for one in search),
        "seconds": result.get("seconds"),
    }


def _samples(result: Row, notes: list[str]) -> dict[str, NDArray[Any]] | None:
    """The arrays of a result, with ``gain`` (S, N), higher is better; None if there are none."""
    path = result["path"].with_suffix(".npz")
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    test = np.array(result["test"], dtype=np.float64)
    if "correct" in arrays:
        gain = np.atleast_2d(arrays["correct"]).astype(np.float64)
    elif "score" in arrays:
        scores = np.atleast_2d(arrays["score"])
        gain = np.stack([auc_parts(score, arrays["target"]) for score in scores])
    elif "error" in arrays:
        gain = -np.atleast_2d(arrays["error"]).astype(np.float64)
    else:
        return None
    named = "/".join(path.parts[-3:])
    found = gain.mean(1)
    if result.get("deterministic"):
        test = test[: len(found)]
    if len(found) != len(test) or ("error" not in arrays and np.abs(found - test).max() > 1e-4):
        notes.append(f"{named}: not the samples of the scores beside it, so no test of this row")
        return None
    return {**arrays, "gain": gain}


def _test(
    group: list[Row],
    floor: Row,
    samples: dict[tuple[str, str], dict[str, NDArray[Any]] | None],
    metric: str,
    sign: int,
) -> None:
    """Difference of every row to the floor, and the test where both have samples."""
    reference = samples[_key(floor)]
    tested = []
    for row in group:
        row["best_floor"] = floor["row"]
        row["difference"] = row["mean"] - floor["mean"]
        own = samples[_key(row)]
        if row["kind"] == "floor" or own is None or reference is None or "block" not in own:
            continue
        if np.array_equal(own["row"], reference["row"]):
            tested.append((row, own))
    if not tested or reference is None:
        return
    scale = 1.0
    if metric == "r2":  # mean squared error to share of the variance
        scale = (1 - floor["mean"]) / max(-reference["gain"].mean(), 1e-300)
    pairs = [scale * (own["gain"].mean(0) - reference["gain"].mean(0)) for _, own in tested]
    found = block_tests(np.stack(pairs), tested[0][1]["block"])
    for (row, _), test in zip(tested, found, strict=True):
        ends = sorted((sign * test.low, sign * test.high))
        row["low"], row["high"] = (None if math.isnan(end) else end for end in ends)
        row["p_value"], row["blocks"] = test.p, test.blocks


def _machines(results: Sequence[Row]) -> list[Row]:
    """Versions and hardware, each once, with the number of results made so."""
    counts: dict[str, int] = {}
    for result in results:
        one = {key: result.get(key) or {} for key in ("versions", "hardware")}
        text = json.dumps(one, sort_keys=True)
        counts[text] = counts.get(text, 0) + 1
    return [{**json.loads(text), "results": count} for text, count in counts.items()]


def _ranks(tasks: dict[str, Any]) -> list[Row]:
    """Mean ranks of the rows of each protocol, with the floors, over the tasks of a split."""
    found = []
    splits = {split for task in tasks.values() for split in task["splits"]}
    for split in sorted(splits, key=_split_order):
        tables = {
            name: task["splits"][split]
            for name, task in tasks.items()
            if split in task["splits"] and not task["control"]
        }
        rows = [row for table in tables.values() for row in table["rows"]]
        for protocol in sorted({row["protocol"] for row in rows if row["kind"] != "floor"}):
            scores = {name: _scores(table, protocol) for name, table in tables.items()}
            found += _ranked(split, protocol, {name: own for name, own in scores.items() if own})
    return found


def _scores(table: Row, protocol: str) -> dict[str, float]:
    """Scores of a protocol and the floors beside it, higher is better; none without an encoder."""
    sign = 1 if table["higher_is_better"] else -1
    rows = [row for row in table["rows"] if (row["protocol"] == IMAGES) == (protocol == IMAGES)]
    if not any(row["protocol"] == protocol and row["kind"] != "floor" for row in rows):
        return {}
    return {
        row["row"]: sign * row["mean"]
        for row in rows
        if row["protocol"] == protocol or row["kind"] == "floor"
    }


def _ranked(split: str, protocol: str, scores: dict[str, dict[str, float]]) -> list[Row]:
    """The ranking of rows that half of the tasks have, over the tasks that have all of these."""
    names = [
        row
        for row in dict.fromkeys(row for own in scores.values() for row in own)
        if 2 * sum(row in own for own in scores.values()) >= len(scores)
    ]
    tasks = [name for name, own in scores.items() if all(row in own for row in names)]
    if len(tasks) < 2 or len(names) < 2:
        return []
    ranking = rank(np.array([[scores[task][name] for name in names] for task in tasks]), names)
    p = None if math.isnan(ranking.friedman_p) else ranking.friedman_p
    return [
        {
            "split": split,
            "protocol": protocol,
            "tasks": tasks,
            "names": ranking.names,
            "mean_ranks": ranking.mean_ranks,
            "friedman_p": p,
            "groups": ranking.groups,
            "pairs": [[*pair, value] for pair, value in ranking.pairs.items()],
        }
    ]
