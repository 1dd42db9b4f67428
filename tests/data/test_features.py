"""Image features against explicit loops, and a cache that is whole or not there."""

import errno
import json
import logging
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from geoenc.component import Component
from geoenc.data import cache as cache_module
from geoenc.data import features as features_module
from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.features import (
    RandomConvFeatures,
    TransformersFeatures,
    image_features,
    zca,
)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(40, 3, 6, 7, generator=generator)
    smooth = nn.functional.interpolate(smooth, (12, 14), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


# Random convolutional features


def slow_features(module, images):
    """The formula of the docstring as loops over images, filters and places."""
    pictures = images.numpy().astype(np.float64) / 255
    columns = []
    for index, side in enumerate(module.sides):
        weight = module.get_buffer(f"weight_{index}").double().numpy()
        offset = module.get_buffer(f"offset_{index}").double().numpy()
        threshold = module.get_buffer(f"threshold_{index}").double().numpy()
        for sign in (1, -1):
            for k in range(len(weight)):
                column = []
                for picture in pictures:
                    total, places = 0.0, 0
                    for i in range(0, picture.shape[1] - side + 1, module.stride):
                        for j in range(0, picture.shape[2] - side + 1, module.stride):
                            patch = picture[:, i : i + side, j : j + side]
                            response = (weight[k] * patch).sum() - offset[k]
                            total += max(sign * response - threshold[k], 0.0)
                            places += 1
                    column.append(np.sqrt(total / places))
                columns.append(column)
    return np.array(columns).T


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize(("patch_size", "stride"), [(3, 1), ((1, 3), 1), ([2, 5], 3)])
def test_forward_is_the_formula(images, patch_size, stride, fitted):
    module = RandomConvFeatures(12, patch_size=patch_size, stride=stride)
    if fitted:
        module.fit(images)
    few = images[:3]
    output = module(few)
    assert output.dtype == torch.float32
    assert output.shape == (3, 12)
    np.testing.assert_allclose(output, slow_features(module, few), atol=2e-5)
    torch.testing.assert_close(module(few.float() / 255), output)
    assert module(few[:0]).shape == (0, 12)


def test_memory_is_bounded_by_chunks_that_change_nothing(images, monkeypatch):
    module = RandomConvFeatures(16).fit(images)
    whole = module(images)
    monkeypatch.setattr(features_module, "_ACTIVATIONS_PER_CHUNK", 1)
    torch.testing.assert_close(module(images), whole)


def test_whitened_patches_have_unit_covariance():
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    patches = torch.randn(500, 6, dtype=torch.float64, generator=generator) @ mixing
    whitening = zca(patches, epsilon=0.0)
    torch.testing.assert_close(whitening, whitening.T)
    covariance = np.cov(((patches - patches.mean(0)) @ whitening).numpy().T)
    np.testing.assert_allclose(covariance, np.eye(6), atol=1e-9)
    values = np.linalg.eigvalsh(np.cov(patches.numpy().T))
    damped = np.linalg.eigvalsh(zca(patches, epsilon=0.1).numpy())[::-1]
    np.testing.assert_allclose(damped, (values + 0.1 * values.mean()) ** -0.5)


def test_filters_come_from_patches_of_the_images(images):
    """Undoing both whitenings gives back, up to length, a patch that is in the images."""
    module = RandomConvFeatures(8, patch_size=2).fit(images)
    windows = images.double().div(255).unfold(2, 2, 1).unfold(3, 2, 1)
    patches = windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).numpy()
    generator = torch.Generator().manual_seed(0)
    drawn = features_module._patches(images, 2, 20_000, generator)
    inverse = np.linalg.inv(zca(drawn).numpy())
    mean = drawn.mean(0).numpy()
    centred = patches - mean
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    for weight in module.weight_0.double().flatten(1).numpy():
        found = inverse @ inverse @ weight
        assert abs(np.linalg.norm(inverse @ weight) - 1) < 1e-5
        assert (unit @ (found / np.linalg.norm(found))).max() > 1 - 1e-6


def test_thresholds_are_in_standard_deviations_of_the_response(images):
    module = RandomConvFeatures(2, patch_size=1, bias=(0.7, 0.7)).fit(images)
    pixels = images.double().div(255).permute(0, 2, 3, 1).reshape(-1, 3)
    response = pixels @ module.weight_0.double().flatten(1).T - module.offset_0
    torch.testing.assert_close(
        module.threshold_0.double(), 0.7 * response.std(0), rtol=0.03, atol=0
    )
    assert abs(response.mean()) < 0.05


def test_filters_are_reproducible_and_travel_in_the_state_dict(images):
    module = RandomConvFeatures(16, seed=3).fit(images)
    torch.testing.assert_close(RandomConvFeatures(16, seed=3).fit(images)(images), module(images))
    generator = torch.Generator().manual_seed(3)
    other = RandomConvFeatures(16, seed=9).fit(images, generator=generator)
    torch.testing.assert_close(other(images), module(images))
    assert not torch.equal(RandomConvFeatures(16, seed=4).fit(images)(images), module(images))
    config = json.loads(json.dumps(module.config))
    rebuilt = Component.from_config(config)
    rebuilt.load_state_dict(module.state_dict())
    assert torch.equal(rebuilt(images), module(images))
    assert rebuilt.config == config
    assert list(module.parameters()) == []


def test_fit_changes_nothing_it_was_given(images):
    before, state = images.clone(), torch.get_rng_state()
    RandomConvFeatures(16).fit(images)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_constant_images_give_finite_features():
    images = torch.full((4, 3, 8, 8), 17, dtype=torch.uint8)
    assert RandomConvFeatures(16).fit(images)(images).isfinite().all()


def test_double_and_device_follow_the_module(images):
    module = RandomConvFeatures(16).fit(images).double()
    assert module(images).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 7}, "even num_features"),
        ({"num_features": 2, "patch_size": (1, 3)}, "at least 2 for each of 2 patch sides"),
        ({"patch_size": 0}, "patch_size and stride of at least 1"),
        ({"stride": 0}, "patch_size and stride of at least 1"),
        ({"bias": (1.0,)}, r"bias as \(lowest, highest\)"),
    ],
)
def test_bad_hyperparameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomConvFeatures(**arguments)


@pytest.mark.parametrize("shape", [(2, 3, 4, 9), (2, 9, 9, 3), (3, 9, 9)])
def test_images_must_hold_the_largest_patch(shape):
    images = torch.zeros(shape, dtype=torch.uint8)
    module = RandomConvFeatures(16, patch_size=(1, 5))
    with pytest.raises(ValueError, match=r"at least 5 x 5 pixels.*smaller patch_size"):
        module(images)
    with pytest.raises(ValueError, match="expected images of shape"):
        module.fit(images)


def test_no_images_to_fit():
    with pytest.raises(ValueError, match="at least one image"):
        RandomConvFeatures(16).fit(torch.zeros(0, 3, 9, 9, dtype=torch.uint8))


# Any module, with and without a cache


class Counting(nn.Module):
    """Mean colour through a linear layer; counts the images it sees."""

    def __init__(self, seed=0, columns=4):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(3, columns)
        self.linear.weight.data = torch.randn(columns, 3, generator=generator)
        self.linear.bias.data.zero_()
        self.dropout = nn.Dropout(0.5)
        self.seen, self.stop_after = 0, None

    def forward(self, images):
        assert images.dtype == torch.float32
        assert not self.training
        assert not torch.is_grad_enabled()
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise RuntimeError("stopped")
        self.seen += len(images)
        return self.dropout(self.linear(images.mean((2, 3))))


def expected(module, images):
    means = images.double().div(255).mean((2, 3)).numpy()
    return means @ module.linear.weight.detach().double().numpy().T


def features(images, module, **kwargs):
    return image_features(images, module, progress=False, **{"batch_size": 7, **kwargs})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("cached", [True, False])
def test_features_of_any_module(images, tmp_path, cached):
    module = Counting()
    module.dropout.eval()
    got = features(images, module, cache=tmp_path / "sub" / "f.npy" if cached else None)
    assert got.shape == (40, 4)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected(module, images), atol=1e-6)
    assert module.training
    assert not module.dropout.training
    nn.Linear(4, 2)(got).sum().backward()
    if cached:
        assert names(tmp_path / "sub") == ["f.npy", "f.npy.json"]
        got[:] = 0
        np.testing.assert_allclose(
            np.load(tmp_path / "sub" / "f.npy"), expected(module, images), atol=1e-6
        )


def test_the_bar_shows_rate_and_time_left(images, capsys):
    image_features(images, Counting(), batch_size=7)
    assert "image features: 100%" in capsys.readouterr().err


def test_a_cache_is_reused(images, tmp_path):
    module = Counting()
    first = features(images, module, cache=tmp_path / "f.npy")
    again = features(images, module, cache=tmp_path / "f.npy", batch_size=3)
    assert torch.equal(first, again)
    assert module.seen == 40


@pytest.mark.parametrize("change", ["image", "order", "rows", "weights", "class", "damage"])
def test_a_cache_of_something_else_is_made_again(images, tmp_path, caplog, change):
    cache, module = tmp_path / "f.npy", Counting()
    features(images, module, cache=cache)
    if change == "image":
        images = images.clone()
        images[5, 0, 0, 0] += 1
    elif change == "order":
        images = images.flip(0)
    elif change == "rows":
        images = images[:39]
    elif change == "weights":
        module = Counting(seed=1)
    elif change == "class":
        module = type("Another", (Counting,), {})()
    else:
        cache.write_bytes(cache.read_bytes()[:-8])
    module.seen = 0
    with caplog.at_level(logging.WARNING, logger="geoenc"):
        got = features(images, module, cache=cache)
    assert "made of something else" in caplog.text
    assert module.seen == len(images)
    np.testing.assert_allclose(got, expected(module, images), atol=1e-6)
    features(images, module, cache=cache)
    assert module.seen == len(images)


def test_an_array_without_a_description_is_made_again(images, tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((40, 4), dtype=np.float32))
    module = Counting()
    got = features(images, module, cache=tmp_path / "f.npy")
    np.testing.assert_allclose(got, expected(module, images), atol=1e-6)


def test_printed_addresses_do_not_matter():
    def module(activation):
        layer = nn.Identity()
        layer.extra_repr = lambda: repr(activation)
        return layer

    one, two = object(), object()
    assert repr(one) != repr(two)
    assert cache_module.module_hash(module(one)) == cache_module.module_hash(module(two))


@pytest.mark.parametrize("torn", [0, 5])
def test_an_interrupted_run_continues(images, tmp_path, torn):
    module = Counting()
    module.stop_after = 21
    with pytest.raises(RuntimeError, match="stopped"):
        features(images, module, cache=tmp_path / "f.npy")
    assert module.training
    assert not (tmp_path / "f.npy").exists()
    partial = tmp_path / "f.npy.partial"
    if torn:
        partial.write_bytes(partial.read_bytes()[:-torn])
    module.stop_after, module.seen = None, 0
    got = features(images, module, cache=tmp_path / "f.npy")
    assert module.seen == 40 - 21 + bool(torn)
    np.testing.assert_allclose(got, expected(module, images), atol=1e-6)
    assert names(tmp_path) == ["f.npy", "f.npy.json"]


def test_an_interrupted_run_of_something_else_does_not_continue(images, tmp_path):
    module = Counting()
    module.stop_after = 21
    with pytest.raises(RuntimeError, match="stopped"):
        features(images, module, cache=tmp_path / "f.npy")
    other = Counting(seed=1, columns=3)
    got = features(images, other, cache=tmp_path / "f.npy")
    assert other.seen == 40
    np.testing.assert_allclose(got, expected(other, images), atol=1e-6)
    assert names(tmp_path) == ["f.npy", "f.npy.json"]


def test_a_killed_process_continues(tmp_path):
    """The process also shows that importing loads no optional package."""
    script = textwrap.dedent(
        """
        import os, signal, sys, torch
        from geoenc.data.features import image_features
        from geoenc.data.geotagged import load_geotagged

        optional = {"pandas", "geopandas", "PIL", "transformers", "pyarrow"} & set(sys.modules)
        assert not optional, optional
        module = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
        seen = []

        def kill(module, inputs):
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(inputs)

        module.register_forward_pre_hook(kill)
        images = torch.arange(480, dtype=torch.uint8).reshape(10, 3, 4, 4)
        image_features(images, module, cache="f.npy", batch_size=3, progress=False)
        """
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(features_module.__file__)))
    killed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert names(tmp_path) == ["f.npy.partial", "f.npy.partial.json"]
    module, seen = nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), []
    module.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0]))
    images = torch.arange(480, dtype=torch.uint8).reshape(10, 3, 4, 4)
    got = features(images, module, cache=tmp_path / "f.npy", batch_size=3)
    torch.testing.assert_close(got, images.float().div(255).mean((2, 3)))
    assert len(seen) == 4
    assert names(tmp_path) == ["f.npy", "f.npy.json"]


@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk_leaves_nothing_behind(images, tmp_path, monkeypatch, after):
    old, module = Counting(seed=1), Counting()
    features(images, old, cache=tmp_path / "f.npy")
    append, calls = cache_module._append, []

    def full(path, content):
        calls.append(path)
        if len(calls) > after:
            append(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, content)

    monkeypatch.setattr(cache_module, "_append", full)
    with pytest.raises(OSError, match=r"expected room for 40 x 4 features .*full disk") as error:
        features(images, module, cache=tmp_path / "f.npy")
    assert error.value.errno == errno.ENOSPC
    assert "free some space" in str(error.value)
    assert module.training
    assert names(tmp_path) == ["f.npy", "f.npy.json"]
    monkeypatch.undo()
    features(images, old, cache=tmp_path / "f.npy")
    assert old.seen == 40


def test_a_disk_too_small_is_noticed_after_the_first_batch(images, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage)
    module = Counting()
    with pytest.raises(OSError, match="full disk after 0 images"):
        features(images, module, cache=tmp_path / "f.npy")
    assert module.seen == 7
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Identity(), r"features of shape \(7, D\), got \(7, 3, 12, 14\); .*nn.Flatten"),
        (nn.Sequential(nn.Flatten(), nn.Flatten(0)), r"\(7, D\)"),
        (nn.Sequential(nn.Flatten(), nn.LogSoftmax(0), nn.Threshold(9, -np.inf)), "finite"),
    ],
)
def test_modules_that_do_not_fit(images, module, message):
    with pytest.raises(ValueError, match=message):
        features(images, module)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.zeros(0, 3, 4, 4), ValueError, "at least one image"),
        ([], ValueError, "at least one image"),
        (torch.zeros(2, 4, 4, 3), ValueError, "move the channels"),
        (torch.full((2, 3, 4, 4), 200.0), ValueError, r"float images in \[0, 1\].* from 200"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), ValueError, "expected uint8 images"),
        (np.zeros((2, 3, 4, 4)), TypeError, "got ndarray; pass torch.as_tensor"),
        ("a.png", TypeError, "or a list of files"),
        (["nowhere.png"], DatasetNotFoundError, "nowhere.png"),
    ],
)
def test_bad_images(bad, error, message, tmp_path):
    for cache in (None, tmp_path / "f.npy"):
        with pytest.raises(error, match=message):
            features(bad, Counting(), cache=cache)
    assert names(tmp_path) == []


def test_cache_must_be_npy(images):
    with pytest.raises(ValueError, match=r"ending in \.npy"):
        features(images, Counting(), cache="f.h5")


# Files


def picture(path, size=(20, 10), **kwargs):
    """Left quarter red, middle half green, right quarter blue."""
    array = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    quarter = size[0] // 4
    array[:, :quarter, 0] = array[:, quarter:-quarter, 1] = array[:, -quarter:, 2] = 255
    Image.fromarray(array).save(path, **kwargs)
    return path


def test_files_are_cut_to_the_middle_square(tmp_path):
    files = [picture(tmp_path / "a.png"), str(picture(tmp_path / "b.png", (40, 20)))]
    got = features(files, nn.Flatten(), image_size=5)
    assert got.shape == (2, 75)
    colours = got.reshape(2, 3, 5, 5)
    torch.testing.assert_close(colours[:, :, :, 2], torch.tensor([0, 1.0, 0]).expand(2, 5, 3).mT)
    torch.testing.assert_close(
        colours.mean((2, 3)), torch.tensor([[0, 1.0, 0]] * 2), atol=0.05, rtol=0
    )
    module = nn.Flatten()
    module.image_size = 4
    assert features(files, module).shape == (2, 48)


def test_filters_from_files_are_those_of_their_pixels(tmp_path, images):
    files = []
    for i, image in enumerate(images[:, :, :, :12]):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(files[-1])
    module = RandomConvFeatures(8, image_size=12).fit(files)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(40, generator=generator)
    other = RandomConvFeatures(8).fit(images[order, :, :, :12], generator=generator)
    assert torch.equal(module.weight_1, other.weight_1)
    torch.testing.assert_close(features(files, module), module(images[:, :, :, :12]))
    with pytest.raises(ValueError, match="at least one image"):
        module.fit([])


def test_a_changed_file_is_read_again(tmp_path):
    module, file = Counting(), picture(tmp_path / "a.png")
    cache = tmp_path / "f.npy"
    for _ in range(2):
        features([file], module, cache=cache, image_size=4)
    assert module.seen == 1
    os.utime(file, ns=(0, 0))
    features([file], module, cache=cache, image_size=4)
    assert module.seen == 2
    features([file], module, cache=cache, image_size=5)
    assert module.seen == 3


def test_damaged_and_deep_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "b.png")
    cut = picture(tmp_path / "c.png", (200, 100))
    cut.write_bytes(cut.read_bytes()[:200])
    for name, message in (("a", "readable image"), ("b", "8 bits"), ("c", "readable image")):
        with pytest.raises(ValueError, match=message) as error:
            features([tmp_path / f"{name}.png"], Counting())
        assert f"{name}.png" in str(error.value)


# Pretrained backbones


@pytest.fixture(scope="module")
def transformers():
    try:
        import transformers

        _ = transformers.ViTModel
    except Exception as error:
        pytest.skip(f"transformers cannot be used here: {type(error).__name__}: {error}")
    return transformers


TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
PREPROCESSING = {
    "do_normalize": True,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5, 0.6, 0.7],
    "size": {"height": 32, "width": 32},
    "resample": 2,
}


def backbone(transformers, kind, folder):
    """A tiny random backbone as save_pretrained writes it; returns the model and its columns."""
    torch.manual_seed(0)
    if kind == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        model = transformers.ResNetModel(config)
    elif kind == "clip":
        text = {**TINY, "vocab_size": 32, "max_position_embeddings": 8}
        config = transformers.CLIPConfig(text_config=text, vision_config=TINY, projection_dim=12)
        model = transformers.CLIPModel(config)
    elif kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**TINY))
    else:
        model = transformers.ViTModel(
            transformers.ViTConfig(**TINY), add_pooling_layer=kind == "vit"
        )
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return model


def reference(model, kind, pixels):
    if kind == "clip":
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        return model.visual_projection(pooled)
    output = model(pixel_values=pixels)
    if kind == "vit without pooler":
        return output.last_hidden_state[:, 0]
    return output.pooler_output.flatten(1)


@pytest.mark.parametrize("kind", ["vit", "vit without pooler", "resnet", "clip", "dinov2"])
def test_backbones_from_a_folder(transformers, tmp_path, images, kind):
    model = backbone(transformers, kind, tmp_path)
    module = TransformersFeatures(tmp_path)
    assert module.image_size == 32
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 32, 32, generator=generator)
    mean, std = (torch.tensor(PREPROCESSING[f"image_{key}"]) for key in ("mean", "std"))
    with torch.no_grad():
        wanted = reference(model, kind, (pixels - mean[:, None, None]) / std[:, None, None])
        got = module(pixels)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    cached = features(images, module, cache=tmp_path / "f.npy")
    assert cached.shape == (40, wanted.shape[1])
    assert torch.equal(features(images, TransformersFeatures(tmp_path)), cached)


@pytest.mark.parametrize(
    ("given", "shape", "resized"),
    [
        ({"size": 32}, (32, 32), (32, 32)),
        ({"size": {"shortest_edge": 16}, "crop_size": {"height": 12, "width": 12}}, (16, 24), 12),
        ({"size": {"shortest_edge": 14}, "crop_pct": 0.875}, (16, 24), 14),
        ({"size": {"shortest_edge": 16}, "crop_size": 12, "do_center_crop": False}, (16, 16), 16),
    ],
)
def test_preprocessing_is_pillows(transformers, tmp_path, given, shape, resized):
    """Resize, cut, normalise: as Pillow and the library's image processors do it."""
    backbone(transformers, "resnet", tmp_path)
    content = {**PREPROCESSING, **given}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    module = TransformersFeatures(tmp_path)
    side = resized if isinstance(resized, int) else resized[0]
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40 * shape[1] // shape[0], 3))
    small = Image.fromarray(pixels.astype(np.uint8)).resize(shape[::-1], Image.Resampling.BILINEAR)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    wanted = np.asarray(small)[top : top + side, left : left + side] / 255
    wanted = (wanted - PREPROCESSING["image_mean"]) / PREPROCESSING["image_std"]
    got = module.preprocess(torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1)[None])
    np.testing.assert_allclose(got[0].permute(1, 2, 0), wanted, atol=0.02)


def test_backbones_that_are_not_there(transformers, tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFoundError, match=r"expected a vision model in .*download=True"):
        TransformersFeatures(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match=r"save_pretrained.*download=True"):
        TransformersFeatures("geoenc-tests/no-such-model")
    backbone(transformers, "vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(DatasetNotFoundError, match="preprocessor_config"):
        TransformersFeatures(tmp_path)


def test_damaged_backbones(transformers, tmp_path):
    backbone(transformers, "resnet", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises((ValueError, OSError), match="expected a vision model"):
        TransformersFeatures(tmp_path)


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"geoenc\[vision\]"):
        TransformersFeatures("anything")
