"""Herglotz: plane waves of complex direction, each a series of harmonics of its own steepness."""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize, softplus

from geoenc.coordinates import to_xyz
from geoenc.position.base import PositionEncoder


class Herglotz(PositionEncoder):
    """exp(r (u - 1)) [(1 + 2 r u) cos(r v) - 2 r v sin(r v)] / (1 + 2 degree), one per atom.

    u = a . x and v = b . x for the unit vector x of the place, with orthonormal a and b drawn
    once for each atom and frozen; r = softplus(sigma) is trained. It is the real part of a sum
    over all degrees of harmonics along the complex direction a + ib, steeper with larger r.

    Args:
        num_atoms: how many.
        degree: sigma starts uniform in [0, degree], and 1 + 2 degree is the divisor: roughly the
            degree of the harmonics that the atoms reach at first.
        rotation: also train a rotation of each atom's a and b: a quaternion (w, x, y, z), the
            identity at first.
        generator: of a, b (buffers, which travel with the weights) and sigma.

    Shape:
        ``(..., 2)`` to ``(..., num_atoms)``.

    Example:
        >>> import torch, geoenc
        >>> geoenc.Herglotz(32)(torch.tensor([12.3, 45.6])).shape
        torch.Size([32])

    Reference:
        Hanon et al., Herglotz-NET: implicit neural representation of spherical data with
        harmonic positional encoding, 2025.

    Differs:
        The divisor is exact; the published package rounds its inverse to float32 (6e-8).
    """

    num_atoms: int
    degree: int
    rotation: bool
    sigma: nn.Parameter
    wraps_antimeridian = True
    wraps_poles = True
    directions: Tensor

    def __init__(
        self,
        num_atoms: int = 64,
        degree: int = 10,
        *,
        rotation: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if num_atoms < 1:
            raise ValueError(f"expected num_atoms of at least 1, got {num_atoms}")
        if degree < 0:
            raise ValueError(f"expected degree of at least 0, got {degree}")
        super().__init__(out_features=num_atoms)
        self.num_atoms, self.degree, self.rotation = num_atoms, degree, rotation
        a, b = torch.randn(2, num_atoms, 3, generator=generator, dtype=torch.float64)
        a = normalize(a, dim=-1)
        b = normalize(b - (a * b).sum(-1, keepdim=True) * a, dim=-1)
        self.register_buffer("directions", torch.stack([a, b]))
        self.sigma = nn.Parameter(degree * torch.rand(num_atoms, generator=generator))
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(num_atoms, 1)
        self.quaternion = nn.Parameter(identity) if rotation else None

    def encode(self, lonlat: Tensor) -> Tensor:
        """See the class."""
        directions = self.directions
        if self.quaternion is not None:
            directions = rotated(directions, self.quaternion.to(directions))
        xyz = to_xyz(lonlat)
        u, v = xyz @ directions[0].T, xyz @ directions[1].T
        r = softplus(self.sigma.to(lonlat.dtype))
        wave = (1 + 2 * r * u) * (r * v).cos() - 2 * r * v * (r * v).sin()
        return (r * (u - 1)).exp() * wave / (1 + 2 * self.degree)


def rotated(vectors: Tensor, quaternion: Tensor) -> Tensor:
    """v + 2 w (q x v) + 2 q x (q x v) for quaternions (w, q), which are given unit length."""
    unit = normalize(quaternion, dim=-1)
    w, axis = unit[..., :1], unit[..., 1:].expand_as(vectors)
    across = 2 * torch.linalg.cross(axis, vectors)
    return vectors + w * across + torch.linalg.cross(axis, across)
