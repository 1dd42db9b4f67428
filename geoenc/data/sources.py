"""Which files each published data set has, and where they lie: the table behind the readers."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from geoenc.data.errors import DatasetNotFoundError

PREFIXES = ("", "data", "geo_prior_data/data", "geo_prior_data_csp/data")
HELP = "see docs/how-to/get-the-datasets.md"
_SUBSET = tuple(f"sample_idx/train_sample_ratio{{fraction:.3f}}.{kind}" for kind in ("npy", "json"))


@dataclass(frozen=True)
class Published:
    """Which files a data set has; ``{split}`` and ``{fraction}`` stand for what is asked.

    Args:
        title: its name in the papers.
        num_classes: of the published data.
        folder: of its files.
        labels, places, categories: candidates for each file, the usual one first.
        splits: our name of each split, and the publisher's.
        features: candidates by variant; the first that exists is the default.
        predictions: P(y | image) by variant; "fewshot" belongs to a share of the labels.
        subset: row numbers of a published share of the labels.
        metadata: sources of the place of each image, where there are several.
        images: how many the published splits have, where it is known.
    """

    title: str
    num_classes: int
    folder: str
    labels: tuple[str, ...]
    splits: Mapping[str, str]
    places: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    predictions: Mapping[str, str] = field(default_factory=dict)
    subset: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)


def _inat(year: int, num_classes: int, images: Mapping[str, int]) -> Published:
    name = f"inat{year}_{{split}}"
    return Published(
        title=f"iNat{year}",
        num_classes=num_classes,
        folder=f"inat_{year}",
        labels=(f"{{split}}{year}.json", f"{{split}}{year}_DO_NOT_SHARE.json"),
        places=(f"{{split}}{year}_locations.json", f"{{split}}{year}_location.json"),
        categories=(f"categories{year}.json",),
        splits={"train": "train", "val": "val", "test": "test"},
        features={
            "pretrain": f"features_inception_pretrain/{name}_pretrain_net_feats.npy",
            "standard": f"features_inception/{name}_net_feats.npy",
            "high_res": f"features_inception_hr/{name}_net_feats.npy",
        },
        predictions={
            "full": f"features_inception/{name}_preds_sparse.npz",
            "high_res": f"features_inception_hr/{name}_preds_sparse.npz",
            "fewshot": f"fewshot/{name}_preds_sparse_ratio{{fraction:.3f}}.npz",
        },
        subset=_SUBSET,
        images=images,
    )


def _birds(
    title: str, name: str, num_classes: int, num_test: int, metadata: tuple[str, ...]
) -> Published:
    file = f"features_inception/{name}_{{split}}"
    return Published(
        title=title,
        num_classes=num_classes,
        folder=name,
        labels=(f"{name}_with_loc_2019.json",),
        splits={"train": "train", "val": "valid", "test": "test"},
        features={"standard": f"{file}_net_feats.npy"},
        predictions={"full": f"{file}_preds_sparse.npz"},
        metadata=metadata,
        images={"test": num_test},
    )


PUBLISHED: dict[str, Published] = {
    "inat2017": _inat(2017, 5089, {"val": 95_986}),
    "inat2018": _inat(2018, 8142, {"train": 437_513, "val": 24_426}),
    "birdsnap": _birds("BirdSnap", "birdsnap", 500, 2262, ("orig_meta", "ebird_meta")),
    "nabirds": _birds("NABirds", "nabirds", 555, 24_633, ("ebird_meta", "orig_meta")),
    "yfcc": Published(
        title="YFCC",
        num_classes=100,
        folder="yfcc",
        labels=("train_test_split.csv",),
        categories=("class_names.csv",),
        splits={"train": "train", "val": "val", "test": "test"},
        features={"standard": "features_inception/YFCC_{split}_net_feats.npy"},
        predictions={"full": "features_inception/YFCC_{split}_preds.npy"},
        images={"test": 17_798},
    ),
    "fmow": Published(
        title="fMoW",
        num_classes=62,
        folder="fmow",
        labels=("{split}.json",),
        places=("{split}_location.json", "{split}_locations.json"),
        categories=("category.json", "categories.json"),
        splits={"train": "train", "val": "val"},
        features={
            "pretrain": "features_inception_pretrain/fmow_{split}_pretrain_net_feats.npy",
        },
        predictions={
            "full": "feature_moco/fmow_{split}_preds.npy",
            "fewshot": "fewshot/fmow_{split}_preds_ratio{fraction:.3f}.npy",
        },
        subset=_SUBSET,
        images={"train": 363_570, "val": 53_041},
    ),
}
"""Every data set by name."""


def source_of(name: str) -> Published:
    """The entry of the table."""
    if name not in PUBLISHED:
        raise ValueError(f"expected one of {', '.join(PUBLISHED)}, got {name!r}")
    return PUBLISHED[name]


def split_of(source: Published, split: str) -> str:
    """The publisher's name of a split."""
    if split not in source.splits:
        raise ValueError(
            f"expected a split of {source.title}, one of {', '.join(source.splits)}, got {split!r}"
        )
    return source.splits[split]


def folder_of(name: str, root: str | os.PathLike[str]) -> Path:
    """The folder with the files of a data set: ``root`` itself, or the usual one below it.

    Raises:
        DatasetNotFoundError: no description of any split is there.
    """
    source = source_of(name)
    short = source.folder.replace("_", "")
    below = [f"{prefix}/{last}" for prefix in PREFIXES for last in (source.folder, short)]
    for folder in (Path(root), *(Path(root) / part.lstrip("/") for part in below)):
        if any(find(folder, source.labels, theirs) for theirs in source.splits.values()):
            return folder
    wanted = source.labels[0].format(split="train")
    raise DatasetNotFoundError(
        f"{source.title} not found in root={str(root)!r}: expected {wanted} there or in "
        f"{source.folder}/; {HELP}"
    )


def find(
    folder: Path, templates: tuple[str, ...], split: str, fraction: float = 1.0
) -> Path | None:
    """The first of the candidates that exists, sparse or dense."""
    names = [template.format(split=split, fraction=fraction) for template in templates]
    files = (folder / spelling for name in names for spelling in _spellings(name))
    return next((file for file in files if file.is_file()), None)


def _spellings(name: str) -> list[str]:
    """A file name, and the names of the same matrix dense instead of sparse, or the reverse."""
    bare = name[:-4]
    if name.endswith(".npz"):
        return [name, bare.replace("_sparse", "") + ".npy"]
    if name.endswith(".npy"):
        return [name, f"{bare}.npz", bare.replace("_preds", "_preds_sparse") + ".npz"]
    return [name]


def published_in(path: str | os.PathLike[str]) -> Iterator[tuple[str, Path]]:
    """The published data sets whose files lie in or below a folder, with their folders."""
    for name in PUBLISHED:
        try:
            yield name, folder_of(name, path)
        except DatasetNotFoundError:
            continue
