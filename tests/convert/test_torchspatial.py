"""TorchSpatial, CSP and Sphere2Vec: files of their layout, with their formulas as the truth."""

import math
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch

import geoenc
from geoenc import convert
from geoenc.convert._mai import ENCODERS

F, WIDTH, CLASSES = 4, 6, 5
EXTENT = [-170.0, 175.0, -80.0, 85.0]
ANCHORS = torch.tensor([(10.0, 20.0), (-60.0, 5.0), (2.0, 48.0), (150.0, -30.0)]).double()
OMEGA = torch.randn(2, F, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
SHIFT = torch.tensor([0.1, 2.0, 4.0, 6.0], dtype=torch.float64)


def params(name: str, **more: Any) -> dict[str, Any]:
    """The parameters that such a file has, as far as they tell what the model is."""
    return {
        "dataset": "birds",
        "meta_type": "",
        "device": torch.device("cpu"),
        "spa_enc_type": name,
        "frequency_num": F,
        "max_radius": 360.0,
        "min_radius": 0.5,
        "num_hidden_layer": 1,
        "hidden_dim": 8,
        "num_rbf_anchor_pts": 4,
        "rbf_kernel_size": 30.0,
        "rbf_anchor_pt_ids": None,
        "loc_encode": "encode_cos_sin",
        "num_filts": WIDTH,
        "freq_init": "geometric",
        "spa_f_act": "leakyrelu",
        "map_range": EXTENT,
        "use_layn": True,
        "skip_connection": True,
        "spa_enc_use_postmat": True,
        "use_date_feats": False,
        "date_encode": "encode_cos_sin",
        "dropout": 0.5,
        "num_classes": CLASSES,
        "num_users": 1,
        **more,
    }


def content(stated: dict[str, Any], shapes: foreign.Shapes, **tensors: torch.Tensor) -> Any:
    heads = {"class_emb.weight": (CLASSES, WIDTH), "user_emb.weight": (1, WIDTH)}
    state = foreign.weights({**shapes, **heads})
    state |= {key.replace("__", "."): value for key, value in tensors.items()}
    return {"epoch": 3, "state_dict": state, "optimizer": {"state": {}}, "params": stated}


def probabilities(file: Any, embedding: np.ndarray) -> np.ndarray:
    return foreign.sigmoid(
        foreign.affine(foreign.arrays(file["state_dict"]), "class_emb", embedding)
    )


def agrees(model: Any, wanted: np.ndarray, *arguments: Any) -> None:
    got = model.probabilities(foreign.LONLAT, *arguments).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11)


GEOMETRIC = foreign.frequencies(F, 0.5, 360.0)
BACKWARDS = foreign.frequencies(F, 1.0, 0.25)
RADIAN = math.pi / 180
CODES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Space2Vec-grid": (lambda: foreign.grid(GEOMETRIC), {}),
    "gridcell": (lambda: foreign.grid(GEOMETRIC), {}),
    "gridcellnorm": (lambda: foreign.grid(GEOMETRIC), {}),
    "Space2Vec-theory": (lambda: foreign.theory(GEOMETRIC), {}),
    "theory": (lambda: foreign.theory(GEOMETRIC), {}),
    "theorynorm": (lambda: foreign.theory(GEOMETRIC, RADIAN), {}),
    "Sphere2Vec-sphereC": (lambda: foreign.sphere(GEOMETRIC, "C"), {}),
    "sphere": (lambda: foreign.sphere(GEOMETRIC, "C"), {}),
    "Sphere2Vec-sphereC+": (lambda: foreign.sphere(GEOMETRIC, "C+"), {}),
    "spheregrid": (lambda: foreign.sphere(GEOMETRIC, "C+"), {}),
    "Sphere2Vec-sphereM": (lambda: foreign.sphere(GEOMETRIC, "M"), {}),
    "spheremixscale": (lambda: foreign.sphere(GEOMETRIC, "M"), {}),
    "Sphere2Vec-sphereM+": (lambda: foreign.sphere(BACKWARDS, "M+"), {"max_radius": 0.25}),
    "spheregridmixscale": (lambda: foreign.sphere(GEOMETRIC, "M+"), {}),
    "Sphere2Vec-dfs": (lambda: foreign.dfs(BACKWARDS), {"max_radius": 0.25}),
    "dft": (lambda: foreign.dfs(GEOMETRIC), {}),
    "xyz": (foreign.xyz, {}),
    "NeRF": (lambda: foreign.nerf(16), {"frequency_num": 64}),
    "nerf": (lambda: foreign.nerf(F), {}),
    "wrap_ffn": (foreign.wrap, {}),
    "geo_net_fft": (foreign.wrap, {}),
    "naive": (lambda: foreign.scaled(tuple(EXTENT)), {}),
    "spherical_harmonics": (lambda: foreign.harmonics(8, "satclip"), {}),
}


@pytest.mark.parametrize("name", CODES)
def test_code_and_feed_forward_network(name: str, tmp_path: Path) -> None:
    formula, more = CODES[name]
    stated, code = params(name, **more), formula()
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", code.shape[1], stated))
    model = convert.torchspatial(foreign.saved(tmp_path, file))
    w = foreign.arrays(file["state_dict"])
    agrees(model, probabilities(file, foreign.ffn(w, "spa_enc.ffn", code, stated)))
    assert model.metadata["training_data"] == "birds"
    assert not model.training


@pytest.mark.parametrize("name", ["Sphere2Vec-sphereM+", "Sphere2Vec-dfs"])
@pytest.mark.parametrize("largest", [1.0, 7.0])
def test_lost_min_radius(name: str, largest: float, tmp_path: Path) -> None:
    """f_k = r_max^(-k / (F - 1)), whatever min_radius says; all 1 with the usual r_max."""
    stated, fs = params(name, max_radius=largest), foreign.frequencies(F, 1.0, largest)
    code = foreign.dfs(fs) if "dfs" in name else foreign.sphere(fs, "M+")
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", code.shape[1], stated))
    w = foreign.arrays(file["state_dict"])
    wanted = probabilities(file, foreign.ffn(w, "spa_enc.ffn", code, stated))
    agrees(convert.torchspatial(foreign.saved(tmp_path, file)), wanted)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("gridcell", foreign.grid),
        ("theory", foreign.theory),
        ("sphere", lambda fs: foreign.sphere(fs, "C")),
    ],
)
def test_frequencies_as_in_nerf(name: str, formula: Any, tmp_path: Path) -> None:
    stated = params(name, freq_init="nerf")
    code = formula([math.pi * 2**k for k in range(F)])
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", code.shape[1], stated))
    w = foreign.arrays(file["state_dict"])
    wanted = probabilities(file, foreign.ffn(w, "spa_enc.ffn", code, stated))
    agrees(convert.csp(foreign.saved(tmp_path, file)), wanted)


@pytest.mark.parametrize(
    "more",
    [
        {"spa_f_act": "relu"},
        {"spa_f_act": "gelu", "use_layn": False},
        {"spa_f_act": "tanh", "num_hidden_layer": 3},
        {"spa_f_act": "sigmoid", "num_hidden_layer": 0},
        {"num_hidden_layer": 2, "hidden_dim": 4 * F},  # the first layer has a skip, too
        {"num_hidden_layer": 2, "hidden_dim": 4 * F, "skip_connection": False},
        {"skip_connection": "T", "use_layn": "F"},
    ],
    ids=str,
)
def test_settings_of_the_network(more: dict[str, Any], tmp_path: Path) -> None:
    stated = params("gridcell", **more)
    plain = {
        key: {"T": True, "F": False}.get(value, value)
        for key, value in stated.items()
        if isinstance(value, str | bool | int)
    }
    code = foreign.grid(GEOMETRIC)
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", code.shape[1], plain))
    w = foreign.arrays(file["state_dict"])
    wanted = probabilities(file, foreign.ffn(w, "spa_enc.ffn", code, plain))
    agrees(convert.csp(foreign.saved(tmp_path, file)), wanted)


@pytest.mark.parametrize("below", ["spa_enc.position_encoder", "spa_enc"])
@pytest.mark.parametrize("kernel", ["rbf_kernel_size", "rbf_kernal_size"])
def test_random_features_are_those_of_the_file(below: str, kernel: str, tmp_path: Path) -> None:
    stated = params("rff")
    stated[kernel] = stated.pop("rbf_kernel_size")
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", F, stated))
    file["state_dict"] |= {f"{below}.dirvec": OMEGA, f"{below}.shift": SHIFT}
    code = np.sqrt(2 / F) * np.cos(foreign.scaled(tuple(EXTENT)) @ OMEGA.numpy() + SHIFT.numpy())
    wanted = foreign.ffn(foreign.arrays(file["state_dict"]), "spa_enc.ffn", code, stated)
    model: Any = convert.torchspatial(foreign.saved(tmp_path, file))
    agrees(model, probabilities(file, wanted))
    assert model.encoder.position.scale == pytest.approx(math.sqrt(30.0) / (2 * math.pi))


def test_anchors_are_rows_of_the_training_set(tmp_path: Path) -> None:
    """The row numbers are NumPy integers in a list, which takes no code to read."""
    chosen = [5, 0, 3, 2]
    stated = params("rbf", rbf_anchor_pt_ids=[np.int64(row) for row in chosen])
    training = torch.cat([ANCHORS, ANCHORS + 1])
    distance = foreign.PLACES[:, None] - training[chosen].numpy()
    code = np.exp(-(distance**2).sum(-1) / (2 * 30.0**2))
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", 4, stated))
    path = foreign.saved(tmp_path, file)
    wanted = foreign.ffn(foreign.arrays(file["state_dict"]), "spa_enc.ffn", code, stated)
    model = convert.torchspatial(path, training_places=training)
    got = model.probabilities(foreign.LONLAT).numpy()
    np.testing.assert_allclose(got, probabilities(file, wanted), rtol=1e-6)  # values in float32
    with pytest.raises(ValueError, match="training_places"):
        convert.torchspatial(path)
    with pytest.raises(ValueError, match="rows below 4"):
        convert.torchspatial(path, training_places=ANCHORS)


@pytest.mark.parametrize("cells", [1, 3 * 2])
def test_tiles(cells: int, tmp_path: Path) -> None:
    """Released tables have one cell; a longer one has those that the parameters say."""
    stated = params("tile_ffn", min_radius=1e-3 if cells == 1 else 120.0)
    west, _, south, _ = EXTENT
    size = 1e6 if cells == 1 else 120.0
    lon, lat = foreign.PLACES.T
    column = np.clip((lon - west) // size, 0, 2 if cells > 1 else 0)
    row = np.clip((lat - south) // size, 0, 1 if cells > 1 else 0)
    shapes = foreign.ffn_shapes("spa_enc.ffn", WIDTH, stated)
    shapes["spa_enc.position_encoder.embedding.weight"] = (cells, WIDTH)
    file = content(stated, shapes)
    w = foreign.arrays(file["state_dict"])
    index = (row * (3 if cells > 1 else 1) + column).astype(int)
    code = w["spa_enc.position_encoder.embedding.weight"][index]
    wanted = foreign.ffn(w, "spa_enc.ffn", code, stated)
    agrees(convert.torchspatial(foreign.saved(tmp_path, file)), probabilities(file, wanted))


@pytest.mark.parametrize("largest", [360.0, 0.25])
def test_hexagons(largest: float, tmp_path: Path) -> None:
    stated = params("hexagridcell", max_radius=largest)
    file = content(stated, foreign.linear_shapes("spa_enc.post_linear", 6 * F, WIDTH))
    w = foreign.arrays(file["state_dict"])
    code = foreign.hexagons(F, largest)
    wanted = foreign.ACTIVATIONS["leakyrelu"](foreign.affine(w, "spa_enc.post_linear", code))
    agrees(convert.csp(foreign.saved(tmp_path, file)), probabilities(file, wanted))


@pytest.mark.parametrize("second", [True, False])
def test_block_diagonal_theory(second: bool, tmp_path: Path) -> None:
    """The matrix is registered under two names; both are in the file."""
    stated = params("theorydiag", num_filts=8, spa_enc_use_postmat=second)
    shapes: foreign.Shapes = {"spa_enc.post_mat": (F, 6, 2)}
    shapes |= foreign.linear_shapes("spa_enc.post_linear", 8, 8) if second else {}
    state = foreign.weights({**shapes, "class_emb.weight": (CLASSES, 8)})
    state["spa_enc.spa_postmat"] = state["spa_enc.post_mat"]
    w, file = foreign.arrays(state), {"state_dict": state, "params": stated}
    code = foreign.theory(GEOMETRIC).reshape(-1, F, 6)
    x = np.einsum("nfs,fsd->nfd", code, w["spa_enc.post_mat"]).reshape(-1, 8)
    x = foreign.affine(w, "spa_enc.post_linear", x) if second else x
    wanted = probabilities(file, foreign.ACTIVATIONS["leakyrelu"](x))
    agrees(convert.csp(foreign.saved(tmp_path, file)), wanted)
    state["spa_enc.spa_postmat"] = state["spa_enc.post_mat"] + 1
    with pytest.raises(ValueError, match=r"same numbers as in spa_enc\.post_mat"):
        convert.csp(foreign.saved(tmp_path, file))


@pytest.mark.parametrize("name", ["wrap", "geo_net"])
@pytest.mark.parametrize("place", ["encode_cos_sin", "encode_3D", "encode_none"])
@pytest.mark.parametrize("date", [None, "encode_cos_sin", "encode_none"])
def test_geographic_prior(name: str, place: str, date: str | None, tmp_path: Path) -> None:
    stated = params(name, loc_encode=place, use_date_feats=date is not None)
    stated["date_encode"] = date or "encode_none"
    forms = {
        "encode_cos_sin": foreign.wrap,
        "encode_3D": foreign.doubled,
        "encode_none": foreign.scaled,
    }
    code = forms[place]()
    time = torch.linspace(0, 0.95, len(code), dtype=torch.float64)
    year = 2 * time.numpy()[:, None] - 1
    if date == "encode_none":
        code = np.concatenate([code, year], 1)
    elif date:
        code = np.concatenate([code, np.sin(math.pi * year), np.cos(math.pi * year)], 1)
    file = content(stated, foreign.residual_shapes("feats", code.shape[1], WIDTH, 4))
    wanted = foreign.residual(foreign.arrays(file["state_dict"]), "feats", code, 4)
    model = convert.csp(foreign.saved(tmp_path, file))
    agrees(model, probabilities(file, wanted), *([time] if date else []))


def contrastive(tmp_path: Path, name: str) -> tuple[Path, Any]:
    """A model with an image tower names its parts two or three times."""
    stated = params(name, num_filts=WIDTH)
    inner = "spa_enc.ffn" if name == "gridcell" else "feats"
    shapes = (
        foreign.ffn_shapes(inner, 4 * F, stated)
        if name == "gridcell"
        else foreign.residual_shapes(inner, 4, WIDTH, 4)
    )
    file = content(stated, shapes)
    base = file["state_dict"]
    state = {f"loc_enc.{key}": value for key, value in base.items()}
    state |= {key: value for key, value in base.items() if "_emb" in key}
    spatial = "spa_enc." if name == "geo_net" else ""
    state |= {f"{spatial}{key}": value for key, value in base.items()}
    state |= foreign.weights(foreign.linear_shapes("img_dec", 9, WIDTH), seed=8)
    return foreign.saved(tmp_path, {**file, "state_dict": state}), file


@pytest.mark.parametrize("name", ["gridcell", "geo_net"])
def test_contrastive_checkpoint_as_classifier_and_as_two_towers(name: str, tmp_path: Path) -> None:
    path, file = contrastive(tmp_path, name)
    w = foreign.arrays(file["state_dict"])
    if name == "gridcell":
        wanted = foreign.ffn(w, "spa_enc.ffn", foreign.grid(GEOMETRIC), file["params"])
    else:
        wanted = foreign.residual(w, "feats", foreign.wrap(), 4)
    agrees(convert.csp(path), probabilities(file, wanted))
    model = convert.csp(path, dual=True)
    features = torch.randn(len(wanted), 9, dtype=torch.float64)
    tower = torch.load(path)["state_dict"]
    with torch.no_grad():
        place, image = model(foreign.LONLAT, features)
    np.testing.assert_allclose(place.numpy(), wanted, rtol=1e-9, atol=1e-11)
    projected = features @ tower["img_dec.weight"].T + tower["img_dec.bias"]
    torch.testing.assert_close(image, projected)


def test_two_towers_need_an_image_tower(tmp_path: Path) -> None:
    stated = params("xyz")
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", 3, stated))
    with pytest.raises(ValueError, match=r"img_dec\.weight"):
        convert.csp(foreign.saved(tmp_path, file), dual=True)


def test_every_encoder_of_the_table_is_tested_here() -> None:
    others = {"rff", "rbf", "tile_ffn", "hexagridcell", "theorydiag", "wrap", "geo_net"}
    assert set(ENCODERS) == CODES.keys() | others


def test_saved_and_read_again(tmp_path: Path) -> None:
    stated = params("sphere")
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", 3 * F, stated))
    file["state_dict"] = {key: value.float() for key, value in file["state_dict"].items()}
    model = convert.csp(foreign.saved(tmp_path, file))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    model.save_pretrained(tmp_path / "ours")
    again = geoenc.from_pretrained(tmp_path / "ours")
    probabilities = [one.probabilities(foreign.LONLAT) for one in (model, again)]
    assert torch.equal(*probabilities)


# --- files that are not what they claim ---------------------------------------------------------


def refused(tmp_path: Path, file: Any) -> str:
    with pytest.raises(ValueError, match="expected a TorchSpatial checkpoint") as error:
        convert.torchspatial(foreign.saved(tmp_path, file))
    return str(error.value)


@pytest.fixture
def file() -> Any:
    stated = params("Space2Vec-grid")
    return content(stated, foreign.ffn_shapes("spa_enc.ffn", 4 * F, stated))


def test_all_differences_are_listed(file: Any, tmp_path: Path) -> None:
    state = file["state_dict"]
    del state["spa_enc.ffn.layers.0.linear.bias"]
    state["spa_enc.more"] = torch.zeros(3)
    state["class_emb.weight"][2, 1] = math.nan
    state["spa_enc.ffn.layers.1.linear.bias"] = torch.zeros(7)
    state["spa_enc.ffn.layers.0.layernorm.bias"] = torch.zeros(8, dtype=torch.int64)
    file["params"]["spa_f_act"] = "swish"
    file["params"]["dropout"] = 1.5
    text = refused(tmp_path, file)
    for words in (
        "7 differences",
        "layers.0.linear.bias: expected shape (8,), got nothing",
        "spa_enc.more: expected nothing, got shape (3,)",
        "class_emb.weight: 1 of 30 numbers are not finite",
        "layers.1.linear.bias: expected shape (6,), got (7,)",
        "layers.0.layernorm.bias: expected floating point numbers, got torch.int64",
        "spa_f_act: expected one of relu, sigmoid, tanh, gelu, leakyrelu, got 'swish'",
        "dropout: expected a probability below 1, got 1.5",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frequency_num": 5}, "expected shape (8, 20), got (8, 16)"),
        ({"num_classes": 9}, "class_emb.weight: expected shape (9, 6), got (5, 6)"),
        ({"hidden_dim": 10**9}, "hidden_dim: expected a number of things, got 1000000000"),
        ({"num_hidden_layer": 2}, "layers.2.linear.weight: expected shape (6, 8), got nothing"),
        ({"use_layn": False}, "layernorm.weight: expected nothing, got shape (8,)"),
        ({"spa_enc_type": "sphereX"}, "spa_enc_type: expected one of Space2Vec-grid"),
        ({"min_radius": -1.0}, "min_radius: expected a positive number, got -1.0"),
        ({"freq_init": "random"}, "drawn at random, are not in the file"),
        (
            {"spa_enc_type": "Sphere2Vec-dfs", "freq_init": "nerf"},
            "freq_init: expected 'geometric', got 'nerf'",
        ),
        ({"num_users": 4}, "user_emb.weight: expected shape (4, 6), got (1, 6)"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_parameters_that_contradict_the_tensors(
    change: dict[str, Any], words: str, file: Any, tmp_path: Path
) -> None:
    file["params"] |= change
    assert words in refused(tmp_path, file)


def test_missing_parameters_are_listed(file: Any, tmp_path: Path) -> None:
    del file["params"]["num_filts"], file["params"]["max_radius"]
    text = refused(tmp_path, file)
    assert "num_filts: expected a number of things, got nothing" in text
    assert "max_radius: expected a positive number, got nothing" in text


def test_skip_over_columns_in_another_order_is_refused(tmp_path: Path) -> None:
    stated = params("gridcell", freq_init="nerf", hidden_dim=4 * F)
    file = content(stated, foreign.ffn_shapes("spa_enc.ffn", 4 * F, stated))
    assert "skip connection" in refused(tmp_path, file)
