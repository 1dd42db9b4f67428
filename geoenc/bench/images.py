"""Sets of images with places: P(y | image) from a linear model on given features."""

import os
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from geoenc.bench.files import found
from geoenc.bench.probes import logistic, standardised
from geoenc.bench.task import Task
from geoenc.data.features import RandomConvFeatures

Arrays = Mapping[str, np.ndarray]
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def globe_chips(
    *,
    label: str = "igbp",
    num_features: int = 512,
    data: str | os.PathLike[str] | None = None,
) -> Task:
    """Land cover ("igbp") or climate ("koppen") of 14,594 pictures of the Earth, 104 km wide.

    The image classifier reads random convolutional features of 32 x 32 pixels, with filters from
    pictures that both splits train on. Classes of fewer than 30 pictures are left out. Split
    "blocked": blocks of 10 degrees, folds 0 to 2 for training, 3 for validation, 4 for the test.

    Args:
        label: "igbp" or "koppen".
        num_features: of `geoenc.data.RandomConvFeatures`.
        data: folder that holds ``data_images/globe_chips.npz``.
    """
    arrays = _read(data, "globe_chips", label, ("igbp", "koppen"))
    images = torch.from_numpy(np.ascontiguousarray(arrays["img"].transpose(0, 3, 1, 2)))
    blocked = _folds(arrays)
    learned = torch.from_numpy((arrays["split"] == 0) & (blocked == 0))
    extractor = RandomConvFeatures(num_features, stride=2).fit(images[learned])
    return _task(
        "globe-" + label,
        arrays,
        arrays[label],
        torch.cat([extractor(block) for block in images.split(512)]),
        random=arrays["split"],
        blocked=blocked,
        block_degrees=10.0,
        names=arrays[f"{label}_names"],
        least=30,
    )


def africa_wealth(*, label: str = "quintile", data: str | os.PathLike[str] | None = None) -> Task:
    """Wealth of 19,669 African survey clusters in "quintile" or "decile".

    The image classifier reads what satellite models of other countries say, by day and by night.

    Args:
        label: "quintile" or "decile".
        data: folder that holds ``data_images/africa_wealth.npz``.
    """
    arrays = _read(data, "africa_wealth", label, ("quintile", "decile"))
    both = np.concatenate([arrays["feat_day"], arrays["feat_night"]], 1)
    return _task(
        f"africa-wealth-{label}",
        arrays,
        arrays[label],
        torch.from_numpy(both),
        random=arrays["split"],
        blocked=_folds(arrays),
        block_degrees=1.0,
    )


def glc24_habitats(*, level: int = 1, data: str | os.PathLike[str] | None = None) -> Task:
    """EUNIS habitat of 1,877 surveys in Europe, level 1 (8 classes) or 2.

    The image classifier reads 128 numbers each from what two satellite networks say of species.

    Args:
        level: 1 or 2 (29 classes).
        data: folder that holds ``data_images/glc24_habitats.npz``.
    """
    arrays = _read(data, "glc24_habitats", f"eunis{level}", ("eunis1", "eunis2"))
    both = np.concatenate([arrays["sentinel_svd128"], arrays["landsat_svd128"]], 1)
    return _task(
        f"glc24-habitats-{level}",
        arrays,
        arrays[f"eunis{level}"],
        torch.from_numpy(both),
        random=arrays["split"],
        blocked=arrays["split_block"],
        block_degrees=0.5,
        names=arrays[f"eunis{level}_names"],
    )


def mato_grosso(*, data: str | os.PathLike[str] | None = None) -> Task:
    """Nine land uses of 1,892 fields in Mato Grosso.

    The image classifier reads a year of six MODIS bands, 23 dates each.

    Args:
        data: folder that holds ``data_images/matogrosso_modis.npz``.
    """
    arrays = _read(data, "matogrosso_modis", "label", ("label",))
    return _task(
        "mato-grosso",
        arrays,
        arrays["label"],
        torch.from_numpy(arrays["feat"].reshape(len(arrays["feat"]), -1)),
        random=arrays["split"],
        blocked=arrays["split_block"],
        block_degrees=0.5,
        names=arrays["label_names"],
    )


def image_probabilities(
    features: Tensor, target: Tensor, classes: int, part: Tensor
) -> tuple[Tensor, float]:
    """softmax(W f + b) of validation and test rows, learned from the training rows.

    The penalty of the logistic regression is that with the largest likelihood on validation.

    Args:
        features: ``(N, D)``.
        target: ``(N,)``.
        classes: how many.
        part: ``(N,)``: 0 train, 1 validation, 2 test.

    Returns:
        ``(N, classes)``, NaN in training rows, which the model has learned by heart; and the
        penalty.
    """
    rows = {
        name: (part == i).nonzero()[:, 0] for i, name in enumerate(("train", "validation", "test"))
    }
    codes = standardised({name: features[index] for name, index in rows.items()})
    wanted = target[rows["validation"]]

    def likelihood(output: Tensor) -> float:
        return -float(torch.nn.functional.cross_entropy(output, wanted))

    outputs, search = logistic(
        codes, target[rows["train"]], classes, likelihood, penalties=PENALTIES
    )
    probs = torch.full((len(target), classes), torch.nan)
    for name, output in outputs.items():
        probs[rows[name]] = output.float().softmax(1)
    return probs, search[0]["settings"]["penalty"]


def _read(
    data: str | os.PathLike[str] | None, name: str, label: str, known: tuple[str, ...]
) -> Arrays:
    if label not in known:
        raise ValueError(f"expected label of {', '.join(known)}, got {label!r}; use one")
    with np.load(found(data, f"data_images/{name}.npz"), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _folds(arrays: Arrays) -> np.ndarray:
    """Five folds as parts: 0 to 2 for training, 3 for validation, 4 for the test."""
    return np.clip(arrays["block_fold"].astype(np.int64) - 2, 0, None)


def _task(
    name: str,
    arrays: Arrays,
    label: np.ndarray,
    features: Tensor,
    *,
    random: np.ndarray,
    blocked: np.ndarray,
    block_degrees: float,
    names: np.ndarray | None = None,
    least: int = 1,
) -> Task:
    """The rows of frequent classes, numbered anew; features and probabilities for each split."""
    kinds, counts = np.unique(label, return_counts=True)
    kinds = kinds[(counts >= least) & (kinds >= 0)]
    kept = np.flatnonzero(np.isin(label, kinds))
    target = torch.from_numpy(np.searchsorted(kinds, label[kept]))
    lonlat = np.stack([arrays["lon"], arrays["lat"]], 1)[kept].astype(np.float64)
    fixed, probs, chosen = {}, {}, {}
    for split, codes in (("random", random), ("blocked", blocked)):
        fixed[split] = torch.from_numpy(codes[kept].astype(np.int64))
        probs[split], chosen[split] = image_probabilities(
            features[kept], target, len(kinds), fixed[split]
        )
    shown = tuple(str(kind if names is None else names[kind]) for kind in kinds)
    return Task(
        name=name,
        lonlat=torch.from_numpy(lonlat),
        target=target,
        classes=len(kinds),
        metric="top1",
        block_degrees=block_degrees,
        class_names=shown,
        image_probs=probs,
        fixed=fixed,
        source={"image_penalty": chosen},
    )
