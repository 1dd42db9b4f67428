"""Blocks and outputs: what every position encoder can do with many places."""

from collections.abc import Callable

import pytest
import torch

import geoenc

ENCODERS = [
    geoenc.XYZ(),
    geoenc.Space2VecGrid(6),
    geoenc.SphericalHarmonics(5),
    geoenc.RBF(7, 10.0),
    geoenc.Tile(4, 30.0),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_blocks_and_write_give_the_codes(
    encoder: geoenc.PositionEncoder, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(encoder), "_block_rows", 300)
    lonlat = geoenc.sampling.fibonacci(rows) if rows else torch.empty(0, 2)
    wanted = encoder(lonlat)
    seen = torch.full_like(wanted, torch.nan)
    for part, code in encoder.blocks(lonlat):
        assert not code.requires_grad
        seen[part] = code
    for got in (seen, encoder.write(lonlat), encoder.write(lonlat, torch.empty_like(wanted))):
        assert got.shape == wanted.shape
        assert torch.allclose(got, wanted, atol=1e-6)
    other_way = torch.empty(encoder.out_features, rows).T
    assert encoder.write(lonlat, other_way) is other_way
    assert torch.allclose(other_way, wanted, atol=1e-6)


def test_write_narrows_to_the_output() -> None:
    lonlat = geoenc.sampling.fibonacci(50)
    half = geoenc.XYZ().write(lonlat, torch.empty(50, 3, dtype=torch.float16))
    assert torch.equal(half, geoenc.XYZ()(lonlat).half())


def test_write_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected out of shape \(5, 3\), got \(5, 4\)"):
        geoenc.XYZ().write(geoenc.sampling.fibonacci(5), torch.empty(5, 4))
    with pytest.raises(ValueError, match=r"expected lonlat of shape \(N, 2\), got \(2,\)"):
        geoenc.XYZ().write(torch.zeros(2))


def test_time_is_for_encoders_that_take_it() -> None:
    with pytest.raises(ValueError, match="XYZ encodes places only"):
        geoenc.XYZ()(torch.zeros(3, 2), torch.zeros(3))


@pytest.mark.parametrize(
    "make", [lambda: geoenc.Space2VecGrid(10**10), lambda: geoenc.Sphere2VecDFS(10**5)]
)
def test_refuses_codes_that_no_memory_holds(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="at most 16,777,216 columns"):
        make()


@pytest.mark.parametrize("number", [0, -3, 2.5])
def test_refuses_frequencies_that_are_no_count(number: object) -> None:
    for make in (geoenc.Space2VecGrid, geoenc.Sphere2VecC, geoenc.NeRF, geoenc.RFF):
        with pytest.raises(ValueError, match="integer of at least 1"):
            make(number)
