"""Linear probes: what a linear model reads off frozen codes."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc._optional import require

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
WIDEST = 4096
"""Columns that a probe reads at most."""

Tried = list[dict[str, Any]]


def standardised(codes: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Columns with mean 0 and deviation 1 on the training rows; constant columns are left out."""
    width = codes["train"].shape[1]
    if width > WIDEST:
        raise ValueError(
            f"expected codes of at most {WIDEST:,} columns for a linear probe, got {width:,}; use "
            "fewer frequencies, a lower degree, or the protocol trained"
        )
    train = codes["train"].double()
    mean, deviation = train.mean(0), train.std(0)
    kept = deviation > 1e-9 * train.abs().amax(0).clamp(min=1e-30)
    return {
        name: ((code.double() - mean) / deviation)[:, kept].float().numpy()
        for name, code in codes.items()
    }


def ridge(
    codes: dict[str, np.ndarray],
    target: Tensor,
    judged: Callable[[Tensor], float],
    *,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[dict[str, Tensor], Tried]:
    """min_w mean (y - X w)² + a |w|² for every a, from one eigendecomposition of X' X / n.

    Args:
        codes: standardised, by part.
        target: ``(n,)`` of the training rows.
        judged: the score of outputs for the validation rows.
        penalties: a.

    Returns:
        outputs of validation and test rows with the best a, and what was tried, best first.
    """
    start = time.process_time()
    train = codes["train"].astype(np.float64)
    mean = float(target.double().mean())
    values, vectors = np.linalg.eigh(train.T @ train / len(train))
    moment = vectors.T @ (train.T @ (target.double().numpy() - mean) / len(train))
    tried: Tried = []
    best: tuple[float, dict[str, Tensor]] | None = None
    for penalty in penalties:
        weight = vectors @ (moment / (values.clip(min=0) + penalty))
        outputs = {
            name: torch.from_numpy(codes[name] @ weight + mean) for name in ("validation", "test")
        }
        found = judged(outputs["validation"])
        now = time.process_time()
        tried.append(_try(penalty, found, now - start))
        start = now
        if best is None or found > best[0]:
            best = found, outputs
    assert best is not None
    return best[1], _best_first(tried)


def logistic(
    codes: dict[str, np.ndarray],
    target: Tensor,
    classes: int,
    judged: Callable[[Tensor], float],
    *,
    penalties: Sequence[float] = PENALTIES,
    iterations: int = 100,
) -> tuple[dict[str, Tensor], Tried]:
    """Multinomial logistic regression, mean cross-entropy + a / 2 |W|², for every a.

    Each starts from the one before, of the next larger a. A path ends after two penalties that
    are worse on validation than the best.

    Args:
        codes, target, judged, penalties: see `ridge`; classes that the training rows lack are
            never said.
        classes: how many there are.
        iterations: of the optimiser (L-BFGS) at most.
    """
    linear = require("sklearn.linear_model", extra="eval")
    train, wanted = codes["train"], target.numpy()
    model = linear.LogisticRegression(max_iter=iterations, tol=1e-3, warm_start=True)
    tried: Tried = []
    best: tuple[float, dict[str, Tensor]] | None = None
    worse = 0
    for penalty in sorted(penalties, reverse=True):
        start = time.process_time()
        model.set_params(C=1 / (penalty * len(train)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an early stop is a regulariser, too
            model.fit(train, wanted)
        outputs = {name: _decisions(model, codes[name], classes) for name in ("validation", "test")}
        found = judged(outputs["validation"])
        tried.append(_try(penalty, found, time.process_time() - start))
        tried[-1]["iterations"] = int(np.max(model.n_iter_))
        if best is None or found > best[0]:
            best, worse = (found, outputs), 0
        else:
            worse += 1
        if worse == 2:
            break
    assert best is not None
    return best[1], _best_first(tried)


def _decisions(model: Any, codes: np.ndarray, classes: int) -> Tensor:
    """Logits of all classes; those that were not seen are below all others."""
    found = torch.from_numpy(np.asarray(model.decision_function(codes), dtype=np.float32))
    if found.ndim == 1:
        found = torch.stack([-found / 2, found / 2], 1)
    seen = torch.from_numpy(np.asarray(model.classes_)).long()
    whole = (found.amin(1, keepdim=True) - 1).repeat(1, classes)
    whole[:, seen] = found
    return whole


def _try(penalty: float, validation: float, seconds: float) -> dict[str, Any]:
    return {"settings": {"penalty": penalty}, "validation": validation, "seconds": seconds}


def _best_first(tried: Tried) -> Tried:
    best = max(tried, key=lambda one: one["validation"])
    return [best, *(one for one in tried if one is not best)]
