"""HashGrid: trained vectors at the vertices of nested grids in space, or in space and time."""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import embedding

from geoenc.coordinates import to_xyz
from geoenc.position.base import BLOCK_ELEMENTS, PositionEncoder
from geoenc.position.shared import check_table

PRIMES = (1, 2654435761, 805459861)
GRIDS = ((0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 2, 3))
"""Axes of each grid, of (x, y, z, t)."""


class HashGrid(PositionEncoder):
    """Sum over the 8 vertices v of the cell around p of weight_v table[index(v)], at each level.

    p = (R - 1) (xyz + 1) / 2 at level l, with R = base_resolution 2^l vertices along each axis.
    weight_v is the product over the axes of w or 1 - w, w = f^2 (3 - 2 f) of the fraction f of p,
    so slopes are continuous. index(v) = v_x + R (v_y + R v_z) where the level has no more than
    ``table_size`` vertices, else a hash: v_x xor 2654435761 v_y xor 805459861 v_z, modulo it.

    With time there are four grids: (x, y, z), (x, y, t), (y, z, t) and (x, z, t).

    Args:
        num_levels: L, how many grids.
        features_per_level: F, columns of each.
        base_resolution: R of the coarsest level; the finest cell is about
            12700 km / (base_resolution 2^(L - 1)) wide.
        table_size: rows of a level's table at most, a power of two.
        takes_time: four grids, of places and times; ``forward(lonlat, time)``.
        generator: of the tables, which start uniform in [-0.0001, 0.0001].

    Shape:
        ``(..., 2)``, and time ``(...)``, to ``(..., L F)``, with time ``(..., 4 L F)``: grid
        slowest, then level, coarsest first, then feature.

    Example:
        >>> import torch, geoenc
        >>> geoenc.HashGrid(8)(torch.tensor([12.3, 45.6])).shape
        torch.Size([16])

    Reference:
        Mueller et al., Instant neural graphics primitives, SIGGRAPH 2022; the four grids: Earth4D
        in DeepEarth, 2025.

    Differs:
        No elevation, and no learned probing of the hash. Earth4D has 24 levels, tables of 2^22.
        Time is on a line: the end of a year is not next to its beginning.
    """

    num_levels: int
    features_per_level: int
    base_resolution: int
    table_size: int
    table: nn.Parameter
    wraps_antimeridian = True
    wraps_poles = True
    resolution: Tensor
    dense: Tensor
    factors: Tensor
    offsets: Tensor

    def __init__(
        self,
        num_levels: int = 12,
        features_per_level: int = 2,
        *,
        base_resolution: int = 32,
        table_size: int = 2**16,
        takes_time: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if num_levels < 1 or features_per_level < 1:
            raise ValueError(
                "expected num_levels and features_per_level of at least 1, got "
                f"{num_levels} and {features_per_level}"
            )
        if base_resolution < 2 or base_resolution * 2 ** (num_levels - 1) > 2**31:
            raise ValueError(
                "expected base_resolution of at least 2 and at most 2^31 vertices along an axis "
                f"of the finest level, got {base_resolution} and {num_levels} levels; use fewer"
            )
        if table_size < 1 or table_size & (table_size - 1):
            raise ValueError(f"expected table_size to be a power of two, got {table_size}")
        grids = GRIDS if takes_time else GRIDS[:1]
        resolution = [base_resolution * 2**level for level in range(num_levels)]
        sizes = [min(one**3, table_size) for one in resolution] * len(grids)
        check_table(sum(sizes), features_per_level, "use a smaller table_size or fewer levels")
        super().__init__(len(grids) * num_levels * features_per_level)
        self.num_levels, self.features_per_level = num_levels, features_per_level
        self.base_resolution, self.table_size = base_resolution, table_size
        self.takes_time = takes_time
        dense = [one**3 <= table_size for one in resolution]
        strides = [(1, one, one**2) for one in resolution]
        factors = [s if d else PRIMES for s, d in zip(strides, dense, strict=True)]
        offsets = [sum(sizes[:index]) for index in range(len(sizes))]
        self.register_buffer("resolution", torch.tensor(resolution), persistent=False)
        self.register_buffer("dense", torch.tensor(dense), persistent=False)
        self.register_buffer("factors", torch.tensor(factors), persistent=False)
        starts = torch.tensor(offsets).view(len(grids), num_levels)
        self.register_buffer("offsets", starts, persistent=False)
        drawn = torch.rand(sum(sizes), features_per_level, generator=generator)
        self.table = nn.Parameter(1e-4 * (2 * drawn - 1))

    @property
    def _block_rows(self) -> int:
        """Fewer than the width of the code allows: vertices and weights are wider."""
        return max(BLOCK_ELEMENTS // (40 * self.offsets.numel()), 256)

    def encode(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """See the class."""
        unit = (to_xyz(lonlat) + 1) / 2
        axes = list(unit.unbind(-1)) + ([] if time is None else [time])
        grids = GRIDS if self.takes_time else GRIDS[:1]
        points = torch.stack([torch.stack([axes[a] for a in grid], -1) for grid in grids], -2)
        position = points[..., None, :] * (self.resolution[:, None] - 1)
        highest = self.resolution[:, None] - 2
        known = position.detach().masked_fill(position.isnan(), 0.0)
        lower = known.floor().clamp_min(0).minimum(highest).long()
        fraction = (position - lower).to(self.working_dtype)
        upper = fraction * fraction * (3 - 2 * fraction)
        a, b, c = _cube(torch.stack([lower, lower + 1]) * self.factors)
        hashed = (a ^ b ^ c) & (self.table_size - 1)
        index = torch.where(self.dense, a + b + c, hashed) + self.offsets
        x, y, z = _cube(torch.stack([1 - upper, upper]))
        rows = embedding(index, self.table).to(self.working_dtype)
        return ((x * y * z)[..., None] * rows).sum((0, 1, 2)).flatten(-3)


def _cube(sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three axes of ``(2, ..., 3)``, to be broadcast over the vertices ``(2, 2, 2, ...)``."""
    x, y, z = sides.unbind(-1)
    return x[:, None, None], y[:, None], z
