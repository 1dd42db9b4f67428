"""Models on disk: what is saved comes back, and damage is noticed and explained."""

import copy
import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import geoenc
from geoenc.pretrained import CONFIG, WEIGHTS, from_pretrained, save_pretrained


def encoder(width: int = 4) -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.Space2VecGrid(2), geoenc.FFN(8, width, hidden_features=6))


LONLAT = [(-122.27, 37.87), (2.35, 48.86)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_what_is_saved_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    model = geoenc.LocationClassifier(encoder(), 3).to(dtype)
    model.save_pretrained(tmp_path, metadata={"data": "made up", "year": 2026})
    again = geoenc.LocationClassifier.from_pretrained(tmp_path)
    assert again.config == model.config
    assert not again.training
    assert {p.dtype for p in again.parameters()} == {dtype}
    lonlat = geoenc.as_lonlat(LONLAT)
    assert again.probabilities(lonlat).equal(model.probabilities(lonlat))
    document = json.loads((tmp_path / CONFIG).read_text())
    assert document["metadata"] == {"data": "made up", "year": 2026}
    assert document["geoenc_version"] == geoenc.__version__
    assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("parts", ["buffers and parameters", "buffers"])
def test_parameters_decide_the_dtype_and_buffers_keep_theirs(
    tmp_path: Path, dtype: torch.dtype, parts: str
) -> None:
    """The anchors and random matrices of a position encoder are float64 in every model."""
    position = geoenc.RFF(6, scale=3.0)
    model = position if parts == "buffers" else geoenc.LocationEncoder(position, geoenc.FFN(12, 4))
    model.to(dtype)
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    for key, value in model.state_dict().items():
        assert again.state_dict()[key].dtype == value.dtype
        assert again.state_dict()[key].equal(value)
    lonlat = geoenc.as_lonlat(LONLAT)
    if parts != "buffers":
        assert again(lonlat).equal(model.eval()(lonlat))
    else:
        assert again(lonlat).dtype == torch.float32, "a code without weights says no dtype"


def test_parts_of_different_dtypes_keep_theirs(tmp_path: Path) -> None:
    image = geoenc.FFN(5, 4, depth=0, final_activation=False)
    model = geoenc.DualEncoder(encoder().double(), image).eval()
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    lonlat, features = geoenc.as_lonlat(LONLAT), torch.ones(2, 5)
    for got, wanted in zip(again(lonlat, features), model(lonlat, features), strict=True):
        assert got.dtype == wanted.dtype
        assert got.equal(wanted)


def test_all_models_and_parts_can_be_saved(tmp_path: Path) -> None:
    models = [
        encoder(),
        geoenc.SumEncoder([encoder(), encoder()]),
        geoenc.DualEncoder(encoder(), geoenc.FFN(5, 4, depth=0, final_activation=False)),
        geoenc.XYZ(),
        geoenc.ResidualNet(3, 4),
    ]
    for number, model in enumerate(models):
        save_pretrained(model, tmp_path / str(number))
        again = from_pretrained(tmp_path / str(number))
        assert again.config == model.config
        for key, value in model.state_dict().items():
            assert again.state_dict()[key].equal(value)


def test_a_part_that_is_there_twice(tmp_path: Path) -> None:
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 4))
    model = geoenc.SumEncoder([encoder, encoder]).eval()
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    lonlat = geoenc.sampling.fibonacci(20)
    assert torch.equal(again(lonlat), model(lonlat))


def test_saving_again_replaces(tmp_path: Path) -> None:
    encoder(4).save_pretrained(str(tmp_path))
    other = encoder(7)
    other.save_pretrained(str(tmp_path))
    assert geoenc.from_pretrained(str(tmp_path)).embed(LONLAT).equal(other.embed(LONLAT))


def test_what_is_known_of_a_model_stays_with_it(tmp_path: Path) -> None:
    model = encoder()
    assert model.metadata == {}
    model.metadata["training_data"] = "made up"
    model.metadata["licence"] = "none stated"
    assert encoder().metadata == {}, "each model has its own"
    model.save_pretrained(tmp_path, metadata={"licence": "MIT"})
    assert model.metadata["licence"] == "none stated", "saving changes nothing"
    again = geoenc.LocationEncoder.from_pretrained(tmp_path)
    assert again.metadata == {"training_data": "made up", "licence": "MIT"}
    again.save_pretrained(tmp_path / "copy")
    assert from_pretrained(tmp_path / "copy").metadata == again.metadata
    document = json.loads((tmp_path / CONFIG).read_text())
    assert document["coordinates"] == "longitude, latitude; degrees; WGS 84"
    assert document["model"]["name"] == "LocationEncoder"


def test_a_loaded_model_does_not_hang_on_its_file(tmp_path: Path) -> None:
    encoder().save_pretrained(tmp_path)
    model = from_pretrained(tmp_path)
    before = model.embed(LONLAT)
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(bytes(len(content)))
    assert model.embed(LONLAT).equal(before)
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert all(parameter.requires_grad for parameter in model.parameters())


# --- folders of every released version ----------------------------------------------------------

SAVED = Path(__file__).parent / "saved"
"""Written once by each version, by ``python tests/test_pretrained.py``, and never changed."""


def examples() -> dict[str, geoenc.LocationEncoder]:
    """Small models that hold every kind of thing that can be saved."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    timed = geoenc.LocationEncoder(
        geoenc.SphericalHarmonics(3), geoenc.Siren(18, 4, hidden_features=6), geoenc.CyclicTime()
    )
    random = [
        geoenc.LocationEncoder(
            geoenc.RFF(4, scale=scale, plane="equal_earth", generator=generator),
            geoenc.ResidualNet(8, 4, hidden_features=6, depth=1),
        )
        for scale in (1.0, 16.0)
    ]
    places = geoenc.sampling.fibonacci(9)
    database = geoenc.RetrievalDatabase.of(
        places, random[0].embed(places), torch.randn(9, 3, generator=generator)
    )
    return {
        "half": encoder().half(),
        "time": timed.double(),
        "sum": geoenc.SumEncoder(random),
        "classes": geoenc.LocationClassifier(encoder(), 3),
        "images": geoenc.DualEncoder(encoder(), geoenc.FFN(5, 4, depth=0, final_activation=False)),
        "retrieval": geoenc.RetrievalAugmented(
            copy.deepcopy(random[0]).double(), database, place_weight=0.5
        ),
    }


def output(name: str, model: torch.nn.Module) -> torch.Tensor:
    lonlat = geoenc.as_lonlat([*LONLAT, (180, -90), (float("nan"), 0)], missing=True)
    others = {"time": (torch.linspace(0, 0.9, 4),), "images": (torch.ones(4, 5),)}
    with torch.no_grad():
        result = model.eval()(lonlat, *others.get(name, ()))
    return torch.cat(result if isinstance(result, tuple) else (result,), -1)


@pytest.mark.parametrize(
    "folder", sorted(SAVED.glob("*/*")), ids=lambda p: f"{p.parent.name}-{p.name}"
)
def test_files_of_earlier_versions_stay_readable(folder: Path) -> None:
    model = from_pretrained(folder)
    wanted = load_file(folder / "output.safetensors")["output"]
    got = output(folder.name, model)
    assert got.dtype == wanted.dtype
    tolerance = {torch.float16: 2e-3, torch.float32: 1e-5, torch.float64: 1e-6}[got.dtype]
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance, equal_nan=True)
    assert model.metadata["training_data"] == "none"


def test_this_version_has_left_its_files() -> None:
    folder = SAVED / geoenc.__version__
    there = {path.name for path in folder.glob("*") if (path / WEIGHTS).is_file()}
    assert there == set(examples()), f"run python tests/test_pretrained.py to write {folder}"


def leave_files() -> None:
    for name, model in examples().items():
        folder = SAVED / geoenc.__version__ / name
        if not folder.exists():
            save_pretrained(model, folder, metadata={"training_data": "none", "licence": "MIT"})
            save_file({"output": output(name, model)}, folder / "output.safetensors")


# --- a save that fails --------------------------------------------------------------------------


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_full_disk_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    old = encoder()
    old.save_pretrained(tmp_path)
    original = {"write_text": Path.write_text, "write_bytes": Path.write_bytes}

    def replacement(name: str):
        def write(self: Path, *args: object, **kwargs: object) -> int:
            if file in self.name:
                original[name](self, *([args[0][:10]] if args else []), **kwargs)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
            return original[name](self, *args, **kwargs)

        return write

    for name in original:
        monkeypatch.setattr(Path, name, replacement(name))
    with pytest.raises(OSError, match=f"room for {file}, but the disk is full; nothing was"):
        encoder(9).save_pretrained(tmp_path)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS]
    assert geoenc.from_pretrained(tmp_path).embed(LONLAT).equal(old.embed(LONLAT))


def test_what_cannot_be_rebuilt_is_not_saved(tmp_path: Path) -> None:
    old = encoder()
    old.save_pretrained(tmp_path)
    foreign = geoenc.DualEncoder(encoder(), torch.nn.Linear(5, 4))
    with pytest.raises(TypeError, match=r"DualEncoder\.image.*got Linear; derive it"):
        foreign.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="JSON"):
        encoder(9).save_pretrained(tmp_path, metadata={"when": object()})
    assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS]
    assert geoenc.from_pretrained(tmp_path).embed(LONLAT).equal(old.embed(LONLAT))


# --- a folder that is not what it should be -----------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    encoder().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: object) -> None:
    document = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**document, **changes}))


def reseal(folder: Path) -> None:
    """The checksum of the weights as they are now."""
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    rewrite(folder, weights_sha256=digest)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a model folder with config"):
        from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_half_of_it_there(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"without {name}; give the folder"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format_version": 1}',
        b"\xff\xfe\x00",
        b'{"model": {}}',
        b'{"format_version": "new", "model": {"name": "XYZ"}, "weights_sha256": ""}',
    ],
)
def test_damaged_configuration(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(ValueError, match="got a file that is damaged or of another kind") as caught:
        from_pretrained(folder)
    assert str(folder / CONFIG) in str(caught.value)
    assert "save the model again" in str(caught.value)


def test_configuration_from_the_future(folder: Path) -> None:
    rewrite(folder, format_version=99)
    with pytest.raises(ValueError, match=r"version 1 or older.*got 99; install a newer geoenc"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ({"name": "os.system"}, ValueError, "got 'os.system'"),
        ({"name": "XYZ", "radius": 1}, TypeError, r"got \['radius'\]"),
    ],
)
def test_configuration_of_no_known_class(
    folder: Path, model: object, error: type, words: str
) -> None:
    rewrite(folder, model=model)
    with pytest.raises(error, match=words):
        from_pretrained(folder)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_weights(folder: Path, damage: str) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    if damage == "flipped":
        content[-3] ^= 1
    (folder / WEIGHTS).write_bytes(
        content if damage == "flipped" else content[: len(content) // 2 * (damage == "truncated")]
    )
    with pytest.raises(ValueError, match=r"checksum written in config.json, got another") as caught:
        from_pretrained(folder)
    assert str(folder / WEIGHTS) in str(caught.value)
    reseal(folder)
    if damage != "flipped":
        with pytest.raises(ValueError, match=r"expected safetensors in .* got a damaged file"):
            from_pretrained(folder)


def test_weights_of_another_model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    encoder(9).save_pretrained(other)
    (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(ValueError, match="checksum"):
        from_pretrained(folder)
    reseal(folder)
    with pytest.raises(ValueError, match=r"layers.1.linear.bias: expected \(4,\), got \(9,\)"):
        from_pretrained(folder)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_missing_and_unknown_keys(folder: Path, change: str) -> None:
    state = load_file(folder / WEIGHTS)
    key = "network.layers.0.linear.weight"
    if change == "missing":
        del state[key]
        words = rf"{key}: expected \(6, 8\), got nothing"
    else:
        state["mystery"] = torch.zeros(2)
        words = r"mystery: expected nothing, got \(2,\)"
    save_file(state, folder / WEIGHTS)
    reseal(folder)
    with pytest.raises(ValueError, match=words):
        from_pretrained(folder)


def test_model_of_another_class(folder: Path) -> None:
    with pytest.raises(ValueError, match="expected a LocationClassifier, got 'LocationEncoder'"):
        geoenc.LocationClassifier.from_pretrained(folder)
    assert isinstance(geoenc.LocationEncoder.from_pretrained(folder), geoenc.LocationEncoder)


if __name__ == "__main__":
    leave_files()
