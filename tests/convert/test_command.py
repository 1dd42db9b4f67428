"""``geoenc convert FORMAT IN OUT``."""

import json
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch

import geoenc
from geoenc import cli, convert


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A linear network of Russwurm's library on the grid."""
    state = foreign.weights(foreign.linear_shapes("neural_network", 12, 4))
    return foreign.saved(tmp_path, state)


SETTINGS = ["positional_encoding_name=grid", "frequency_num=3", "min_radius=20", "max_radius=360.0"]


def test_writes_our_folder(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "ours"
    assert cli.main(["convert", "locationencoder", str(file), str(out), *SETTINGS]) == 0
    shown = capsys.readouterr().out
    assert "LocationEncoder with 52 parameters" in shown
    assert "licence: none stated" in shown
    document = json.loads((out / "config.json").read_text())
    assert document["model"]["position"]["name"] == "Space2VecGrid"
    assert document["metadata"]["format"] == "locationencoder"
    assert document["geoenc_version"] == geoenc.__version__
    assert document["coordinates"] == "longitude, latitude; degrees; WGS 84"
    got = geoenc.from_pretrained(out)(foreign.LONLAT).detach().numpy()
    code = foreign.grid(foreign.frequencies(3, 20.0, 360.0))
    wanted = foreign.affine(foreign.arrays(torch.load(file)), "neural_network", code)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_overwrites_only_by_force(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ours"
    out.mkdir()
    (out / "config.json").write_text("mine")
    command = ["convert", "locationencoder", str(file), str(out), *SETTINGS]
    assert cli.main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert (out / "config.json").read_text() == "mine"
    assert cli.main([*command, "--force"]) == 0
    assert geoenc.from_pretrained(out).out_features == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "positional_encoding_name: expected one of"),
        (["positional_encoding_name"], "expected key=value"),
        ([*SETTINGS, "frequency_num=5"], "expected shape (4, 20), got (4, 12)"),
        ([*SETTINGS, "frequencies=3"], "parameter frequencies: expected one of positional_"),
        (["places=absent.npy"], "expected an array in 'absent.npy', got no file"),
    ],
)
def test_errors_leave_nothing(
    more: list[str], words: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ours"
    assert cli.main(["convert", "locationencoder", str(file), str(out), *more]) == 1
    error = capsys.readouterr().err
    assert error.startswith("geoenc: expected")
    assert words in error
    assert not out.exists()


def test_a_format_that_takes_no_such_thing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["convert", "torchspatial", str(file), str(tmp_path / "ours"), "depth=3"]) == 1
    assert "expected training_places, dual after the folder" in capsys.readouterr().err
    assert cli.main(["convert", "geoclip", str(file), str(tmp_path / "ours"), "depth=3"]) == 1
    assert "expected nothing after the folder, for geoclip" in capsys.readouterr().err


def test_arrays_come_from_npy_files(tmp_path: Path) -> None:
    """A SINR model on environmental layers, which are not in its file."""
    state = foreign.weights(
        {**foreign.residual_shapes("feats", 2, 3, 1), "class_emb.weight": (5, 3)}
    )
    params = {"model": "ResidualFCNet", "input_enc": "env", "num_filts": 3, "depth": 1}
    file = foreign.saved(tmp_path, {"state_dict": state, "params": {**params, "num_classes": 5}})
    np.save(tmp_path / "layers.npy", np.ones((4, 5, 2), dtype=np.float32))
    out = tmp_path / "ours"
    assert cli.main(["convert", "sinr", str(file), str(out), f"raster={tmp_path}/layers.npy"]) == 0
    assert geoenc.from_pretrained(out).num_classes == 5


def test_the_command_knows_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["convert", "--help"])
    shown = capsys.readouterr().out
    assert all(kind in shown for kind in convert.FORMATS)
    with pytest.raises(SystemExit):
        cli.main(["convert", "unknown", "a", "b"])
