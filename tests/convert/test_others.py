"""GeoCLIP, SINR, Climplicit, TTE: files of their layout, with their formulas as the truth."""

import json
import math
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geoenc
from geoenc import convert
from geoenc.temporal import year_fraction_of_months


def embedding(model: Any, *time: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(foreign.LONLAT, *time).numpy()


# --- GeoCLIP ------------------------------------------------------------------------------------

FEATURES, HIDDEN, OUT = 3, 6, 4


def equal_earth() -> np.ndarray:
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796

    def one(lon: float, lat: float) -> list[float]:
        t = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(lat)))
        below = 3 * (9 * a4 * t**8 + 7 * a3 * t**6 + 3 * a2 * t**2 + a1)
        x = 2 * math.sqrt(3) * math.radians(lon) * math.cos(t) / below
        return [x * 66.50336 / 180, (a4 * t**9 + a3 * t**7 + a2 * t**3 + a1 * t) * 66.50336 / 180]

    return foreign.rows(one)


def geoclip_state() -> dict[str, torch.Tensor]:
    shapes: foreign.Shapes = {}
    for scale in range(3):
        shapes[f"LocEnc{scale}.capsule.0.b"] = (FEATURES, 2)
        for layer in (1, 3, 5):
            inputs = 2 * FEATURES if layer == 1 else HIDDEN
            shapes |= foreign.linear_shapes(f"LocEnc{scale}.capsule.{layer}", inputs, HIDDEN)
        shapes |= foreign.linear_shapes(f"LocEnc{scale}.head.0", HIDDEN, OUT)
    return foreign.weights(shapes)


def geoclip_truth(state: dict[str, torch.Tensor]) -> np.ndarray:
    w, plane, total = foreign.arrays(state), equal_earth(), np.zeros(1)
    for scale in range(3):
        phase = 2 * math.pi * plane @ w[f"LocEnc{scale}.capsule.0.b"].T
        x = np.concatenate([np.cos(phase), np.sin(phase)], 1)
        for layer in (1, 3, 5):
            x = np.maximum(foreign.affine(w, f"LocEnc{scale}.capsule.{layer}", x), 0)
        total = total + foreign.affine(w, f"LocEnc{scale}.head.0", x)
    return total


@pytest.mark.parametrize("prefix", ["", "location_encoder.", "module."])
def test_geoclip(prefix: str, tmp_path: Path) -> None:
    """The location encoder alone, and the whole model with its image tower and gallery."""
    state = geoclip_state()
    file = {f"{prefix}{key}": value for key, value in state.items()}
    if prefix == "location_encoder.":
        file |= {"image_encoder.mlp.0.weight": torch.zeros(2, 2), "logit_scale": torch.zeros(())}
        file |= {"gps_queue": torch.zeros(2, 8)}
    model = convert.geoclip(foreign.saved(tmp_path, file))
    np.testing.assert_allclose(embedding(model), geoclip_truth(state), rtol=1e-9, atol=1e-10)
    scales = [encoder.position.scale for encoder in model.encoders]
    for index, scale in enumerate(scales):
        assert scale == pytest.approx(state[f"LocEnc{index}.capsule.0.b"].square().mean() ** 0.5)


def test_geoclip_differences(tmp_path: Path) -> None:
    state = geoclip_state()
    del state["LocEnc1.head.0.bias"]
    state["LocEnc2.capsule.0.b"] = torch.zeros(FEATURES, 2)
    state["LocEnc0.capsule.3.weight"] = torch.zeros(6, 7)
    state["image_encoder.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match="4 differences") as error:
        convert.geoclip(foreign.saved(tmp_path, state))
    for words in ("LocEnc1.head.0.bias", "got zeros", "got (6, 7)", "image_encoder.weight"):
        assert words in str(error.value)


# --- SINR ---------------------------------------------------------------------------------------


def sinr_file(columns: int = 4, depth: int = 3, **more: Any) -> Any:
    stated = {
        "model": "ResidualFCNet",
        "input_enc": "sin_cos",
        "num_filts": 6,
        "depth": depth,
        "input_dim": columns,
        "num_classes": 5,
        "class_to_taxa": [3, 14, 15, 92, 65],
        "device": "cuda",
        **more,
    }
    shapes: foreign.Shapes = {"class_emb.weight": (5, 6)}
    if stated["model"] == "LinNet":
        shapes = {"class_emb.weight": (5, columns)}
    else:
        shapes |= foreign.residual_shapes("feats", columns, 6, depth)
    return {"state_dict": foreign.weights(shapes), "params": stated}


def sinr_truth(file: Any, code: np.ndarray) -> np.ndarray:
    w = foreign.arrays(file["state_dict"])
    if file["params"]["model"] == "ResidualFCNet":
        code = foreign.residual(w, "feats", code, file["params"]["depth"])
    return foreign.sigmoid(foreign.affine(w, "class_emb", code))


@pytest.mark.parametrize("name", ["ResidualFCNet", "LinNet"])
def test_sinr(name: str, tmp_path: Path) -> None:
    file = sinr_file(model=name)
    model = convert.sinr(foreign.saved(tmp_path, file))
    got = model.probabilities(foreign.LONLAT).numpy()
    np.testing.assert_allclose(got, sinr_truth(file, foreign.wrap()), rtol=1e-9)
    assert json.loads(model.metadata["class_to_taxa"]) == [3, 14, 15, 92, 65]


def test_sinr_on_a_raster(tmp_path: Path) -> None:
    """North first, corners at the edges of the globe."""
    raster = np.random.default_rng(0).normal(size=(5, 9, 2))
    lon, lat = foreign.PLACES.T
    x, y = (lon + 180) / 360 * 8, (90 - lat) / 180 * 4
    i, j = np.minimum(x.astype(int), 7), np.minimum(y.astype(int), 3)
    u, v = (x - i)[:, None], (y - j)[:, None]
    code = (
        raster[j, i] * (1 - u) * (1 - v)
        + raster[j, i + 1] * u * (1 - v)
        + raster[j + 1, i] * (1 - u) * v
        + raster[j + 1, i + 1] * u * v
    )
    file = sinr_file(2, input_enc="env")
    path = foreign.saved(tmp_path, file)
    got = convert.sinr(path, raster=raster).probabilities(foreign.LONLAT).numpy()
    np.testing.assert_allclose(got, sinr_truth(file, code), rtol=1e-5)  # a raster has float32
    with pytest.raises(ValueError, match="pass raster="):
        convert.sinr(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_enc": "sin_cos_env"}, "one of sin_cos, env, got 'sin_cos_env'"),
        ({"num_classes": 6}, "length of class_to_taxa: expected 6, got 5"),
        ({"num_classes": 6}, r"class_emb.weight: expected shape \(6, 6\), got \(5, 6\)"),
        ({"input_dim": 24}, "input_dim: expected 4, got 24"),
        ({"depth": 4}, "feats.5.w1.weight: expected shape .* got nothing"),
        ({"depth": 2}, "feats.4.w1.weight: expected nothing"),
        ({"model": "Transformer"}, "one of ResidualFCNet, LinNet"),
    ],
    ids=str,
)
def test_sinr_contradictions(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = sinr_file()
    file["params"] |= change
    with pytest.raises(ValueError, match=words):
        convert.sinr(foreign.saved(tmp_path, file))


# --- Climplicit ---------------------------------------------------------------------------------


def climplicit_truth(state: dict[str, torch.Tensor], month: float) -> np.ndarray:
    w, turn = foreign.arrays(state), 2 * math.pi * month / 12
    x = np.concatenate(
        [foreign.scaled(), np.tile([math.sin(turn), math.cos(turn)], (len(foreign.PLACES), 1))], 1
    )
    g = foreign.affine(w, "layers.0", x)
    h = np.sin(30 * np.sinh(2 * g))
    for layer in range(1, 5):
        g = (foreign.affine(w, f"layers.{layer}", h) + g) / 2
        h = np.sin(g)
    return foreign.affine(w, "last_layer", h)


@pytest.mark.parametrize("prefix", ["location_encoder.", ""])
def test_climplicit(prefix: str, tmp_path: Path) -> None:
    state = foreign.weights(foreign.siren_shapes("", 4, 8, 5, 3))
    state["layers.0.weight"] /= 4  # sinh grows fast
    file = {f"{prefix}{key}": value for key, value in state.items()}
    if prefix:
        file |= foreign.weights(foreign.linear_shapes("chelsa_regressor", 3, 11))
    save_file(file, tmp_path / "model.safetensors")
    model = convert.climplicit(tmp_path / "model.safetensors")
    for month in (3, 6):
        time = year_fraction_of_months([month]).expand(len(foreign.LONLAT))
        wanted = climplicit_truth(state, month)
        np.testing.assert_allclose(embedding(model, time), wanted, rtol=1e-7, atol=1e-8)


# --- TTE ----------------------------------------------------------------------------------------


def tte_state(inner: int, cosine: bool) -> dict[str, torch.Tensor]:
    r = "semantic_registers"
    shapes: foreign.Shapes = {
        "_directions": (9, 3),
        "_log_tau": (9,),
        "_embeddings": (9, inner),
        f"{r}.registers": (4, 6),
        f"{r}.log_temperature": (1,),
        f"{r}._img_temperature": (1,),
    }
    shapes |= foreign.linear_shapes(f"{r}.loc_to_logits", inner, 4)
    shapes |= foreign.linear_shapes(f"{r}.img_to_logits", 6, 4)
    shapes |= {f"{r}.norm.weight": (6,), f"{r}.norm.bias": (6,)}
    shapes |= foreign.linear_shapes(f"{r}.site_to_out", inner, 6) if inner != 6 else {}
    shapes |= foreign.residual_shapes("mlp", 6, 5, 2) | {"mlp.4.weight": (6, 5)}
    state = foreign.weights(shapes)
    for key in ("log_temperature", "_img_temperature"):
        state[f"{r}.{key}"] = state[f"{r}.{key}"].reshape(())
    state["_log_tau"] = state["_log_tau"].abs() + 1
    if cosine:
        del state[f"{r}.loc_to_logits.bias"], state[f"{r}.img_to_logits.bias"]
    return state


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def tte_truth(state: dict[str, torch.Tensor], gate: float = 0.5) -> np.ndarray:
    w, r = foreign.arrays(state), "semantic_registers"
    membership = softmax(foreign.xyz() @ unit(w["_directions"]).T * np.exp(w["_log_tau"]))
    e = membership @ w["_embeddings"]
    weight = w[f"{r}.loc_to_logits.weight"]
    bias = w.get(f"{r}.loc_to_logits.bias")
    logits = unit(e) @ unit(weight).T if bias is None else e @ weight.T + bias
    tokens = softmax(logits / np.exp(w[f"{r}.log_temperature"])) @ w[f"{r}.registers"]
    e = foreign.affine(w, f"{r}.site_to_out", e) if f"{r}.site_to_out.weight" in w else e
    y = foreign.norm(w, f"{r}.norm", (1 - gate) * e + gate * tokens)
    return foreign.affine(w, "mlp.4", foreign.residual(w, "mlp", y, 2))


@pytest.mark.parametrize("prefix", ["location.", "model.location.", ""])
@pytest.mark.parametrize(("inner", "cosine"), [(4, False), (6, True)])
def test_tte(prefix: str, inner: int, cosine: bool, tmp_path: Path) -> None:
    state = tte_state(inner, cosine)
    file: Any = {f"{prefix}{key}": value for key, value in state.items()}
    if prefix == "model.location.":
        file = {"state_dict": {**file, "model.logit_scale": torch.zeros(())}, "epoch": 9}
    model = convert.tte(foreign.saved(tmp_path, file))
    np.testing.assert_allclose(embedding(model), tte_truth(state), rtol=1e-8, atol=1e-9)
    wanted = tte_truth(state, gate=0.2)
    model = convert.tte(foreign.saved(tmp_path, file), gate=0.2)
    np.testing.assert_allclose(embedding(model), wanted, rtol=1e-8, atol=1e-9)


def test_tte_differences(tmp_path: Path) -> None:
    state = {f"location.{key}": value for key, value in tte_state(4, False).items()}
    del state["location.semantic_registers.norm.bias"]
    state["location.mlp.0.weight"] = torch.zeros(5, 7)
    state["other.weight"] = torch.zeros(2)
    state["location._embeddings"][0, 0] = torch.inf
    with pytest.raises(ValueError, match="4 differences") as error:
        convert.tte(foreign.saved(tmp_path, state))
    for words in ("norm.bias: expected shape (6,)", "(5, 7)", "other.weight", "1 of 36 numbers"):
        assert words in str(error.value)


def test_climplicit_differences(tmp_path: Path) -> None:
    state = foreign.weights(foreign.siren_shapes("location_encoder.", 5, 8, 3, 2))
    state["location_encoder.layers.2.bias"] = torch.zeros(9)
    with pytest.raises(ValueError, match="2 differences") as error:
        convert.climplicit(foreign.saved(tmp_path, state))
    assert "expected shape (8, 4), got (8, 5)" in str(error.value)


def test_tte_beyond_the_clamp_of_training(tmp_path: Path) -> None:
    """The original clamps before the last step of the optimizer, so files go beyond by a step."""
    state = tte_state(4, False)
    state["_log_tau"][:2] = torch.tensor([6.5, -1.0])
    model = convert.tte(foreign.saved(tmp_path, state))
    np.testing.assert_allclose(embedding(model), tte_truth(state), rtol=1e-8, atol=1e-9)


# --- all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_precision_is_that_of_the_file(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {key: value.to(dtype) for key, value in geoclip_state().items()}
    model = convert.geoclip(foreign.saved(tmp_path, state))
    assert {value.dtype for value in model.parameters()} == {dtype}
    model.save_pretrained(tmp_path / "ours")
    again = geoenc.from_pretrained(tmp_path / "ours")
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
