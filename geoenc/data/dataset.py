"""LocationDataset: aligned tensors of places and what is known about them."""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat
from geoenc.data.rows import Rows

_ROWS_AT_ONCE = 4096


class LocationBatch(NamedTuple):
    """Rows of a `LocationDataset`; what the data set lacks is None."""

    lonlat: Tensor
    target: Tensor | None = None
    features: Tensor | None = None
    image_probs: Tensor | None = None
    time: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same batch on a device."""
        return self._replace(
            **{
                name: value.to(device, non_blocking=non_blocking)
                for name, value in self._asdict().items()
                if value is not None
            }
        )


class LocationDataset(torch.utils.data.Dataset[LocationBatch]):
    """Five aligned tensors, four of them optional.

    Args:
        lonlat: anything `geoenc.as_lonlat` reads; kept as float64. NaN rows are samples without
            a place: they stay, and are judged by the image alone.
        target: class of each sample, -1 where unknown.
        features: image features, one row per sample: a tensor, an array, or `Rows` that stay on
            disk and are checked as they are read.
        image_probs: P(y | image), one row per sample; the same.
        time: fraction of the year, one number per sample.

    Shape:
        lonlat ``(N, 2)``, target ``(N,)``, features ``(N, D)``, image_probs ``(N, Q)``,
        time ``(N,)``.

    Raises:
        ValueError: no rows, rows that do not agree, wrong shapes, NaN in anything but lonlat.

    Example:
        >>> import torch, geoenc
        >>> from geoenc.data import LocationDataset
        >>> data = LocationDataset([(0.0, 51.5), (2.35, 48.86)], target=torch.tensor([1, 0]))
        >>> data[torch.tensor([1])].lonlat
        tensor([[ 2.3500, 48.8600]], dtype=torch.float64)
        >>> loader = torch.utils.data.DataLoader(
        ...     data,
        ...     sampler=torch.utils.data.BatchSampler(range(len(data)), 2, drop_last=False),
        ...     batch_size=None,
        ... )
    """

    def __init__(
        self,
        lonlat: Any,
        target: Any = None,
        features: Any = None,
        image_probs: Any = None,
        time: Any = None,
    ) -> None:
        self.lonlat = as_lonlat(lonlat, missing=True)
        if self.lonlat.ndim != 2 or len(self.lonlat) == 0:
            raise ValueError(
                f"expected lonlat of shape (N, 2) with at least one row, got "
                f"{tuple(self.lonlat.shape)}"
            )
        self.target = self._column("target", target, 1)
        self.features = self._matrix("features", features)
        self.image_probs = self._matrix("image_probs", image_probs)
        self.time = self._column("time", time, 1)
        if self.target is not None:
            if self.target.is_floating_point():
                raise ValueError(f"expected integer target, got dtype {self.target.dtype}")
            self.target = self.target.long()

    def _matrix(self, name: str, values: Any) -> Tensor | Rows | None:
        if not isinstance(values, Rows):
            return self._column(name, values, 2)
        self._agrees(name, values, 2)
        return values

    def _agrees(self, name: str, values: Tensor | Rows, ndim: int) -> None:
        if values.ndim != ndim or len(values) != len(self.lonlat):
            raise ValueError(
                f"expected {name} with {ndim} dimension{'s' * (ndim > 1)} and {len(self.lonlat)} "
                f"rows, as lonlat has, got shape {tuple(values.shape)}"
            )

    def _column(self, name: str, values: Any, ndim: int) -> Tensor | None:
        if values is None:
            return None
        tensor = torch.as_tensor(values)
        self._agrees(name, tensor, ndim)
        if any(bool(part.isnan().any()) for part in tensor.split(_ROWS_AT_ONCE)):
            raise ValueError(
                f"expected {name} without NaN, got some; leave those samples out, because only "
                "lonlat may be missing"
            )
        return tensor

    def __len__(self) -> int:
        return len(self.lonlat)

    def __getitem__(self, index: Any) -> LocationBatch:
        """Rows by number, slice or index tensor, as a `LocationBatch`."""
        optional = (self.target, self.features, self.image_probs, self.time)
        return LocationBatch(
            self.lonlat[index], *[None if column is None else column[index] for column in optional]
        )

    def __repr__(self) -> str:
        columns = [
            f"{name}{list(column.shape)}"
            for name, column in self._columns().items()
            if column is not None
        ]
        return f"LocationDataset({', '.join(columns)})"

    def subset(self, index: Any) -> "LocationDataset":
        """The rows of an index tensor or mask, as a data set of its own; `Rows` are not read."""
        index = torch.as_tensor(index)
        columns = {
            name: column.select(index) if isinstance(column, Rows) else column[index]
            for name, column in self._columns().items()
            if column is not None
        }
        return LocationDataset(**columns)

    def with_location(self) -> "LocationDataset":
        """The samples whose place is known."""
        known = ~self.lonlat.isnan().any(1)
        return self if bool(known.all()) else self.subset(known)

    def replace(self, **columns: Any) -> "LocationDataset":
        """The same samples with other columns, for example ``image_probs``."""
        return LocationDataset(**{**self._columns(), **columns})

    def _columns(self) -> dict[str, Tensor | Rows | None]:
        return {name: getattr(self, name) for name in LocationBatch._fields}
