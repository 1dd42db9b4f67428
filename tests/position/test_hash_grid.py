"""HashGrid against a loop over places, grids, levels and vertices, with a hash of 32 bits."""

import math
from itertools import product

import pytest
import torch
from reference import places
from torch import Tensor

import geoenc

BITS = 0xFFFFFFFF


def reference(encoder: geoenc.HashGrid, lonlat: Tensor, time: float | None) -> list[float]:
    x, y, z = ((v + 1) / 2 for v in geoenc.coordinates.to_xyz(lonlat).tolist())
    grids = [(x, y, z)] if time is None else [(x, y, z), (x, y, time), (y, z, time), (x, z, time)]
    table, start, columns = encoder.table.tolist(), 0, []
    for point in grids:
        for level in range(encoder.num_levels):
            size = encoder.base_resolution << level
            dense = size**3 <= encoder.table_size
            position = [p * (size - 1) for p in point]
            lower = [min(math.floor(p), size - 2) for p in position]
            total = [0.0] * encoder.features_per_level
            for corner in product((0, 1), repeat=3):
                v = [low + side for low, side in zip(lower, corner, strict=True)]
                weight = 1.0
                for p, low, side in zip(position, lower, corner, strict=True):
                    w = (p - low) ** 2 * (3 - 2 * (p - low))
                    weight *= w if side else 1 - w
                mixed = v[0] ^ (v[1] * 2654435761 & BITS) ^ (v[2] * 805459861 & BITS)
                index = v[0] + size * v[1] + size**2 * v[2] if dense else mixed % encoder.table_size
                row = table[start + index]
                total = [t + weight * r for t, r in zip(total, row, strict=True)]
            start += size**3 if dense else encoder.table_size
            columns += total
    assert start == len(table)
    return columns


def filled(**arguments: object) -> geoenc.HashGrid:
    encoder = geoenc.HashGrid(**arguments).double()  # type: ignore[arg-type]
    torch.nn.init.normal_(encoder.table)
    return encoder


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_levels": 5, "base_resolution": 3, "table_size": 512},
        {"num_levels": 3, "features_per_level": 1, "base_resolution": 8, "table_size": 512},
        {"num_levels": 26, "features_per_level": 1, "base_resolution": 64, "table_size": 64},
        {"num_levels": 2, "features_per_level": 3, "base_resolution": 2, "table_size": 2**10},
    ],
)
@pytest.mark.parametrize("takes_time", [False, True])
def test_hash_grid(arguments: dict[str, int], takes_time: bool) -> None:
    encoder = filled(**arguments, takes_time=takes_time)
    lonlat = places()
    time = torch.linspace(0, 1, len(lonlat), dtype=torch.float64)
    code = encoder(lonlat, time) if takes_time else encoder(lonlat)
    for place, when, row in zip(lonlat, time.tolist(), code, strict=True):
        wanted = reference(encoder, place, when if takes_time else None)
        assert row.tolist() == pytest.approx(wanted, abs=1e-11)


def test_slopes_are_right_and_continuous() -> None:
    encoder = filled(num_levels=3, base_resolution=4, table_size=256)
    lonlat = geoenc.sampling.uniform(20).requires_grad_()
    assert torch.autograd.gradcheck(encoder, lonlat, eps=1e-6, atol=1e-5)
    # z = 1/3 is a vertex plane of the coarsest level: no slope along the meridian is lost there
    plane = math.degrees(math.asin(1 / 3))
    near = torch.tensor([(20.0, plane - 1e-7), (20.0, plane + 1e-7)], dtype=torch.float64)
    south, north = torch.func.vmap(torch.func.jacrev(encoder))(near)
    assert (south - north).abs().max() < 1e-5


def test_time_is_needed_and_propagates_what_is_missing() -> None:
    encoder = geoenc.HashGrid(2, base_resolution=4, table_size=64, takes_time=True)
    with pytest.raises(ValueError, match=r"expected time of shape \(32,\)"):
        encoder(places())
    code = encoder(places()[:2], torch.tensor([0.5, math.nan]))
    space = 2 * encoder.features_per_level
    assert code[0].isfinite().all()
    assert code[1, space:].isnan().all()
    with pytest.raises(ValueError, match="encodes places only"):
        geoenc.HashGrid(2, base_resolution=4, table_size=64)(places(), torch.zeros(32))


def test_places_train_the_rows_that_they_touch() -> None:
    encoder = geoenc.HashGrid(1, base_resolution=4, table_size=64)
    encoder(torch.tensor([(10.0, 20.0)])).sum().backward()
    assert encoder.table.grad is not None
    assert int((encoder.table.grad != 0).any(1).sum()) == 8
    assert encoder.table.grad.sum().item() == pytest.approx(encoder.features_per_level)


def test_tables_start_small_and_again_from_the_seed() -> None:
    first, again = (
        geoenc.HashGrid(4, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first.table, again.table)
    assert 0.99e-4 < first.table.abs().max() <= 1e-4
    assert first.state_dict().keys() == {"table"}


def test_hash_grid_refuses() -> None:
    with pytest.raises(ValueError, match="num_levels and features_per_level of at least 1"):
        geoenc.HashGrid(0)
    with pytest.raises(ValueError, match="num_levels and features_per_level of at least 1"):
        geoenc.HashGrid(features_per_level=0)
    with pytest.raises(ValueError, match="base_resolution of at least 2"):
        geoenc.HashGrid(base_resolution=1)
    with pytest.raises(ValueError, match=r"at most 2\^31 vertices"):
        geoenc.HashGrid(28, base_resolution=32)
    for size in (0, 3, 1000):
        with pytest.raises(ValueError, match=f"table_size to be a power of two, got {size}"):
            geoenc.HashGrid(table_size=size)
    with pytest.raises(ValueError, match="at most 268,435,456 numbers"):
        geoenc.HashGrid(24, base_resolution=64, table_size=2**26)
