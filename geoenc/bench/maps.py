"""Where on Earth is an encoder better than the floor? Pictures from the samples of a task."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc._optional import require
from geoenc.bench import markdown as words
from geoenc.data.splits import spatial_blocks
from geoenc.metrics import class_means
from geoenc.plot import draw_map
from geoenc.sampling import lattice

_DEGREES = 5.0
_HEIGHT = 144


def task_maps(folder: Path, task: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Captions and pictures (PNG) of the encoder chosen on validation, and of it less the floor.

    Blocks of 5 degrees of the test part of the blocked split, or of the first. Of classes, the
    share that is right; of numbers, the root of the mean squared error; of areas under a curve,
    which no single sample has, and without the files of the samples, nothing.

    Args:
        folder: of the results.
        task: of the summary.
    """
    split = "blocked" if "blocked" in task["splits"] else next(iter(task["splits"]))
    table = task["splits"][split]
    floor, chosen = words.reference(table), words.champion(table, "encoder")
    if floor is None or chosen is None:
        return []
    ours, theirs = (_means(folder, row) for row in (chosen, floor))
    if ours is None:
        return []
    accuracy = task["metric"] == "top1"
    what = "share that is right" if accuracy else "root mean squared error"
    low, high = (0.0, 1.0) if accuracy else (0.0, _high(ours))
    cmap = "viridis" if accuracy else "magma_r"
    found = [
        (
            f"{chosen['row']}, {chosen['protocol']}: {what}, {split} split, blocks of 5°",
            _picture(ours, cmap, low, high),
        )
    ]
    if theirs is not None:
        gain = ours - theirs if accuracy else theirs - ours
        most = _high(gain.abs())
        caption = f"the same, less {floor['row']}; blue where the encoder is better"
        found.append((caption, _picture(gain, "RdBu", -most, most)))
    return found


def _high(values: Tensor) -> float:
    known = values[~values.isnan()]
    return max(float(known.quantile(0.98)) if len(known) else 1.0, 1e-9)


def _means(folder: Path, row: dict[str, Any]) -> Tensor | None:
    """Mean over the seeds and the samples of each block, ``(B,)``; None without the samples."""
    path = (folder / row["file"]).with_suffix(".npz")
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = {n: torch.from_numpy(file[n]) for n in file.files}
    if "lonlat" not in arrays or not arrays.keys() & {"correct", "error"}:
        return None
    values = arrays["correct"] if "correct" in arrays else arrays["error"]
    places = arrays["lonlat"].double()
    known = ~places.isnan().any(-1)
    block = spatial_blocks(places[known], degrees=_DEGREES)
    size = int(_pixels().max()) + 1
    means = class_means(values.double().reshape(-1, len(places)).mean(0)[known], block, size)
    return means if "correct" in arrays else means.sqrt()


def _pixels() -> Tensor:
    return spatial_blocks(lattice(_HEIGHT).flatten(0, 1), degrees=_DEGREES)


def _picture(values: Tensor, cmap: str, low: float, high: float) -> bytes:
    pyplot = require("matplotlib.pyplot", extra="plot")
    figure, ax = pyplot.subplots(figsize=(6.4, 3.7), layout="constrained")
    draw_map(values[_pixels()].view(_HEIGHT, -1), ax=ax, cmap=cmap, low=low, high=high)
    bar = figure.colorbar(ax.collections[0], ax=ax, orientation="horizontal", shrink=0.5, aspect=40)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(labelsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)
    return file.getvalue()
