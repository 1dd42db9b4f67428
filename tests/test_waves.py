"""The fast ways of the sinusoidal encoders give the numbers of the plain formula."""

import shutil
from unittest import mock

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc import native, waves
from geoenc.position.sinusoidal import Sinusoidal

ENCODERS: dict[str, Sinusoidal] = {
    "Space2VecGrid": geoenc.Space2VecGrid(5, min_radius=1e-3),
    "Space2VecTheory": geoenc.Space2VecTheory(5, min_radius=1e-2),
    "Sphere2VecC": geoenc.Sphere2VecC(5),
    "Sphere2VecCPlus": geoenc.Sphere2VecCPlus(4),
    "Sphere2VecM": geoenc.Sphere2VecM(4),
    "Sphere2VecMPlus": geoenc.Sphere2VecMPlus(4),
    "Sphere2VecDFS": geoenc.Sphere2VecDFS(3),
    "NeRF": geoenc.NeRF(8),
    "RFF": geoenc.RFF(6, scale=16.0, plane="equal_earth"),
    "RFF-shifted": geoenc.RFF(6, scale=16.0, plane="xyz", shifted=True),
}
COMPILER = shutil.which("g++") or shutil.which("clang++")


def lonlat(rows: int = 700) -> Tensor:
    poles = torch.tensor([[180.0, 90.0], [-180.0, -90.0]], dtype=torch.float64)
    return torch.cat([poles, geoenc.sampling.fibonacci(rows - 2)])


def test_every_sinusoidal_encoder_is_here() -> None:
    found = {
        name
        for name, cls in geoenc.component.Component.registry.items()
        if issubclass(cls, Sinusoidal) and cls.__module__.startswith("geoenc.")
    }
    assert found == {name.partition("-")[0] for name in ENCODERS}


@pytest.mark.parametrize("name", ENCODERS)
def test_parameters_say_what_the_formula_says(name: str) -> None:
    encoder = ENCODERS[name].double()
    wanted = encoder(lonlat())
    encoder.float()
    assert (encoder.waves()(lonlat()) - wanted).abs().max() < 1e-9


@pytest.mark.parametrize("name", ENCODERS)
def test_rows_in_float32_reduce_the_phase_first(name: str) -> None:
    """As on a device without float64: the phase of a float32 place is right to 1e-6."""
    encoder = ENCODERS[name].float()
    if name in ("Space2VecTheory", "NeRF", "RFF", "RFF-shifted"):
        pytest.skip("the projection itself is rounded to float32 there")
    narrow = lonlat().float()
    assert (encoder.encode(narrow) - encoder.encode(narrow.double())).abs().max() < 2e-6


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_buffered_equals_plain(name: str, dtype: torch.dtype) -> None:
    """The last block is not full, the output has any strides and dtype."""
    encoder = ENCODERS[name].double()
    wanted = encoder(lonlat())
    fill = waves.buffered(encoder.waves(), dtype)
    tolerance = 2e-7 if dtype == torch.float32 else 1e-9
    for out in (
        torch.full((700, encoder.out_features), torch.nan, dtype=dtype),
        torch.full((encoder.out_features, 700), torch.nan, dtype=torch.float64).T,
    ):
        for start in range(0, 700, 300):
            fill(lonlat()[start : start + 300], out[start : start + 300])
        assert (out - wanted).abs().max() < tolerance
    encoder.float()


@pytest.mark.parametrize("name", ["Space2VecGrid", "Sphere2VecMPlus"])
def test_blocks_of_half_precision_and_of_few_places(name: str) -> None:
    encoder = ENCODERS[name].half()
    wanted = encoder(lonlat(40))
    (_, few), *rest = encoder.blocks(lonlat(40))
    assert not rest
    assert torch.equal(few, wanted)
    assert torch.equal(next(encoder.blocks(lonlat()))[1], encoder(lonlat()))
    encoder.float()


@pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
@pytest.mark.parametrize("name", ENCODERS)
def test_the_kernel_equals_plain(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of 240 places, so that the last one is not full."""
    encoder = ENCODERS[name].double()
    wanted = encoder(lonlat())
    encoder.float()
    monkeypatch.setattr(type(encoder), "_kernel_rows", 240)
    out = torch.full((700, encoder.out_features), torch.nan)
    with mock.patch.object(encoder, "forward", side_effect=AssertionError("plain")):
        encoder.write(lonlat(), out, compile=True)
        blocks = [(rows, code.clone()) for rows, code in encoder.blocks(lonlat(), compile=True)]
    assert (out - wanted).abs().max() < 1e-6
    assert [len(code) for _, code in blocks] == [240, 240, 220]
    for rows, code in blocks:
        assert (code - wanted[rows]).abs().max() < 1e-6
    columns = torch.full((encoder.out_features, 700), torch.nan).T
    apart = torch.full((700, encoder.out_features + 3), torch.nan)[:, :-3]
    narrow = lonlat().float()
    off = encoder.write(narrow, compile=True) - encoder.double()(narrow)
    assert off.abs().max() < 1e-6
    encoder.float()
    for places, into in (
        (lonlat(), columns),
        (lonlat(), apart),
        (lonlat()[:1], out[:1]),
        (lonlat()[:0], out[:0]),
    ):
        into.fill_(torch.nan)
        encoder.write(places, into, compile=True)
        assert not (into - wanted[: len(into)]).abs().gt(1e-6).any()
        assert not into.isnan().any()


@pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
def test_the_kernel_sees_parameters_that_changed() -> None:
    encoder, other = (geoenc.RFF(40, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    before = encoder.write(lonlat(), compile=True)
    encoder.load_state_dict(other.state_dict())
    assert (before - other(lonlat())).abs().max() > 0.1
    assert (encoder.write(lonlat(), compile=True) - other(lonlat())).abs().max() < 1e-6
    grid = geoenc.Space2VecGrid(4)
    before = grid.write(lonlat(), compile=True)
    grid.min_radius = 2.0
    assert (before - grid(lonlat())).abs().max() > 0.1
    assert (grid.write(lonlat(), compile=True) - grid(lonlat())).abs().max() < 1e-6
    grid.train()
    kept = grid.__dict__["_kept"]
    grid.write(lonlat(), compile=True)
    assert grid.__dict__["_kept"] is kept


def test_phases_are_taken_once_and_by_axis() -> None:
    """Of sphereM's products, one angle has no scale; sines and cosines share their phase."""
    scales = 4
    given = waves._sines_and_cosines(geoenc.Sphere2VecMPlus(scales).waves())
    phases, counts, first, second = given
    assert phases.shape == (2 * scales + 2, 3)
    assert counts.tolist() == [scales + 1, scales + 1, 0]
    assert first.max() <= 2 * len(phases)
    assert second is not None
    theory = waves._sines_and_cosines(geoenc.Space2VecTheory(scales).waves())
    assert theory[1].sum() == 3 * scales
    assert theory[3] is None


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
@pytest.mark.parametrize("name", ["Space2VecTheory", "Sphere2VecCPlus", "RFF-shifted"])
def test_compiled_equals_plain(name: str) -> None:
    """The way of GPUs, compiled for the processor."""
    encoder = ENCODERS[name].double()
    wanted = encoder(lonlat())
    encoder.float()
    fill = waves.compiled(encoder.waves())
    assert fill is not None
    for places in (lonlat(), lonlat(300), lonlat()[:1]):
        out = torch.full((len(places), encoder.out_features), torch.nan)
        fill(places, out)
        assert (out - encoder.double()(places)).abs().max() < 1e-6
    encoder.float()
    columns = torch.empty(encoder.out_features, 700).T
    fill(lonlat(), columns)
    assert (columns - wanted).abs().max() < 1e-6


def test_without_a_compiler_the_plain_formula_is_used() -> None:
    encoder = geoenc.Space2VecGrid(4)
    with (
        mock.patch("geoenc.waves.load_kernels", return_value=None),
        mock.patch("torch.compile", side_effect=RuntimeError("no compiler")),
    ):
        assert waves.compiled(encoder.waves()) is None
        for places in (lonlat(), lonlat()[:0]):
            assert torch.equal(encoder.write(places, compile=True), encoder(places))
            for rows, code in encoder.blocks(places, compile=True):
                assert torch.equal(code, encoder(places[rows]))


def test_products_of_all_pairs_are_found() -> None:
    pairs = torch.tensor([[5, 5, 5, 7, 7, 7, 1, 2], [0, 1, 2, 0, 1, 2, 3, 3]])
    assert waves._outer(pairs) == (2, 3)
    assert waves._outer(pairs[:, 1:]) == (0, 0)
    assert waves._outer(pairs[:, :3]) == (0, 0)
    assert waves._outer(pairs[:, 5:]) == (0, 0)


@pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
def test_phases_of_any_length() -> None:
    """Up to 2^19 turns they are taken another way; both are found side by side in one group."""
    encoder = geoenc.Space2VecGrid(8, min_radius=1e-4, max_radius=1.0)
    places = torch.tensor(
        [[12.3456789, -7.0], [170.1, 80.0], [-179.9, 1e-5], [52.42, 52.43]]
    ).double()
    places = torch.cat([places, places / 1e3]).repeat(9, 1)
    turns = (places.abs().amax(1) / 1e-4).sort().values
    assert turns[0] < 2**19 < turns[-1]
    got = encoder.write(places, compile=True)
    assert (got - encoder.double()(places)).abs().max() < 1e-6
    alone = torch.cat([encoder.float().write(one[None], compile=True) for one in places])
    assert (got - alone).abs().max() < 3e-7
