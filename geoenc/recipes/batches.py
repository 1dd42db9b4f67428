"""Rows on their way into a stage: which are this process's own, and how they are read."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from geoenc.data.dataset import LocationDataset
from geoenc.data.rows import Rows, read_ahead
from geoenc.distributed import rank, world_size

_ROWS_AT_ONCE = 8192


def share(rows: Tensor) -> Tensor:
    """The part of a batch that is this process's own; all parts are of one length.

    What is left over, less than one row a process, is left out.

    Shape:
        ``(B, ...)`` to ``(B // W, ...)`` for W processes.
    """
    size = len(rows) // world_size()
    return rows[rank() * size : (rank() + 1) * size]


def required(column: Tensor | None, name: str) -> Tensor:
    """A column that a stage cannot do without."""
    if column is None:
        raise ValueError(f"expected a data set with {name}, got one without; pass {name}=...")
    return column


def stored(dataset: LocationDataset, name: str = "features") -> Tensor | Rows:
    """The same for a matrix that may stay on disk: the features, or ``image_probs``."""
    column: Tensor | Rows | None = getattr(dataset, name)
    if column is None:
        raise ValueError(f"expected a data set with {name}, got one without; pass {name}=...")
    return column


def check_finite(features: Tensor | Rows) -> None:
    """Refuse features with NaN or infinity, and say in which row, before hours are spent."""
    for start in range(0, len(features), _ROWS_AT_ONCE):
        part = features[start : start + _ROWS_AT_ONCE]  # `Rows` check what they read
        if not bool(part.sum(dtype=torch.float64).isfinite()):
            row, column = (~part.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"expected finite features, got {part[row, column].item()} in row {start + row} "
                "(the first row is 0); leave such rows out or compute them again"
            )


def fetched(dataset: LocationDataset, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Places and float32 features: read ahead from disk, or into memory that is used again."""
    features = stored(dataset)
    if isinstance(features, Rows):
        for batch in read_ahead(dataset.replace(target=None, image_probs=None), batches):
            yield batch.lonlat, required(batch.features, "features")
        return
    into = features.new_empty(0, features.shape[1])
    for rows in batches:
        if len(into) < len(rows):
            into = features.new_empty(len(rows), features.shape[1])
        yield (
            dataset.lonlat[rows],
            torch.index_select(features, 0, rows, out=into[: len(rows)]).float(),
        )
