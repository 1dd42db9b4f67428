"""What a run says at its end: the table, all scores as JSON, maps and curves."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from geoenc._files import atomic_path, write_text
from geoenc._optional import require
from geoenc.encoder import LocationEncoder
from geoenc.models import LocationClassifier
from geoenc.pretrained import from_pretrained
from geoenc.recipes.config import Config

BASELINE, PROPOSED = "Sup. Only (grid)", "CSP-MC-BLD"


def write(
    config: Config,
    folder: Path,
    rows: list[dict[str, Any]],
    classes: tuple[str, ...],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Write ``results.json``, ``table.md``, ``location.md`` and ``figures/`` of a finished run."""
    cells = {
        (split, seed, fraction, method)
        for split in config.table.splits
        for seed in range(config.table.seeds)
        for fraction in config.table.fractions
        for method in config.methods
    }
    order = list(config.methods)
    kept = [row for row in rows if tuple(row[k] for k in KEYS) in cells]
    kept.sort(
        key=lambda r: (
            config.table.splits.index(r["split"]),
            r["seed"],
            r["fraction"],
            order.index(r["method"]),
        )
    )
    results = {
        "config": dataclasses.asdict(config),
        "environment": environment,
        "classes": list(classes),
        "summary": summary(config, kept),
        "differences": differences(config, kept),
        "scores": kept,
    }
    write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(folder / "table.md", table(config, results))
    write_text(folder / "location.md", location_table(config, results))
    figures(config, folder, results)
    return results


KEYS = ("split", "seed", "fraction", "method")


def summary(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of every cell of the table."""
    cells = []
    for split in config.table.splits:
        for method in config.methods:
            for fraction in config.table.fractions:
                found = [
                    row
                    for row in rows
                    if (row["split"], row["method"], row["fraction"]) == (split, method, fraction)
                ]
                cell = {"split": split, "method": method, "fraction": fraction, "n": len(found)}
                for metric in ("top1", "location_top1", "mrr"):
                    values = [row[metric] for row in found if metric in row]
                    if values:
                        cell[metric] = mean(values)
                        cell[f"{metric}_std"] = deviation(values)
                cells.append(cell)
    return cells


def differences(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """CSP-MC-BLD minus Sup. Only (grid), paired by seed: mean and standard error."""
    if not {BASELINE, PROPOSED} <= set(config.methods):
        return []
    score = {tuple(row[k] for k in KEYS): row["top1"] for row in rows}
    found = []
    for split in config.table.splits:
        for fraction in config.table.fractions:
            gains = [
                score[split, seed, fraction, PROPOSED] - score[split, seed, fraction, BASELINE]
                for seed in range(config.table.seeds)
            ]
            error = deviation(gains) / math.sqrt(len(gains))
            found.append(
                {"split": split, "fraction": fraction, "mean": mean(gains), "standard_error": error}
            )
    return found


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def deviation(values: list[float]) -> float:
    """Standard deviation of a sample; 0 for one value."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def table(config: Config, results: dict[str, Any]) -> str:
    """Markdown in the form of the paper's Table 1: methods by share of labels, for each split."""
    seeds = f"{config.table.seeds} seed{'s' * (config.table.seeds > 1)}"
    lines = [
        f"Top-1 accuracy in % of P(y | image) P(y | place) on the test part: mean (standard "
        f"deviation) over {seeds}.",
        *_tables(config, results, "top1"),
    ]
    if results["differences"]:
        lines += ["", f"{PROPOSED} minus {BASELINE}, paired by seed, mean (standard error):", ""]
        for split in config.table.splits:
            gains = [
                f"{d['fraction']:.0%} labels {100 * d['mean']:+.2f} "
                f"({100 * d['standard_error']:.2f})"
                for d in results["differences"]
                if d["split"] == split
            ]
            lines.append(f"- {split} split: {', '.join(gains)}")
    return "\n".join(lines) + "\n"


def location_table(config: Config, results: dict[str, Any]) -> str:
    """The same table for P(y | place) alone, over test samples whose place is known."""
    lines = [
        f"Top-1 accuracy in % of P(y | place) alone on the test part: mean (standard deviation) "
        f"over {config.table.seeds} seed{'s' * (config.table.seeds > 1)}.",
        *_tables(config, results, "location_top1"),
    ]
    return "\n".join(lines) + "\n"


def _tables(config: Config, results: dict[str, Any], metric: str) -> list[str]:
    """One table for each split, the best of each column in bold."""
    cells = {(c["split"], c["method"], c["fraction"]): c for c in results["summary"]}
    fractions = config.table.fractions
    lines = []
    for split in config.table.splits:
        rows = [m for m in config.methods if metric in cells[split, m, fractions[0]]]
        if not rows:
            continue
        best = {f: max(cells[split, m, f][metric] for m in rows) for f in fractions}
        header = " | ".join(f"{fraction:.0%} labels" for fraction in fractions)
        lines += ["", f"| {split} split | {header} |", "|---" * (len(fractions) + 1) + "|"]
        for method in rows:
            row = []
            for fraction in fractions:
                cell = cells[split, method, fraction]
                number = f"{100 * cell[metric]:.2f}"
                if cell[metric] == best[fraction]:
                    number = f"**{number}**"
                row.append(f"{number} ({100 * cell[f'{metric}_std']:.2f})")
            lines.append(f"| {method} | {' | '.join(row)} |")
    return lines


def figures(config: Config, folder: Path, results: dict[str, Any]) -> None:
    """Draw every picture of a run that its results allow."""
    require("matplotlib", extra="plot").use("Agg")
    _save(few_shot_curves(config, results), folder / "figures" / "few-shot.png")
    _save(learning_curves(config, folder), folder / "figures" / "learning-curves.png")
    for split in config.table.splits:
        path = folder / "pretrained" / split
        if (path / "csp-mc-bld-0" / "config.json").is_file():
            encoder = from_pretrained(path / "csp-mc-bld-0", expected=LocationEncoder)
            _save(embedding_map(encoder), folder / "figures" / f"embedding-{split}.png")
        maps = folder / "classifiers" / split
        pair = [maps / "sup-only-grid", maps / "csp-mc-bld"]
        if all((path / "config.json").is_file() for path in pair):
            figure = class_maps(config, pair, results["classes"], min(config.table.fractions))
            _save(figure, folder / "figures" / f"classes-{split}.png")


def few_shot_curves(config: Config, results: dict[str, Any]) -> Any:
    """Accuracy against the share of labels, one line per method, one panel per split."""
    from geoenc.plot import few_shot_curves as curves

    pyplot = require("matplotlib.pyplot", extra="plot")
    splits = config.table.splits
    size = (5 * len(splits), 4)
    figure, axes = pyplot.subplots(
        1, len(splits), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for ax, split in zip(axes[0], splits, strict=True):
        curves(results, split=split, ax=ax)
        ax.set_title(f"{split} split")
    return figure


def learning_curves(config: Config, folder: Path) -> Any:
    """Pre-training loss by epoch, one panel per objective, one line per split and seed."""
    from geoenc.plot import PALETTE

    pyplot = require("matplotlib.pyplot", extra="plot")
    curves: dict[str, list[tuple[str, list[float]]]] = {}
    for path in sorted((folder / "pretrained").glob("*/*/config.json")):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        curves.setdefault(metadata["method"], []).append(
            (path.parent.parent.name, metadata["loss"])
        )
    panels = [method for method in config.methods if method in curves] or ["no pre-training"]
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False, layout="constrained"
    )
    colours: dict[str, str] = dict(zip(config.table.splits, PALETTE, strict=False))
    for ax, method in zip(axes[0], panels, strict=True):
        for split, losses in curves.get(method, []):
            ax.plot(range(1, len(losses) + 1), losses, color=colours.get(split), label=split)
        ax.set_title(method)
        ax.set_xlabel("epoch")
        ax.spines[["top", "right"]].set_visible(False)
        handles, labels = ax.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        ax.legend(unique.values(), unique.keys(), frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("pre-training loss")
    return figure


def embedding_map(encoder: LocationEncoder) -> Any:
    """A world map of the embedding, its principal components as colours."""
    from geoenc.plot import pca_map

    ax = pca_map(encoder)
    ax.set_title("Three principal components of the pre-trained embedding as colours", fontsize=10)
    return ax.figure


def class_maps(config: Config, paths: list[Path], classes: list[str], fraction: float) -> Any:
    """P(y | place) of a few classes, without (left) and with (right) pre-training."""
    from geoenc.plot import class_map

    pyplot = require("matplotlib.pyplot", extra="plot")
    models = [from_pretrained(path, expected=LocationClassifier) for path in paths]
    count = min(config.table.map_classes, len(classes))
    chosen = [round(i * (len(classes) - 1) / max(count - 1, 1)) for i in range(count)]
    figure, axes = pyplot.subplots(
        count, 2, figsize=(10, 2.6 * count), squeeze=False, layout="constrained"
    )
    for row, index in zip(axes, chosen, strict=True):
        for ax, model, name in zip(row, models, (BASELINE, PROPOSED), strict=True):
            class_map(model, index, ax=ax)
            ax.set_title(f"{classes[index]}: {name}", fontsize=9)
    mesh = axes[0, 0].collections[0]
    figure.colorbar(mesh, ax=axes, shrink=0.6, label="P(y | place)")
    figure.suptitle(f"Learned from {fraction:.0%} of the labels", fontsize=10)
    return figure


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])
    require("matplotlib.pyplot", extra="plot").close(figure)
