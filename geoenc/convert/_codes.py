"""Position codes of other libraries as ours, and what that does to the first weight."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geoenc.convert._checkpoint import Checkpoint
from geoenc.position import (
    RFF,
    XYZ,
    Direct,
    PositionEncoder,
    Space2VecGrid,
    Space2VecTheory,
    Sphere2VecC,
    Sphere2VecCPlus,
    Sphere2VecDFS,
    SphericalHarmonics,
    Wrap,
)

Fold = Callable[[Tensor], Tensor]
Wave = tuple[str, float, float]
"""``("sin", a, b)`` is sin(a lon + b lat), with a and b in radians per degree."""

_EAST = 180 - 180 / math.pi
RADIANS = (_EAST, _EAST + 360 / math.pi) * 2
"""The extent in which `Direct` is deg2rad(x) - pi: edges map to -1 and 1."""


@dataclass
class Code:
    """A foreign position code: theirs = C ours, with a matrix C of which only W C is needed.

    Attributes:
        position: our encoder.
        columns: width of the original's code.
        fold: W to W C; None if C is the identity.
        state: buffers and weights of our encoder.
    """

    position: PositionEncoder
    columns: int
    fold: Fold | None = None
    state: dict[str, Tensor] = field(default_factory=dict)

    def folded(self, weight: Tensor) -> Tensor:
        """The first weight of a network on the original's code, for the one on ours."""
        return weight if self.fold is None else self.fold(weight)


def same(position: PositionEncoder) -> Code:
    """The code as it is here."""
    return Code(position, position.out_features)


def gathered(position: PositionEncoder, columns: Tensor) -> Code:
    """Column c there is ``columns[c]`` here; a column may be there twice."""

    def fold(weight: Tensor) -> Tensor:
        return weight.new_zeros(len(weight), position.out_features).index_add_(1, columns, weight)

    return Code(position, len(columns), fold)


def scales(kind: Callable[..., PositionEncoder], count: int, first: float, last: float) -> Code:
    """Radii from ``first`` to ``last``, whichever is larger; ours begin with the finest."""
    low, high = sorted((first, last))
    position = kind(count, min_radius=low, max_radius=high)
    if first <= last:
        return same(position)
    columns = torch.arange(position.out_features)
    if isinstance(position, Space2VecGrid):
        columns = columns.view(2, count, 2).flip(1).flatten()
    elif isinstance(position, Sphere2VecDFS):
        products = columns[: 4 * count**2].view(2, count, 2, count).flip(1, 3).flatten()
        columns = torch.cat([products, columns[4 * count**2 :].view(count, 4).flip(0).flatten()])
    else:
        columns = columns.view(count, -1).flip(0).flatten()
    return gathered(position, columns)


def planar(columns: Sequence[tuple[Wave, ...]]) -> Code:
    """Any products of two waves of the plane, as sums of single waves: random features, set.

    cos A cos B = (cos(A - B) + cos(A + B)) / 2, and likewise for the other pairs.
    """
    rows: dict[tuple[float, float], int] = {}
    entries = [
        (column, function, rows.setdefault((east, north), len(rows)), factor)
        for column, waves in enumerate(columns)
        for function, east, north, factor in _sums(waves)
    ]
    turns = torch.tensor(list(rows), dtype=torch.float64) * torch.tensor([90.0, 45.0]) / math.pi
    position = RFF(len(rows), scale=float(turns.square().mean().sqrt()))
    matrix = torch.zeros(len(columns), 2, len(rows), dtype=torch.float64)
    for column, function, row, factor in entries:
        matrix[column, int(function == "sin"), row] += factor
    return Code(
        position, len(columns), lambda weight: weight @ matrix.flatten(1), {"frequency": turns}
    )


def _sums(waves: tuple[Wave, ...]) -> Iterable[tuple[str, float, float, float]]:
    if len(waves) == 1:
        return [(*waves[0], 1.0)]
    (one, a, b), (other, c, d) = waves
    less, more = (a - c, b - d), (a + c, b + d)
    if one == other:
        return [("cos", *less, 0.5), ("cos", *more, 0.5 if one == "cos" else -0.5)]
    return [("sin", *more, 0.5), ("sin", *less, 0.5 if one == "sin" else -0.5)]


def harmonics(count: int, *, order: bool, pi: bool) -> Code:
    """Real harmonics at the antipode, Y(-r) = (-1)^l Y(r), for ``count`` degrees from 0.

    Args:
        count: degrees, as the originals count them.
        order: with (-1)^m, which the closed form keeps.
        pi: columns m = 0 times pi, the misplaced bracket of the first tables.
    """
    position = SphericalHarmonics(max(count, 1) - 1)
    m = torch.cat([torch.arange(-one, one + 1) for one in range(max(count, 1))])
    band = torch.arange(max(count, 1))
    band = torch.repeat_interleave(band, 2 * band + 1)
    factor = (-1.0) ** (band + m * order).double() * math.pi ** ((m == 0) & pi).double()
    return Code(position, len(factor), lambda weight: weight * factor)


def doubled_latitude() -> Code:
    """The geographic prior's point on the sphere, whose latitude is doubled by mistake."""
    east, north = math.pi / 180, math.pi / 90
    lat: Wave = ("cos", 0.0, north)
    return planar([(lat, ("cos", east, 0.0)), (lat, ("sin", east, 0.0)), (("sin", 0.0, north),)])


# --- the encoders of Russwurm's library, which SatCLIP and RANGE carry on -------------------------

RUSSWURM = (
    *("direct", "cartesian3d", "wrap", "sphericalharmonics", "theory", "grid"),
    *("spherec", "spherecplus", "spherem", "spheremplus"),
)


def russwurm(file: Checkpoint, name: str, *, pi: bool) -> Code:
    """A position code by its name there.

    Degrees enter the sines of the sphere encoders as if they were radians, and each column is
    there twice; the second half of theory has sine and cosine swapped if the number of scales is
    odd; wrap goes cosine, sine, cosine, sine.
    """
    if name == "direct":
        return same(Direct(RADIANS))
    if name == "cartesian3d":
        return same(XYZ())
    if name == "wrap":
        return gathered(Wrap(latitude_period=360.0), torch.tensor([2, 0, 3, 1]))
    if name == "sphericalharmonics":
        closed = {"analytic": False, "closed-form": True}
        order = file.choice("harmonics_calculation", closed, default="analytic")
        degrees = file.whole("legendre_polys", most=1024)
        return harmonics(degrees, order=order, pi=pi and not order)
    count = max(file.whole("frequency_num", most=4096), 1)
    first, last = file.real("min_radius"), file.real("max_radius")
    if name in ("grid", "theory"):
        code = scales(Space2VecGrid if name == "grid" else Space2VecTheory, count, first, last)
        return _odd(code) if name == "theory" and count % 2 else code
    degree = math.pi / 180
    if name in ("spherec", "spherecplus"):
        kind = Sphere2VecC if name == "spherec" else Sphere2VecCPlus
        return _twice(scales(kind, count, first * degree, last * degree))
    return _twice(planar(_mixed(name, count, first, last)))


def _mixed(name: str, count: int, first: float, last: float) -> list[tuple[Wave, ...]]:
    """sphereM and sphereM+ in degrees: angles at a scale times angles that are not scaled."""
    columns: list[tuple[Wave, ...]] = []
    for step in range(count):
        f = 1 / (first * (last / first) ** (step / max(count - 1, 1)))
        grid = [(("sin", 0.0, f),), (("cos", 0.0, f),), (("sin", f, 0.0),), (("cos", f, 0.0),)]
        columns += grid if name == "spheremplus" else grid[:1]
        for east in ("cos", "sin"):
            columns += [
                (("cos", 0.0, f), (east, 1.0, 0.0)),
                (("cos", 0.0, 1.0), (east, f, 0.0)),
            ]
    return columns


def _twice(code: Code) -> Code:
    def fold(weight: Tensor) -> Tensor:
        return code.folded(weight.unflatten(1, (-1, 2)).sum(2))

    return Code(code.position, 2 * code.columns, fold, code.state)


def _odd(code: Code) -> Code:
    columns = torch.arange(code.columns)
    columns = columns.where(columns < code.columns // 2, columns ^ 1)
    swapped = gathered(code.position, columns)
    return Code(code.position, code.columns, lambda weight: code.folded(swapped.folded(weight)))
