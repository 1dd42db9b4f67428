"""Tile: a table of learned vectors, one for each cell of a longitude-latitude grid."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from geoenc.position.base import PositionEncoder
from geoenc.position.direct import check_extent
from geoenc.position.shared import cell, check_table


class Tile(PositionEncoder):
    """table[row C + column], column = floor((lon - west) / c), row = floor((lat - south) / c).

    C is the number of columns and c the cell size. The table is trained; it starts at
    N(0, 1 / out_features^2). Rows count from the south. Places outside the extent belong to the
    nearest cell, so the eastern and northern edges belong to the last ones.

    The code is constant within a cell: its gradient with respect to the place is zero.

    Args:
        out_features: D, numbers per cell.
        cell_size: c, in degrees of longitude and of latitude: cells narrow towards the poles.
        extent: (west, east, south, north) in degrees.
        generator: of the table.

    Shape:
        ``(..., 2)`` to ``(..., D)``.

    Raises:
        ValueError: an extent beyond the globe, or a table of more than 2^28 numbers.

    Example:
        >>> import torch, geoenc
        >>> tile = geoenc.Tile(8, 30.0)
        >>> tile.table.shape
        torch.Size([72, 8])
        >>> code = tile(torch.tensor([(2.35, 48.86), (13.4, 52.5)]))
        >>> torch.equal(code[0], code[1])
        True

    Reference:
        Berg et al., Birdsnap, CVPR 2014; Tang et al., Improving image classification with
        location context, ICCV 2015; ``tile`` in Mai et al., Space2Vec, ICLR 2020.

    Differs:
        TorchSpatial's ``tile_ffn`` drops the cell size and has one cell for the whole globe.
    """

    cell_size: float
    extent: Sequence[float]
    table: nn.Parameter

    def __init__(
        self,
        out_features: int,
        cell_size: float = 10.0,
        *,
        extent: Sequence[float] = (-180.0, 180.0, -90.0, 90.0),
        generator: Generator | None = None,
    ) -> None:
        if out_features < 1:
            raise ValueError(f"expected out_features of at least 1, got {out_features}")
        if not 0 < cell_size < math.inf:
            raise ValueError(f"expected cell_size above 0 degrees, got {cell_size}")
        check_extent(extent, globe=True)
        super().__init__(out_features)
        self.cell_size, self.extent = cell_size, extent
        self.num_columns = math.ceil((extent[1] - extent[0]) / cell_size)
        self.num_rows = math.ceil((extent[3] - extent[2]) / cell_size)
        cells = self.num_rows * self.num_columns
        check_table(cells, out_features, "use larger cells or a smaller extent")
        drawn = torch.randn(cells, out_features, generator=generator)
        self.table = nn.Parameter(drawn / out_features)

    @property
    def wraps_antimeridian(self) -> bool:  # type: ignore[override]
        """Only if there is one column."""
        return self.num_columns == 1

    wraps_poles = wraps_antimeridian

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        lon, lat = lonlat.unbind(-1)
        column = cell((lon - self.extent[0]) / self.cell_size, self.num_columns)
        row = cell((lat - self.extent[2]) / self.cell_size, self.num_rows)
        code = nn.functional.embedding(row * self.num_columns + column, self.table)
        return torch.where(lonlat.isnan().any(-1, keepdim=True), torch.nan, code)
