"""Published encoders: each name builds what it says, is saved, and can be written down."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc import published
from geoenc.temporal import year_fraction_of_months

NAMES = published.names()
LONLAT = [(-122.27, 37.87), (2.35, 48.86), (0.0, -90.0)]


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def times(name: str) -> Tensor | None:
    timed = "time" in published.entry(name).config
    return torch.tensor([0.1, 0.5, 0.9]) if timed else None


@pytest.mark.parametrize("name", NAMES)
def test_builds_embeds_and_comes_back(name: str, tmp_path: Path) -> None:
    model, entry = published.encoder(name), published.entry(name)
    assert model.out_features == entry.out_features
    assert model.training
    embedding = model.embed(LONLAT, times(name))
    assert embedding.shape == (3, entry.out_features)
    assert embedding.isfinite().all()
    assert (embedding.std(0) > 0).any(), "three places, one embedding"
    model.save_pretrained(tmp_path)
    again = geoenc.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.embed(LONLAT, times(name)).equal(embedding)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = published.encoder(name).train()
    lonlat = torch.tensor(LONLAT).repeat(8, 1)
    time = times(name)
    model(lonlat, None if time is None else time.repeat(8)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def given(config: Any, built: Any) -> bool:
    """Whether all that a configuration says is in the one that the model writes."""
    if isinstance(config, dict):
        return all(given(value, built[key]) for key, value in config.items())
    if isinstance(config, list):
        return len(config) == len(built) and all(map(given, config, built))
    return config == built


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_complete_plain_and_true(name: str) -> None:
    entry = published.entry(name)
    assert given(entry.config, published.encoder(name).config)
    assert all((entry.paper, entry.source))
    assert tomllib.loads("\n".join(toml(entry.config))) == entry.config


def toml(config: dict[str, Any], prefix: str = "") -> list[str]:
    """A configuration as a settings file has it."""
    plain = {key: value for key, value in config.items() if not nested(value)}
    lines = [f"{key} = {text(value)}" for key, value in plain.items()]
    for key, value in config.items():
        tables = value if isinstance(value, list) else [value]
        for table in tables if nested(value) else []:
            header = f"[[{prefix}{key}]]" if isinstance(value, list) else f"[{prefix}{key}]"
            lines += [header, *toml(table, f"{prefix}{key}.")]
    return lines


def nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_numbers_of_parameters_are_those_of_the_published_networks() -> None:
    layer = lambda i, o: i * o + o  # noqa: E731
    capsule = layer(512, 1024) + 2 * layer(1024, 1024) + layer(1024, 512)
    counts = {
        "GeoCLIP": 3 * capsule,
        "SatCLIP-L10": layer(100, 512) + layer(512, 512) + layer(512, 256),
        "SatCLIP-L40": layer(1600, 512) + layer(512, 512) + layer(512, 256),
        "SINR": layer(4, 256) + 8 * layer(256, 256),
        "GeoPrior": layer(6, 256) + 8 * layer(256, 256),
        "CSP-fMoW": layer(128, 512) + 2 * 512 + layer(512, 256),
        "Climplicit": layer(4, 512) + 15 * layer(512, 512) + layer(512, 256),
    }
    assert {name: parameters(published.encoder(name)) for name in counts} == counts
    assert round(counts["GeoCLIP"] / 1e6, 2) == 9.45


RELEASED = {
    "xyz": "XYZ",
    "wrap_ffn": "Wrap",
    "Space2Vec-theory": "Space2VecTheory",
    "Sphere2Vec-sphereC": "Sphere2VecC",
    "Sphere2Vec-sphereC+": "Sphere2VecCPlus",
    "Sphere2Vec-sphereM": "Sphere2VecM",
}


@pytest.mark.real_data
def test_settings_are_those_of_the_released_checkpoints(shared: Path) -> None:
    """TorchSpatial's fMoW models say their settings, and have weights of our shapes."""
    seen = set()
    for path in sorted((shared / "checkpoints" / "torchspatial").glob("model_fmow_*")):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        settings = checkpoint["params"]
        if settings["spa_enc_type"] not in RELEASED:
            continue
        name = f"{RELEASED[settings['spa_enc_type']]}-fMoW"
        seen.add(name)
        model: Any = published.encoder(name)
        scales = {"frequency_num": "num_frequencies"} | {r: r for r in ("min_radius", "max_radius")}
        for theirs, ours in scales.items():
            assert getattr(model.position, ours, settings[theirs]) == settings[theirs]
        assert model.network.hidden_features == settings["hidden_dim"]
        assert model.network.depth == settings["num_hidden_layer"]
        assert model.network.dropout == settings["dropout"]
        assert model.network.activation.replace("_", "") == settings["spa_f_act"]
        prefix = "spa_enc.ffn."
        weights = {
            key.removeprefix(prefix): value
            for key, value in checkpoint["state_dict"].items()
            if key.startswith(prefix)
        }
        model.network.load_state_dict(weights)
    assert seen == {f"{ours}-fMoW" for ours in RELEASED.values()}


def test_an_entry_is_a_copy_and_nothing_is_built_for_it() -> None:
    published.entry("SINR").config["network"]["out_features"] = 3
    assert published.encoder("SINR").out_features == 256
    assert not any(isinstance(v, torch.nn.Module) for v in vars(published).values())


def test_climplicit_without_a_month_is_four_months_side_by_side() -> None:
    model = published.encoder("Climplicit")
    months = year_fraction_of_months([3, 6, 9, 12])
    embedding = torch.cat([model.embed(LONLAT, month.expand(3)) for month in months], -1)
    assert embedding.shape == (3, 1024)
    code = model.code(geoenc.as_lonlat(LONLAT), months[:3])
    assert code.tolist() == pytest.approx(
        torch.tensor(
            [
                [lon / 180, lat / 90, math.sin(math.tau * m / 12), math.cos(math.tau * m / 12)]
                for (lon, lat), m in zip(LONLAT, (3, 6, 9), strict=True)
            ]
        ).numpy(),
        abs=1e-6,
    )


def test_first_weights_follow_torchs_generator() -> None:
    torch.manual_seed(3)
    first = published.encoder("GeoCLIP").embed(LONLAT)
    torch.manual_seed(3)
    assert published.encoder("GeoCLIP").embed(LONLAT).equal(first)
    assert not published.encoder("GeoCLIP").embed(LONLAT).equal(first)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("satclip", "got 'satclip'; did you mean SatCLIP-L"),
        ("Geoclip", "did you mean GeoCLIP"),
        ("sphere2vec-c-fmow", "Sphere2VecC-fMoW"),
        ("zzz", "there are SatCLIP-L10, SatCLIP-L40, GeoCLIP"),
        (None, "got None; there are"),
    ],
)
@pytest.mark.parametrize("function", [published.encoder, published.entry])
def test_wrong_names_get_close_matches(function: Any, name: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        function(name)
