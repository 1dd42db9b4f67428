"""LocationEncoder and SumEncoder: composition, time, embed, and what they refuse."""

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import geoenc
from geoenc import sampling

BERKELEY_PARIS = [(-122.27, 37.87), (2.35, 48.86)]


def encoder(out: int = 5, time: bool = False, **settings: Any) -> geoenc.LocationEncoder:
    position = geoenc.Space2VecGrid(3, **settings)
    network = geoenc.FFN(12 + 2 * time, out, hidden_features=7)
    return geoenc.LocationEncoder(position, network, geoenc.CyclicTime() if time else None)


def test_encoder_is_the_composition() -> None:
    model = encoder().eval()
    lonlat = geoenc.as_lonlat(BERKELEY_PARIS)
    assert model(lonlat).equal(model.network(model.position(lonlat)))
    assert model.code(lonlat).equal(model.position(lonlat))
    assert model.out_features == 5


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 4)])
@pytest.mark.parametrize("timed", [False, True])
def test_shapes(shape: tuple[int, ...], timed: bool) -> None:
    model = encoder(time=timed)
    time = torch.rand(shape) if timed else None
    assert model(torch.zeros(*shape, 2), time).shape == (*shape, 5)
    assert model.embed(torch.zeros(*shape, 2), time).shape == (*shape, 5)


def test_time_stands_beside_the_position() -> None:
    model = encoder(time=True).double().eval()
    lonlat, time = geoenc.as_lonlat(BERKELEY_PARIS), torch.tensor([0.25, 0.75])
    code = model.code(lonlat, time)
    assert code[:, :12].equal(model.position(lonlat))
    assert code[:, 12:].tolist() == pytest.approx(model.time(time).double().numpy())
    assert not model(lonlat, time).equal(model(lonlat, time + 0.1))


@pytest.mark.parametrize("shift", [1.0, -2.0])
def test_years_repeat(shift: float) -> None:
    time = torch.linspace(0, 1, 13, dtype=torch.float64)
    code = geoenc.CyclicTime()
    assert torch.allclose(code(time), code(time + shift), atol=1e-12)
    wanted = [[np.sin(2 * np.pi * t - np.pi), np.cos(2 * np.pi * t - np.pi)] for t in time.numpy()]
    assert code(time).numpy() == pytest.approx(np.array(wanted), abs=1e-12)


# --- embed --------------------------------------------------------------------------------------


def test_embed_passes_the_gate_and_wraps() -> None:
    model = encoder()
    there = model.embed([(237.73, 37.87)])
    assert torch.allclose(there, model.embed([(-122.27, 37.87)]), atol=1e-5)
    frame = pd.DataFrame(BERKELEY_PARIS, columns=["lon", "lat"])
    assert model.embed(frame).equal(model.embed(BERKELEY_PARIS))
    assert model.embed(BERKELEY_PARIS[0]).shape == (5,)
    with pytest.raises(ValueError, match="latitude 122 is outside"):
        model.embed([(37.87, 122.0)])


def test_embed_works_in_evaluation_mode_and_restores_each_mode() -> None:
    model = encoder().train()
    model.network.layers[0].eval()
    modes = {name: part.training for name, part in model.named_modules()}
    first = model.embed(BERKELEY_PARIS)
    assert first.equal(model.embed(BERKELEY_PARIS))
    assert not first.requires_grad
    assert {name: part.training for name, part in model.named_modules()} == modes
    with pytest.raises(ValueError, match="infinity"):
        model.embed([(0.0, float("inf"))])
    assert {name: part.training for name, part in model.named_modules()} == modes


def test_embed_restores_modes_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder().train()

    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.network, "forward", fail)
    with pytest.raises(RuntimeError):
        model.embed(BERKELEY_PARIS)
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("batch_size", [1, 3, 10, 65536])
@pytest.mark.parametrize("timed", [False, True])
def test_embed_in_chunks_is_embed(batch_size: int, timed: bool) -> None:
    model = encoder(time=timed).double()
    lonlat = geoenc.as_lonlat(sampling.uniform(10).view(2, 5, 2))
    time = torch.rand(2, 5, dtype=torch.float64) if timed else None
    got = model.embed(lonlat, time, batch_size=batch_size)
    assert torch.allclose(got, model.embed(lonlat, time), atol=1e-12)
    assert got.shape == (2, 5, 5)


def test_embed_keeps_missing_places_missing() -> None:
    got = encoder().embed([(2.35, 48.86), (float("nan"), 3.0)])
    assert got.isnan().any(1).tolist() == [False, True]
    assert got[1].isnan().all()


def test_embed_follows_the_dtype_of_the_model() -> None:
    assert encoder().embed(BERKELEY_PARIS).dtype == torch.float32
    assert encoder().double().embed(BERKELEY_PARIS).dtype == torch.float64


def test_embed_calls_a_forward_that_was_put_in_its_place() -> None:
    model, places = encoder(), sampling.uniform(300)
    wanted = 3 * model.embed(places)
    plain = model.network.forward
    model.network.forward = lambda x: 3 * plain(x)  # type: ignore[method-assign]
    assert torch.allclose(model.embed(places), wanted)
    again = encoder()
    again.forward = lambda lonlat, time=None: torch.ones(len(lonlat), 5)  # type: ignore[method-assign]
    assert (again.embed(places) == 1).all()


def test_embed_writes_where_it_is_told() -> None:
    model, places = encoder(), sampling.uniform(3000)
    wanted = model.embed(places)
    for out in (torch.empty(3000, 5), torch.empty(5, 3000).mT, torch.empty(3000, 5).double()):
        assert model.embed(places, out=out) is out
        assert torch.allclose(out.float(), wanted)
    grid = geoenc.as_lonlat(places.view(30, 100, 2))
    assert torch.allclose(model.embed(grid, out=torch.empty(3000, 5)), wanted)
    with pytest.raises(ValueError, match=r"out of shape \(3000, 5\), got \(3000, 4\)"):
        model.embed(places, out=torch.empty(3000, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("there", [True, False])
def test_embed_in_half_precision_has_the_same_weights_with_and_without_such_products(
    dtype: torch.dtype, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without, the arithmetic is that of float32, and only the result is rounded."""
    monkeypatch.setattr("geoenc.encoder.has_products", lambda dtype: there)
    places = sampling.uniform(50)
    for model in (encoder(time=True), geoenc.SumEncoder([encoder(), encoder()])):
        time = torch.rand(50) if isinstance(model, geoenc.LocationEncoder) else None
        half = copy.deepcopy(model).to(dtype)
        wide = copy.deepcopy(half).float().embed(places, time)
        got = half.embed(places, time)
        assert got.dtype == dtype
        off = (got.float() - wide).abs().max() / wide.abs().max()
        assert off < (0.05 if there else torch.finfo(dtype).eps)
        assert {parameter.dtype for parameter in half.parameters()} == {dtype}


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(4, 8)),
            ["in_features=3", "XYZ gives 3", "got 4", "pass position.out_features"],
        ),
        (
            lambda: geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8), geoenc.CyclicTime()),
            ["in_features=5", "XYZ gives 3 and CyclicTime 2", "got 3"],
        ),
        (lambda: encoder()(torch.zeros(3, 3)), ["(..., 2) in degrees", "got (3, 3)"]),
        (
            lambda: encoder()(torch.zeros(3, 2), torch.zeros(3)),
            ["no time", "got (3,)", "time=CyclicTime()"],
        ),
        (lambda: encoder(time=True)(torch.zeros(3, 2)), ["time of shape (3,)", "got None"]),
        (
            lambda: encoder(time=True)(torch.zeros(3, 2), torch.zeros(3, 1)),
            ["time of shape (3,)", "got (3, 1)"],
        ),
        (
            lambda: encoder(time=True).embed(BERKELEY_PARIS, [0.5]),
            ["one time per place", "1 times for 2 places"],
        ),
        (lambda: encoder().embed(BERKELEY_PARIS, batch_size=0), ["batch_size", "got 0"]),
        (lambda: geoenc.SumEncoder([]), ["one out_features", "no encoder"]),
        (lambda: geoenc.SumEncoder([encoder(4), encoder(5)]), ["one out_features", "[4, 5]"]),
    ],
)
def test_refuses(call: Any, words: list[str]) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        call()
    for word in words:
        assert word in str(caught.value)


# --- sums ---------------------------------------------------------------------------------------


def test_sum_is_the_sum() -> None:
    parts = [encoder(min_radius=r) for r in (0.1, 1.0, 10.0)]
    model = geoenc.SumEncoder(parts).double().eval()
    lonlat = geoenc.as_lonlat(BERKELEY_PARIS)
    wanted = parts[0](lonlat) + parts[1](lonlat) + parts[2](lonlat)
    assert torch.allclose(model(lonlat), wanted, atol=1e-12)
    assert model.out_features == 5
    assert len(list(model.parameters())) == 3 * len(list(parts[0].parameters()))


def test_sum_of_encoders_with_time() -> None:
    model = geoenc.SumEncoder([encoder(time=True), encoder(time=True)])
    assert model.embed(BERKELEY_PARIS, [0.1, 0.9]).shape == (2, 5)


def test_gradients_reach_places_and_parameters() -> None:
    model = encoder().double().eval()
    lonlat = geoenc.as_lonlat(BERKELEY_PARIS).requires_grad_()
    model(lonlat).square().sum().backward()
    assert lonlat.grad is not None
    assert (lonlat.grad != 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
