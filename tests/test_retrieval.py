"""Retrieval: the running softmax equals the dense one, forwards and backwards, in any chunks."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc import retrieval, testing
from geoenc.retrieval import soft_retrieve

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def tables(queries: int, entries: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = ((queries, 5), (entries, 5), (entries, 3))
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def dense(query: Tensor, keys: Tensor, features: Tensor, temperature: float) -> Tensor:
    return (query @ keys.T / temperature).softmax(-1) @ features


def encoder(width: int = 6) -> geoenc.LocationEncoder:
    net = geoenc.FFN(3, width, hidden_features=8, final_activation=False)
    return geoenc.LocationEncoder(geoenc.XYZ(), net).eval()


def augmented(entries: int = 40, **settings: float) -> geoenc.RetrievalAugmented:
    places = geoenc.sampling.fibonacci(entries)
    model = encoder()
    features = torch.randn(entries, 4)
    database = geoenc.RetrievalDatabase.of(places, model.embed(places), features)
    return geoenc.RetrievalAugmented(model, database, **settings).eval()


def by_hand(model: geoenc.RetrievalAugmented, lonlat: Tensor) -> Tensor:
    """The formula of the paper for each place and each entry, in Python."""
    database, rows = model.database, []
    for lon, lat in lonlat.tolist():
        code = model.encoder(torch.tensor([lon, lat]))
        query = (code / code.norm()).tolist()
        alike = [math.exp(dot(query, key) / model.temperature) for key in database.keys.tolist()]
        here = unit(lon, lat)
        near = [
            math.exp(dot(here, unit(*place)) / model.place_temperature)
            for place in database.lonlat.tolist()
        ]
        row = [0.0] * database.out_features
        for weights, share in ((alike, 1 - model.place_weight), (near, model.place_weight)):
            for weight, feature in zip(weights, database.features.tolist(), strict=True):
                for column, value in enumerate(feature):
                    row[column] += share * weight / sum(weights) * value
        rows.append(row + query)
    return torch.tensor(rows)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(lon: float, lat: float) -> list[float]:
    lon, lat = math.radians(lon), math.radians(lat)
    return [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]


# --- the running softmax ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 40, 41, 10_000])
@pytest.mark.parametrize("temperature", [1e-3, 1 / 15, 10.0])
def test_chunks_equal_the_dense_form(
    chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "CHUNK", chunk)
    given = [one.requires_grad_() for one in tables(9, 40)]
    got, wanted = soft_retrieve(*given, temperature), dense(*given, temperature)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    weights = torch.randn_like(got)
    slopes = torch.autograd.grad((got * weights).sum(), given)
    others = torch.autograd.grad((wanted * weights).sum(), given)
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(slope, other, rtol=1e-9, atol=1e-9)


def test_gradients_of_every_order_and_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CHUNK", 3)
    given = [one.requires_grad_() for one in tables(2, 7)]

    def of(*values: Tensor) -> Tensor:
        return soft_retrieve(*values, 0.5)

    assert torch.autograd.gradcheck(of, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of, given)
    some = [given[0].detach(), given[1].detach(), given[2]]
    assert torch.autograd.gradcheck(of, some, check_forward_ad=True)


def test_any_leading_dimensions() -> None:
    query, keys, features = tables(12, 20)
    wanted = dense(query, keys, features, 0.3)
    assert soft_retrieve(query[0], keys, features, 0.3).shape == (3,)
    assert soft_retrieve(query[:0], keys, features, 0.3).shape == (0, 3)
    got = soft_retrieve(query.view(3, 4, 5), keys, features, 0.3)
    torch.testing.assert_close(got.flatten(0, 1), wanted)
    mapped = torch.func.vmap(lambda row: soft_retrieve(row, keys, features, 0.3))(query)
    torch.testing.assert_close(mapped, wanted)


def test_one_entry_is_what_every_place_gets() -> None:
    query, keys, features = tables(9, 1)
    got = soft_retrieve(query, keys, features, 1 / 15)
    torch.testing.assert_close(got, features.expand(9, 3))


def test_large_similarities_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CHUNK", 2)
    keys = torch.tensor([[-300.0], [300.0], [-300.0], [299.0], [0.0]])
    got = soft_retrieve(torch.ones(1, 1), keys, torch.arange(5.0)[:, None], 0.01)
    assert got.item() == 1.0


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "and backwards"])
def test_no_matrix_of_places_by_entries_is_held(
    backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tensor that is made, or kept for the gradient, is wider than a chunk."""
    monkeypatch.setattr(retrieval, "CHUNK", 50)
    queries, entries = 64, 1000
    largest, live = 0, 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for one in result if isinstance(result, tuple) else (result,):
                if isinstance(one, Tensor):
                    largest = max(largest, one.numel())
            return result

    def keep(tensor: Tensor) -> Tensor:
        nonlocal live
        live += tensor.numel()
        return tensor

    query, keys, features = tables(queries, entries)
    query.requires_grad_(backwards)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept), Watch():
        result = soft_retrieve(query, keys, features, 0.1)
        if backwards:
            result.sum().backward()
    tables_alone = max(one.numel() for one in (query, keys, features))
    assert largest <= max(tables_alone, queries * 50)
    assert live <= sum(one.numel() for one in (query, keys, features, result)) + queries


# --- the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1 / 12, "place_weight": 0.5},
        {"temperature": 0.5, "place_weight": 0.3, "place_temperature": 0.1},
        {"place_weight": 1.0},
    ],
    ids=str,
)
def test_model_equals_the_formula(settings: dict[str, float]) -> None:
    model = augmented(**settings)
    lonlat = geoenc.sampling.fibonacci(7)
    torch.testing.assert_close(model(lonlat), by_hand(model, lonlat), rtol=0, atol=2e-6)


@pytest.mark.parametrize("settings", [{}, {"place_weight": 0.4}], ids=["RANGE", "RANGE+"])
def test_model_keeps_the_contract(settings: dict[str, float], device: torch.device) -> None:
    testing.check_model(augmented(**settings).to(device))


def test_embed_takes_places_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = augmented(place_weight=0.5)
    lonlat = torch.cat([geoenc.sampling.fibonacci(100), torch.full((1, 2), torch.nan)])
    whole = model.embed(lonlat)
    assert whole[-1].isnan().all()
    assert not whole[:-1].isnan().any()
    rows = []
    forward = geoenc.RetrievalAugmented.forward

    def counted(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        rows.append(len(lonlat))
        return forward(self, lonlat, time)

    monkeypatch.setattr(geoenc.RetrievalAugmented, "forward", counted)
    monkeypatch.setattr(retrieval, "_QUERIES", 40)
    torch.testing.assert_close(model.embed(lonlat), whole, equal_nan=True)
    assert rows == [40, 40, 21]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_follows_the_encoder_and_places_stay_exact(dtype: torch.dtype) -> None:
    model = augmented(place_weight=0.5)
    wanted = model.embed([(2.35, 48.86)])
    model.to(dtype)
    got = model.embed([(2.35, 48.86)])
    assert got.dtype == dtype
    assert model.database.lonlat.dtype == torch.float64
    torch.testing.assert_close(got.float(), wanted, rtol=0, atol=1e-2)
    mixed = augmented(place_weight=0.5)
    mixed.encoder.to(dtype)
    assert mixed.embed([(2.35, 48.86)]).dtype == dtype


def test_database_travels_with_the_weights(tmp_path: Path) -> None:
    model = augmented(place_weight=0.25, temperature=0.2)
    model.database.features.mul_(2)
    model.save_pretrained(tmp_path, metadata={"training_data": "made up"})
    again = geoenc.RetrievalAugmented.from_pretrained(tmp_path)
    lonlat = geoenc.sampling.fibonacci(20)
    assert again.embed(lonlat).equal(model.embed(lonlat))
    assert again.database.lonlat.dtype == torch.float64
    assert again.config == model.config


def test_an_encoder_with_time() -> None:
    net = geoenc.FFN(5, 4, hidden_features=6)
    timed = geoenc.LocationEncoder(geoenc.XYZ(), net, geoenc.CyclicTime()).eval()
    places = geoenc.sampling.fibonacci(10)
    keys = timed.embed(places, torch.zeros(10))
    database = geoenc.RetrievalDatabase.of(places, keys, torch.randn(10, 2))
    model = geoenc.RetrievalAugmented(timed, database)
    early, late = (model.embed(places, torch.full((10,), t)) for t in (0.0, 0.5))
    assert early.shape == (10, 6)
    assert not early.equal(late)
    with pytest.raises(ValueError, match="expected time"):
        model.embed(places)


def test_the_encoder_can_be_trained_through_the_database() -> None:
    model = augmented(place_weight=0.5)
    model(geoenc.sampling.fibonacci(5))[:, :4].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


# --- what is refused ----------------------------------------------------------------------------


def test_places_of_a_database_pass_the_gate() -> None:
    database = geoenc.RetrievalDatabase.of(
        [(287.6, -33.4), (2.35, 48.86)], [[3.0, 4.0], [0.0, 2.0]], [[1.0], [2.0]]
    )
    torch.testing.assert_close(database.lonlat[0].tolist(), [-72.4, -33.4])
    torch.testing.assert_close(database.keys, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: geoenc.RetrievalDatabase(0, 2, out_features=1), "got 0, 2 and 1"),
        (
            lambda: geoenc.RetrievalDatabase.of([(0, 0)], torch.ones(2, 3), torch.ones(1, 3)),
            r"keys of shape \(1, width\).* got \(2, 3\)",
        ),
        (
            lambda: geoenc.RetrievalDatabase.of([(0, 0)], torch.ones(1, 3), torch.ones(3)),
            r"features of shape \(1, width\).* got \(3,\)",
        ),
        (
            lambda: geoenc.RetrievalDatabase.of(
                [(0, 0)], torch.full((1, 3), torch.nan), torch.ones(1, 3)
            ),
            "expected finite keys, got NaN",
        ),
        (
            lambda: geoenc.RetrievalDatabase.of(
                [(0, 0), (float("nan"), 0)], torch.ones(2, 3), torch.ones(2, 3)
            ),
            "NaN",
        ),
        (
            lambda: geoenc.RetrievalAugmented(
                encoder(5), geoenc.RetrievalDatabase(3, 6, out_features=2)
            ),
            "keys of width 5, as the encoder gives, got 6",
        ),
        (lambda: augmented(temperature=0.0), "temperatures above 0, got 0.0"),
        (lambda: augmented(place_temperature=-1.0), "temperatures above 0"),
        (lambda: augmented(place_weight=1.5), "place_weight from 0 to 1, got 1.5"),
    ],
)
def test_what_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
