"""Raster: a global map of covariates, interpolated."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import embedding

from geoenc.position.base import PositionEncoder
from geoenc.position.shared import cell


class Raster(PositionEncoder):
    """(1 - s) [(1 - t) v(i, j) + t v(i, j + 1)] + s [(1 - t) v(i + 1, j) + t v(i + 1, j + 1)].

    The raster's values v at the place, bilinear between the four nearest pixels:
    i + s = (height - 1) (90 - lat) / 180 and j + t = (width - 1) (lon + 180) / 360, i and j whole.
    So row 0 is the latitude 90, the last row -90; column 0 is the longitude -180, the last column
    180. All are zero until `fit` sets the values, which travel with the saved weights.

    Args:
        out_features: values per pixel.
        height, width: rows and columns.

    Shape:
        ``(..., 2)`` to ``(..., out_features)``. A pixel that is NaN makes its surroundings NaN.

    Example:
        >>> import torch, geoenc
        >>> raster = geoenc.Raster(1, height=2, width=3)
        >>> raster = raster.fit([[[0.0], [1.0], [0.0]], [[4.0], [5.0], [4.0]]])
        >>> raster(torch.tensor([-90.0, 45.0]))
        tensor([1.5000])

    Reference:
        Cole et al., Spatial implicit neural representations for global-scale species mapping
        (SINR), ICML 2023: the environmental covariates, ``env``.

    Differs:
        As published, nothing is interpolated across the antimeridian; where the last column of a
        raster repeats the first, nothing need be.
    """

    height: int
    width: int
    raster: Tensor

    def __init__(self, out_features: int, *, height: int = 181, width: int = 361) -> None:
        if out_features < 1 or height < 2 or width < 2:
            raise ValueError(
                "expected out_features of at least 1, height and width of at least 2, got "
                f"{out_features}, {height} and {width}"
            )
        super().__init__(out_features)
        self.height, self.width = height, width
        self.register_buffer("raster", torch.zeros(height, width, out_features))

    @property
    def wraps_antimeridian(self) -> bool:  # type: ignore[override]
        """If the last column repeats the first."""
        return torch.equal(self.raster[:, 0], self.raster[:, -1])

    @property
    def wraps_poles(self) -> bool:  # type: ignore[override]
        """If the first and the last row are constant."""
        rows = self.raster[[0, -1]]
        return torch.equal(rows, rows[:, :1].expand_as(rows))

    def fit(self, values: Any) -> Self:
        """Set the values: ``(height, width, out_features)``, north first, west first."""
        values = torch.as_tensor(values)
        if values.shape != self.raster.shape:
            raise ValueError(
                f"expected values of shape {tuple(self.raster.shape)} (height, width, "
                f"out_features), got {tuple(values.shape)}; build a Raster of that size"
            )
        self.raster = values.detach().clone().to(self.raster)
        return self

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        lon, lat = lonlat.unbind(-1)
        column, right = _between((lon + 180) / 360, self.width)
        row, down = _between((90 - lat) / 180, self.height)
        index = row * self.width + column
        pixels = self.raster.flatten(0, 1)

        def pixel(rows: int, columns: int) -> Tensor:
            return embedding(index + rows * self.width + columns, pixels).to(lonlat.dtype)

        north = pixel(0, 0) + right * (pixel(0, 1) - pixel(0, 0))
        south = pixel(1, 0) + right * (pixel(1, 1) - pixel(1, 0))
        return north + down * (south - north)


def _between(share: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The pixel before, and how far the place is from it towards the next, ``(..., 1)``."""
    position = (share * (count - 1)).clamp(0, count - 1)
    before = cell(position, count - 1)
    return before, (position - before)[..., None]
