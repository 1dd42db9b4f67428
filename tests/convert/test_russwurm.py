"""SatCLIP and Russwurm's library: files of their layout, with their formulas as the truth."""

from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch

import geoenc
from geoenc import convert

HIDDEN, OUT = 7, 5
SCALES = {"frequency_num": 3, "min_radius": 20.0, "max_radius": 360.0}
FS = foreign.frequencies(3, 20.0, 360.0)
CODES: dict[str, tuple[Any, dict[str, Any]]] = {
    "direct": (lambda: np.deg2rad(foreign.PLACES) - np.pi, {}),
    "cartesian3d": (foreign.xyz, {}),
    "wrap": (foreign.wrap_radians, {}),
    "theory": (lambda: foreign.theory_port(FS), SCALES),
    "grid": (lambda: foreign.grid(FS), SCALES),
    "spherec": (lambda: foreign.sphere(FS, "C", degrees=True, times=2), SCALES),
    "spherecplus": (lambda: foreign.sphere(FS, "C+", degrees=True, times=2), SCALES),
    "spherem": (lambda: foreign.sphere(FS, "M", degrees=True, times=2), SCALES),
    "spheremplus": (lambda: foreign.sphere(FS, "M+", degrees=True, times=2), SCALES),
}


def network_shapes(name: str, columns: int) -> foreign.Shapes:
    if name == "linear":
        return {"weight": (OUT, columns), "bias": (OUT,)}
    if name == "siren":
        return foreign.siren_shapes("", columns, HIDDEN, 2, OUT)
    if name == "mlp":
        shapes = foreign.linear_shapes("features.0", columns, HIDDEN)
        shapes |= foreign.linear_shapes("features.2", HIDDEN, HIDDEN)
        return shapes | foreign.linear_shapes("features.8", HIDDEN, OUT)
    shapes = foreign.residual_shapes("feats", columns, HIDDEN, 4)
    return shapes | {"class_emb.weight": (OUT, HIDDEN)}


def network(name: str, w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    if name == "linear":
        return x @ w["weight"].T + w["bias"]
    if name == "siren":
        return foreign.siren(w, "", x, 2)
    if name == "mlp":
        for layer in (0, 2, 2, 2):
            x = np.maximum(foreign.affine(w, f"features.{layer}", x), 0)
        return foreign.affine(w, "features.8", x)
    return foreign.affine(w, "class_emb", foreign.residual(w, "feats", x, 4))


def satclip_file(le: str, pe: str, code: np.ndarray, **more: Any) -> tuple[Any, np.ndarray]:
    """Every weight is there twice, beside the image tower."""
    plain = foreign.weights(network_shapes(pe, code.shape[1]))
    wanted = network(pe, foreign.arrays(plain), code)
    if pe == "mlp":
        for copy in (4, 6):
            plain |= {f"features.{copy}.{n}": plain[f"features.2.{n}"] for n in ("weight", "bias")}
    state = {"model.logit_scale": torch.tensor(2.6), "model.visual.conv1.weight": torch.zeros(4, 3)}
    for prefix in ("model.nnet.", "model.location.nnet."):
        state |= {f"{prefix}{key}": value for key, value in plain.items()}
    stated = {
        "embed_dim": OUT,
        "image_resolution": 256,
        "vision_layers": "moco_vit16",
        "le_type": le,
        "pe_type": pe,
        "frequency_num": 16,
        "max_radius": 260,
        "min_radius": 1,
        "legendre_polys": 4,
        "harmonics_calculation": "analytic",
        "num_hidden_layers": 3 if pe == "mlp" else 2,
        "capacity": HIDDEN,
        "eval_downstream": False,
        **more,
    }
    return {"state_dict": state, "hyper_parameters": stated, "epoch": 1, "callbacks": {}}, wanted


def agrees(model: Any, wanted: np.ndarray, **tolerance: float) -> None:
    with torch.no_grad():
        got = model(foreign.LONLAT).numpy()
    np.testing.assert_allclose(got, wanted, **{"rtol": 1e-9, "atol": 1e-10, **tolerance})


@pytest.mark.parametrize("pe", ["siren", "linear", "mlp", "fcnet"])
@pytest.mark.parametrize("kind", ["analytic", "closed-form"])
def test_satclip_harmonics(pe: str, kind: str, tmp_path: Path) -> None:
    code = foreign.harmonics(4, "satclip" if kind == "analytic" else kind)
    file, wanted = satclip_file("sphericalharmonics", pe, code, harmonics_calculation=kind)
    model = convert.satclip(foreign.saved(tmp_path, file))
    agrees(model, wanted, rtol=1e-7, atol=1e-8)
    assert model.metadata["licence"] == "MIT"


@pytest.mark.parametrize("le", CODES)
def test_satclip_other_codes(le: str, tmp_path: Path) -> None:
    formula, more = CODES[le]
    file, wanted = satclip_file(le, "siren", formula(), **more)
    agrees(convert.satclip(foreign.saved(tmp_path, file)), wanted)


def test_satclip_network_alone_infers_its_sizes(tmp_path: Path) -> None:
    file, wanted = satclip_file("sphericalharmonics", "siren", foreign.harmonics(4, "satclip"))
    alone = {
        key.removeprefix("model."): value
        for key, value in file["state_dict"].items()
        if key.startswith("model.nnet.")
    }
    path = foreign.saved(tmp_path, alone)
    agrees(convert.satclip(path), wanted, rtol=1e-7, atol=1e-8)
    closed = convert.satclip(path, harmonics_calculation="closed-form")
    assert not torch.allclose(closed(foreign.LONLAT), convert.satclip(path)(foreign.LONLAT))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"legendre_polys": 5}, r"layers.0.weight: expected shape \(7, 25\), got \(7, 16\)"),
        ({"capacity": 9}, r"layers.1.weight: expected shape \(9, 9\), got \(7, 7\)"),
        ({"harmonics_calculation": "discretized"}, "one of analytic, closed-form, got 'discret"),
        ({"le_type": "tiles"}, "one of direct, cartesian3d"),
        ({"num_hidden_layers": 3}, r"nnet.layers.2.weight: expected shape \(7, 7\), got nothing"),
    ],
    ids=str,
)
def test_satclip_contradictions(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    code = foreign.harmonics(4, "satclip")
    file, _ = satclip_file("sphericalharmonics", "siren", code, **change)
    with pytest.raises(ValueError, match=words):
        convert.satclip(foreign.saved(tmp_path, file))


def test_satclip_copies_must_be_equal(tmp_path: Path) -> None:
    file, _ = satclip_file("sphericalharmonics", "siren", foreign.harmonics(4, "satclip"))
    file["state_dict"]["model.nnet.last_layer.bias"] = torch.ones(OUT).double()
    with pytest.raises(ValueError, match=r"expected the same numbers as in nnet\.last_layer\.bias"):
        convert.satclip(foreign.saved(tmp_path, file))


def locationencoder_file(code: np.ndarray, name: str) -> tuple[dict[str, Any], np.ndarray]:
    plain = foreign.weights(network_shapes(name, code.shape[1]))
    state = {f"neural_network.{key}": value for key, value in plain.items()}
    return state, network(name, foreign.arrays(plain), code)


@pytest.mark.parametrize("name", ["siren", "linear", "fcnet"])
@pytest.mark.parametrize("le", [*CODES, "sphericalharmonics"])
@pytest.mark.parametrize("stated", [True, False])
def test_locationencoder(le: str, name: str, stated: bool, tmp_path: Path) -> None:
    """With parameters in a Lightning file, as NumPy numbers from a search; or without any."""
    formula, more = CODES.get(le, (lambda: foreign.harmonics(4, "analytic"), {}))
    state, wanted = locationencoder_file(formula(), name)
    content: Any = state
    arguments = {"positional_encoding_name": le, **more}
    if stated:
        more = {key: np.float64(value) for key, value in more.items()}
        hparams = {
            **more,
            "optimizer": {"lr": 0.1, "wd": 0.0},
            "dim_hidden": HIDDEN,
            "num_layers": 2,
            "num_classes": OUT,
            "legendre_polys": 4,
        }
        arguments = {}
        content = {
            "state_dict": state,
            "hyper_parameters": {
                "positional_encoding_name": le,
                "neural_network_name": name,
                "hparams": hparams,
            },
        }
    model = convert.locationencoder(foreign.saved(tmp_path, content), **arguments)
    agrees(model, wanted, rtol=1e-7, atol=1e-8)


def test_locationencoder_even_theory_and_the_old_harmonics(tmp_path: Path) -> None:
    fs = foreign.frequencies(4, 20.0, 360.0)
    state, wanted = locationencoder_file(foreign.theory(fs), "linear")
    more = {"positional_encoding_name": "theory", **SCALES, "frequency_num": 4}
    agrees(convert.locationencoder(foreign.saved(tmp_path, state), **more), wanted)
    state, wanted = locationencoder_file(foreign.harmonics(4, "satclip"), "linear")
    path = foreign.saved(tmp_path, state)
    more = {"positional_encoding_name": "sphericalharmonics"}
    agrees(convert.locationencoder(path, before_2024=True, **more), wanted, rtol=1e-7, atol=1e-8)


def test_locationencoder_asks_for_what_is_nowhere(tmp_path: Path) -> None:
    state, _ = locationencoder_file(foreign.grid(FS), "linear")
    path = foreign.saved(tmp_path, state)
    with pytest.raises(ValueError, match="positional_encoding_name: expected one of"):
        convert.locationencoder(path)
    with pytest.raises(ValueError, match="min_radius: expected a positive number, got nothing"):
        convert.locationencoder(path, positional_encoding_name="grid", frequency_num=3)


def test_given_parameters_may_not_contradict_the_file(tmp_path: Path) -> None:
    file, _ = satclip_file("sphericalharmonics", "siren", foreign.harmonics(4, "satclip"))
    with pytest.raises(ValueError, match="legendre_polys: expected 5, got 4"):
        convert.satclip(foreign.saved(tmp_path, file), legendre_polys=5)


def test_converted_satclip_is_saved_and_read_again(tmp_path: Path) -> None:
    file, _ = satclip_file("spherem", "siren", CODES["spherem"][0](), **SCALES)
    model = convert.satclip(foreign.saved(tmp_path, file))
    model.save_pretrained(tmp_path / "ours")
    again = geoenc.from_pretrained(tmp_path / "ours")
    assert torch.equal(model(foreign.LONLAT), again(foreign.LONLAT))
    assert again(foreign.LONLAT).dtype == torch.float64
    assert again.metadata["format"] == "satclip"
