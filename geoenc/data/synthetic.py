"""Invented data: places clustered by class, in memory or as files of a published form."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from geoenc import sampling
from geoenc._files import atomic_path, write_text
from geoenc.coordinates import to_lonlat, to_xyz
from geoenc.data.dataset import LocationBatch, LocationDataset
from geoenc.data.samplers import few_shot
from geoenc.data.sources import Published, find, source_of

_FRACTIONS = (0.05, 0.1, 0.2)
_KEPT = 1e-6


def make_synthetic(
    num_samples: int = 1000,
    num_classes: int = 5,
    num_features: int = 16,
    *,
    missing: float = 0.0,
    noise: float = 1.0,
    generator: Generator | None = None,
) -> LocationDataset:
    """Places around the centres of their classes, and features that know class and place.

    x = c_y + 0.2 e on the sphere, features = a_y + B x + ``noise`` e', and P(y | image) =
    softmax of 2 [k = y] + ``noise`` e'', with Gaussian e and two centres c for each class. The
    first ``num_classes`` rows have one sample of each class, so none is empty.

    Args:
        num_samples: rows.
        num_classes: Q, how many classes.
        num_features: columns of the features.
        missing: share of the samples without a place.
        noise: of features and predictions; 0 leaves no doubt about the class.
        generator: source of randomness.

    Example:
        >>> import torch
        >>> from geoenc.data import make_synthetic
        >>> data = make_synthetic(100, 3, generator=torch.Generator().manual_seed(0))
        >>> data.features.shape, data.target.bincount(minlength=3).min() > 0
        (torch.Size([100, 16]), tensor(True))
    """
    if num_samples < num_classes or num_classes < 1 or num_features < 1:
        raise ValueError(
            f"expected at least one sample for each of num_classes >= 1 and num_features >= 1, "
            f"got {num_samples} samples, {num_classes} classes and {num_features} features"
        )

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    target = torch.randint(num_classes, (num_samples,), generator=generator)
    target[:num_classes] = torch.arange(num_classes)
    centres = to_xyz(sampling.uniform(2 * num_classes, generator=generator))
    centre = centres[target + num_classes * (torch.rand(num_samples, generator=generator) < 0.5)]
    place = centre + 0.2 * normal(num_samples, 3).double()
    lonlat = to_lonlat(place / place.norm(dim=1, keepdim=True))
    lonlat[torch.rand(num_samples, generator=generator) < missing] = torch.nan
    appearance = normal(num_classes, num_features)[target]
    landscape = place.float() @ normal(3, num_features)
    logits = noise * normal(num_samples, num_classes)
    logits[torch.arange(num_samples), target] += 2
    return LocationDataset(
        lonlat,
        target,
        appearance + landscape + noise * normal(num_samples, num_features),
        logits.softmax(-1),
        torch.rand(num_samples, generator=generator),
    )


def make_published(
    name: str,
    root: str | os.PathLike[str],
    *,
    num_samples: int = 200,
    num_classes: int = 5,
    num_features: int = 16,
    generator: Generator | None = None,
) -> Path:
    """Write `make_synthetic` data as files of exactly the form of a published data set.

    Args:
        name: "inat2017", "inat2018", "birdsnap", "nabirds", "yfcc" or "fmow".
        root: the files are written to its folder of that name, for example ``inat_2018/``.
        num_samples: images to train on; other splits have half as many.
        num_classes: Q, how many classes.
        num_features: columns of the features.
        generator: source of randomness.

    Returns:
        The folder of the files.

    Raises:
        ValueError: an unknown name, or files that are there already, which are never overwritten.

    Example:
        >>> import tempfile, torch
        >>> from geoenc.data import load_fmow, make_published
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = make_published("fmow", root, num_samples=60)
        ...     load_fmow(root, "val").image_probs.form
        'probabilities'
    """
    source = source_of(name)
    folder = Path(root) / source.folder
    splits = [one for one in source.splits if one != "test" or "inat" not in name]
    for theirs in source.splits.values():
        there = find(folder, source.labels, theirs)
        if there is not None:
            raise ValueError(
                f"expected a folder without {source.title}, got '{there}'; choose another folder, "
                "or delete what is there"
            )
    sizes = [num_samples if split == "train" else max(1, num_samples // 2) for split in splits]
    made = make_synthetic(sum(sizes), num_classes, num_features, missing=0.03, generator=generator)
    starts = np.cumsum([0, *sizes])
    parts = {
        source.splits[split]: made[int(start) : int(start) + size]
        for split, start, size in zip(splits, starts, sizes, strict=False)
    }
    writer = _write_coco if source.places else _write_birds if source.metadata else _write_table
    known = writer(_Made(source, folder, parts, num_classes, generator))
    for split, part in parts.items():
        _write_matrices(source, folder, split, part, generator)
    if source.subset:
        target = _given(parts["train"].target)[known]
        for fraction in _FRACTIONS:
            index = few_shot(target, fraction, generator=generator).numpy()
            with atomic_path(folder / source.subset[0].format(fraction=fraction)) as temporary:
                index.dump(temporary)
    return folder


def _given(column: Tensor | None) -> Tensor:
    assert column is not None
    return column


def _entries(
    part: LocationBatch, generator: Generator | None, key: str = "date"
) -> list[dict[str, Any]]:
    """lon, lat, user and date of each image; one of forty users is unknown."""
    users = torch.randint(40, (len(part.lonlat),), generator=generator).tolist()
    rows = zip(part.lonlat.tolist(), users, _given(part.time).tolist(), strict=True)
    return [
        {
            "lon": None if lon != lon else round(lon, 5),
            "lat": None if lon != lon else round(lat, 5),
            "user_id": user or None,
            key: round(date, 4),
        }
        for (lon, lat), user, date in rows
    ]


@dataclass
class _Made:
    """What is to be written as the files of one data set."""

    source: Published
    folder: Path
    parts: dict[str, LocationBatch]
    num_classes: int
    generator: Generator | None


def _write_coco(made: _Made) -> Tensor:
    known = torch.empty(0, dtype=torch.bool)
    for split, part in made.parts.items():
        count = len(part.lonlat)
        ids = (torch.randperm(4 * count, generator=made.generator)[:count] + 1000).tolist()
        target = _given(part.target).tolist()
        annotations = [
            {"id": one, "image_id": one, "category_id": label}
            for one, label in zip(ids, target, strict=True)
        ]
        images = [{"id": one, "file_name": f"{split}/{one}.jpg"} for one in ids]
        described = {"images": images, "annotations": annotations[::-1]}
        entries = _entries(part, made.generator, "date_c")
        if split == "train":
            known = torch.tensor([None not in (one["lon"], one["user_id"]) for one in entries])
        places = [{"id": one, **entry} for one, entry in zip(ids, entries, strict=True)]
        _write_json(made.folder / made.source.labels[0].format(split=split), described)
        _write_json(made.folder / made.source.places[0].format(split=split), places[::-1])
    names = [f"class {number}" for number in range(made.num_classes)]
    by_name = {name: number for number, name in enumerate(names)}
    listed = [{"id": number, "name": name} for number, name in enumerate(names)]
    usual = by_name if made.source.title == "fMoW" else listed
    _write_json(made.folder / made.source.categories[0], usual)
    return known


def _write_birds(made: _Made) -> Tensor:
    described: dict[str, Any] = {
        "classes": [f"class {number}" for number in range(made.num_classes)]
    }
    for split, part in made.parts.items():
        sources = {meta: _entries(part, made.generator) for meta in made.source.metadata}
        described[split] = [
            {
                "valid_image": True,
                "im_path": f"{label}/{number}.jpg",
                "class_id": label,
                **{meta: entries[number] for meta, entries in sources.items()},
            }
            for number, label in enumerate(_given(part.target).tolist())
        ]
        unusable = {**described[split][0], "valid_image": False}
        described[split].insert(len(described[split]) // 2, unusable)
    _write_json(made.folder / made.source.labels[0], described)
    return torch.empty(0, dtype=torch.bool)


def _write_table(made: _Made) -> Tensor:
    rows = [
        f"{'' if lon != lon else f'{lon:.5f}'},{'' if lon != lon else f'{lat:.5f}'},{label},{split}"
        for split, part in made.parts.items()
        for (lon, lat), label in zip(
            part.lonlat.tolist(), _given(part.target).tolist(), strict=True
        )
    ]
    write_text(made.folder / made.source.labels[0], "\n".join(["lon,lat,class,split", *rows, ""]))
    names = [f"{number},class {number}" for number in range(made.num_classes)]
    write_text(made.folder / made.source.categories[0], "\n".join(["id,name", *names, ""]))
    return torch.empty(0, dtype=torch.bool)


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value))


def _write_matrices(
    source: Published,
    folder: Path,
    split: str,
    part: LocationBatch,
    generator: Generator | None,
) -> None:
    for template in source.features.values():
        _write_matrix(folder / template.format(split=split), _given(part.features).numpy())
    probs = _given(part.image_probs)
    for variant, template in source.predictions.items():
        if variant != "fewshot":
            _write_matrix(folder / template.format(split=split), probs.numpy())
        elif split != "train":
            for fraction in _FRACTIONS:
                unsure = probs.log() + torch.randn(probs.shape, generator=generator)
                file = folder / template.format(split=split, fraction=fraction)
                _write_matrix(file, unsure.softmax(-1).numpy())


def _write_matrix(path: Path, values: np.ndarray) -> None:
    import scipy.sparse

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".npz":
            sparse = scipy.sparse.csr_array(np.where(values < _KEPT, 0, values))
            scipy.sparse.save_npz(file, sparse)
        else:
            np.save(file, values)
