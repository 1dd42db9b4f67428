"""Image features: random convolutions, pretrained backbones, and a cache written once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geoenc._optional import require
from geoenc.component import Component
from geoenc.data.cache import images_hash, is_made_of, module_hash, write_cache
from geoenc.data.errors import DatasetNotFoundError

_ACTIVATIONS_PER_CHUNK = 2**20  # of each sign: what stays in the cache of a processor core


class RandomConvFeatures(Component):
    """sqrt(mean_ij relu(±w_k · (P_ij - m) - bias_k)), one feature for each filter k and sign.

    P_ij are the patches of an image; m and C are mean and covariance of the patches of all images.
    Each w_k = Z z_k / |z_k| comes from a random patch P of the images that `fit` is given,
    z_k = Z (P - m), whitened by the symmetric square root Z = (C + e I)^(-1/2) (ZCA). Nothing is
    trained and nothing downloaded. The filters are buffers; before `fit` they are Gaussian.

    Args:
        num_features: features per image, half for each sign.
        patch_size: side of the patches in pixels; several sides share the filters equally.
        stride: pixels between neighbouring patches.
        bias: the thresholds bias_k run through this range, in standard deviations of w_k · (P - m).
        image_size: side to which `fit` and `image_features` scale image files.
        seed: draws the patches, unless `fit` is given a generator.

    Shape:
        ``images`` uint8 in 0..255, or float in [0, 1], (N, 3, H, W); output (N, num_features).

    Example:
        >>> import torch
        >>> from geoenc.data import RandomConvFeatures
        >>> images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
        >>> RandomConvFeatures(64).fit(images)(images).shape
        torch.Size([8, 64])

    Reference:
        MOSAIKS: Rolf et al. 2021, Nature Communications 12:4392, Methods; whitening: Coates and
        Ng 2012, Learning Feature Representations with K-means.

    Differs:
        MOSAIKS has one patch side, one bias and no square root.
    """

    num_features: int
    patch_size: int | Sequence[int]
    stride: int
    bias: tuple[float, float]
    image_size: int
    seed: int

    def __init__(
        self,
        num_features: int = 512,
        *,
        patch_size: int | Sequence[int] = (1, 3),
        stride: int = 1,
        bias: tuple[float, float] = (-0.5, 1.25),
        image_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_features, self.patch_size = num_features, patch_size
        self.stride, self.bias, self.image_size, self.seed = stride, bias, image_size, seed
        self.sides = [patch_size] if isinstance(patch_size, int) else list(patch_size)
        if num_features < 2 * len(self.sides) or num_features % 2:
            raise ValueError(
                f"expected an even num_features, at least 2 for each of {len(self.sides)} patch "
                f"sides, got {num_features}; take {2 * max(len(self.sides), num_features // 2)}"
            )
        if min(self.sides, default=0) < 1 or stride < 1 or len(bias) != 2:
            raise ValueError(
                "expected patch_size and stride of at least 1 and bias as (lowest, highest), got "
                f"patch_size={patch_size}, stride={stride}, bias={bias}; correct them"
            )
        generator = torch.Generator().manual_seed(seed)
        share, rest = divmod(num_features // 2, len(self.sides))
        for index, side in enumerate(self.sides):
            count = share + (index < rest)
            weight = torch.randn(count, 3 * side * side, generator=generator)
            weight = weight / (0.25 * weight.norm(dim=1, keepdim=True))
            self._register(index, weight, weight.sum(1) / 2, _thresholds(bias, count))

    def _register(self, index: int, weight: Tensor, offset: Tensor, threshold: Tensor) -> None:
        side = self.sides[index]
        self.register_buffer(f"weight_{index}", weight.reshape(-1, 3, side, side))
        self.register_buffer(f"offset_{index}", offset)
        self.register_buffer(f"threshold_{index}", threshold)

    def fit(
        self, images: Tensor | Sequence[str | Path], *, generator: torch.Generator | None = None
    ) -> Self:
        """Takes the filters from ``images`` (or files, of which 2,000); labels play no part."""
        _check_images(images)
        if generator is None:
            generator = torch.Generator().manual_seed(self.seed)
        if not isinstance(images, Tensor):
            order = torch.randperm(len(images), generator=generator)[:2000].tolist()
            images = _read_images([images[i] for i in order], self.image_size)
        self._check_size(images)
        for index, side in enumerate(self.sides):
            old = self.get_buffer(f"weight_{index}")
            patches = _patches(images, side, max(20_000, len(old)), generator)
            mean = patches.mean(0)
            whitening = zca(patches)
            chosen = (patches[: len(old)] - mean) @ whitening
            chosen = chosen / chosen.norm(dim=1, keepdim=True).clamp_min(1e-12)
            weight = chosen @ whitening
            spread = ((patches - mean) @ weight.T).std(0)
            threshold = _thresholds(self.bias, len(old)).to(spread) * spread
            values = weight, weight @ mean, threshold
            self._register(index, *(value.to(old) for value in values))
        return self

    def _check_size(self, images: Tensor) -> None:
        side = max(self.sides)
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < side:
            raise ValueError(
                f"expected images of shape (N, 3, H, W) of at least {side} x {side} pixels, the "
                f"largest patch, got {tuple(images.shape)}; move three channels to the second "
                "dimension, or pass a smaller patch_size"
            )

    def forward(self, images: Tensor) -> Tensor:
        self._check_size(images)
        if torch.compiler.is_compiling():  # an exported program has no loop over the batch
            return self._pooled(images)
        pixels = images.shape[2] * images.shape[3] // self.stride**2
        size = max(1, 2 * _ACTIVATIONS_PER_CHUNK // (pixels * self.num_features))
        chunks = [self._pooled(chunk) for chunk in images.split(size)]
        return torch.cat(chunks) if len(images) else images.new_zeros(0, self.num_features).float()

    def _pooled(self, images: Tensor) -> Tensor:
        features = []
        for index in range(len(self.sides)):
            weight = self.get_buffer(f"weight_{index}")
            offset = self.get_buffer(f"offset_{index}")
            threshold = self.get_buffer(f"threshold_{index}")[:, None, None]
            response = F.conv2d(_unit(images, weight), weight, -offset, stride=self.stride)
            features.append((response - threshold).relu_().mean((2, 3)))
            features.append((-response - threshold).relu_().mean((2, 3)))
        return torch.cat(features, dim=1).sqrt()


def _thresholds(bias: Sequence[float], count: int) -> Tensor:
    lowest, highest = bias
    return torch.linspace(lowest, highest, count)


def zca(patches: Tensor, *, epsilon: float = 1e-2) -> Tensor:
    """Z = (C + e I)^(-1/2) of the covariance C, with e = ``epsilon`` times its mean eigenvalue."""
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    values = values.clamp_min(0) + epsilon * values.mean().clamp_min(1e-12)
    return vectors * values.rsqrt() @ vectors.T


def _patches(images: Tensor, side: int, count: int, generator: torch.Generator) -> Tensor:
    """float64 (count, 3 side²): patches at random places of random images."""
    tops, lefts = images.shape[2] - side + 1, images.shape[3] - side + 1
    draw = [torch.randint(n, (count,), generator=generator) for n in (len(images), tops, lefts)]
    which, top, left = (index.to(images.device)[:, None, None, None] for index in draw)
    step = torch.arange(side, device=images.device)
    channel = torch.arange(3, device=images.device)[:, None, None]
    patches = images[which, channel, top + step[:, None], left + step].cpu()
    return _unit(patches, torch.zeros((), dtype=torch.float64)).flatten(1)


def _unit(images: Tensor, like: Tensor) -> Tensor:
    """Images in [0, 1] with the dtype of ``like``."""
    return images.to(like.dtype) / 255 if images.dtype == torch.uint8 else images.to(like.dtype)


class TransformersFeatures(nn.Module):
    """The pooled output of a pretrained vision backbone (ViT, DINOv2, ResNet, CLIP, ...).

    Pooled is what the model pools itself (for CLIP its image embedding), else the class token,
    else the mean of all positions. Size, mean and standard deviation come from the backbone's
    ``preprocessor_config.json`` and are applied in PyTorch, so torchvision is not needed.

    Args:
        name_or_folder: folder written by ``save_pretrained``, or a name on the Hugging Face hub,
            whose local cache is searched.
        download: fetch what is not there. Without it nothing is ever downloaded.

    Shape:
        ``images`` uint8 in 0..255, or float in [0, 1], (N, 3, H, W); output (N, D).
    """

    name_or_folder: str
    download: bool

    def __init__(self, name_or_folder: str | Path, *, download: bool = False) -> None:
        super().__init__()
        transformers = require("transformers", extra="vision")
        self.name_or_folder, self.download = str(name_or_folder), download
        where = {"local_files_only": not download}
        try:
            self.backbone, loaded = transformers.AutoModel.from_pretrained(
                self.name_or_folder, output_loading_info=True, **where
            )
            file = transformers.utils.cached_file(
                self.name_or_folder, "preprocessor_config.json", **where
            )
        except ImportError:
            raise
        except Exception as error:
            kind = DatasetNotFoundError if isinstance(error, OSError) else ValueError
            first = "".join(str(error).strip().splitlines()[:1])
            raise kind(self._expected(f"{type(error).__name__}: {first}")) from error
        missing = sorted(loaded["missing_keys"])
        self.pooled = not any("pooler" in name for name in missing)
        missing = [name for name in missing if "pooler" not in name]
        if missing:
            raise ValueError(self._expected(f"weights without {missing[0]} ({len(missing)} such)"))
        self.preprocessing = json.loads(Path(file).read_text(encoding="utf-8"))
        self.image_size = self._sizes()[0]
        self.eval()

    def _expected(self, got: str) -> str:
        do = "check the name and the connection" if self.download else "allow it with download=True"
        return (
            f"expected a vision model in '{self.name_or_folder}' with config.json, weights and "
            f"preprocessor_config.json, got {got}; pass a folder that save_pretrained of model and "
            f"image processor wrote, or a name on the hub ({do})"
        )

    def extra_repr(self) -> str:
        return f"preprocessing={self.preprocessing}, pooled={self.pooled}"

    def _sizes(self) -> tuple[int, int]:
        """Side to resize to and side to cut out of the middle, in pixels."""
        given = self.preprocessing
        size, crop = given.get("size", 224), given.get("crop_size")
        if isinstance(size, dict):
            size = size.get("shortest_edge", size.get("height", 224))
        if isinstance(crop, dict):
            crop = crop.get("height", size)
        if given.get("crop_pct") and crop is None and size < 384:
            return int(size / given["crop_pct"]), size
        return size, crop if crop and given.get("do_center_crop", True) else size

    def preprocess(self, images: Tensor) -> Tensor:
        """Resized, cut to a square and normalised as the backbone was trained; float (N, 3, S, S).

        An image that is not square keeps its proportions and loses its margins.
        """
        given = self.preprocessing
        like = next(self.backbone.parameters())
        images = _unit(images, like.float())
        side, crop = self._sizes()
        height, width = images.shape[2:]
        scale = side / min(height, width)
        if min(height, width) != side:
            size = max(side, round(height * scale)), max(side, round(width * scale))
            mode = {2: "bilinear", 3: "bicubic"}.get(given.get("resample", 2), "bicubic")
            images = F.interpolate(images, size, mode=mode, antialias=True).clamp(0, 1)
        top, left = (images.shape[2] - crop) // 2, (images.shape[3] - crop) // 2
        images = images[:, :, top : top + crop, left : left + crop]
        if given.get("do_normalize", True):
            mean, std = (
                images.new_tensor(given.get(key, [value] * 3))[:, None, None]
                for key, value in (("image_mean", 0.5), ("image_std", 0.5))
            )
            images = (images - mean) / std
        return images.to(like.dtype)

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.preprocess(images)
        if hasattr(self.backbone, "get_image_features"):
            output = self.backbone.get_image_features(pixel_values=pixels)
        else:
            output = self.backbone(pixel_values=pixels)
        if isinstance(output, Tensor):
            return output
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and self.pooled:
            return pooled.flatten(1)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean((2, 3))
        has_token = any(name.endswith("cls_token") for name, _ in self.backbone.named_parameters())
        return hidden[:, 0] if has_token else hidden.mean(1)


def image_features(
    images: Tensor | Sequence[str | Path],
    module: nn.Module,
    *,
    cache: str | Path | None = None,
    image_size: int | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> Tensor:
    """Row i is module(image i), without gradient and in evaluation mode, written once to a file.

    Args:
        images: uint8 or float in [0, 1], or files, which are scaled until the shorter side has
            ``image_size`` pixels and cut to the square in the middle.
        module: maps float images in [0, 1] (n, 3, H, W) to features (n, D), on its own device.
        cache: a ``.npy`` file, with a ``.npy.json`` beside it that says what it was made of. It is
            reused for the same images and module, made again for others, and continued where a
            killed run left off. The result then is memory-mapped; writing to it changes no file.
            A module is known by its class, printed form, parameters and buffers.
        image_size: by default ``module.image_size`` if it has one, else 224; only for files.
        batch_size: images per call of the module.
        progress: show a bar with rate and time left.

    Shape:
        ``images`` (N, 3, H, W) or N files; output float32 (N, D).
    """
    _check_images(images)
    if image_size is None:
        image_size = int(getattr(module, "image_size", 224))
    if cache is None:
        return torch.cat(
            list(_computed(images, module, 0, image_size, batch_size, progress=progress))
        )
    cache = Path(cache)
    if cache.suffix != ".npy":
        raise ValueError(f"expected a cache file ending in .npy, got '{cache}'; rename it")
    made_of = {
        "rows": len(images),
        "images": images_hash(images, image_size),
        "module": module_hash(module),
    }
    if not is_made_of(cache, made_of):
        write_cache(
            cache,
            made_of,
            lambda start: _computed(
                images, module, start, image_size, batch_size, progress=progress
            ),
        )
    # Copy-on-write: the file stays as it is whatever is done to the tensor.
    return torch.from_numpy(np.load(cache, mmap_mode="c", allow_pickle=False))


def _check_images(images: Any) -> None:
    if not isinstance(images, Tensor):
        if isinstance(images, str | Path) or not all(isinstance(f, str | Path) for f in images):
            raise TypeError(
                f"expected a tensor of images or a list of files, got {type(images).__name__}; "
                "pass torch.as_tensor(images), or [path] for one file"
            )
    elif images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"expected images of shape (N, 3, H, W), got {tuple(images.shape)}; "
            "move the channels to the second dimension and take three of them"
        )
    if len(images) == 0:
        raise ValueError("expected at least one image, got none; check how they were selected")
    if isinstance(images, Tensor) and images.dtype != torch.uint8:
        low, high = (float(bound) for bound in images.aminmax())
        if not (images.is_floating_point() and low >= 0 and high <= 1):
            raise ValueError(
                "expected uint8 images in 0..255 or float images in [0, 1], got "
                f"{images.dtype} from {low:g} to {high:g}; scale them first"
            )


def _computed(
    images: Tensor | Sequence[str | Path],
    module: nn.Module,
    start: int,
    image_size: int,
    batch_size: int,
    *,
    progress: bool,
) -> Generator[Tensor]:
    """Features of one batch after another, float32 on the CPU; the module's mode is restored."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.zeros(()))
    training = [part for part in module.modules() if part.training]
    bar = None
    if progress:
        tqdm = require("tqdm", extra="train").tqdm
        bar = tqdm(total=len(images), initial=start, unit=" images", desc="image features")
    module.eval()
    try:
        for first in range(start, len(images), batch_size):
            batch = images[first : first + batch_size]
            if not isinstance(batch, Tensor):
                batch = _read_images(batch, image_size)
            with torch.no_grad():
                features = module(_unit(batch.to(like.device), like))
            _check_features(features, len(batch))
            yield features.float().cpu()
            if bar is not None:
                bar.update(len(batch))
    finally:
        for part in training:
            part.training = True
        if bar is not None:
            bar.close()


def _check_features(features: Any, rows: int) -> None:
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != rows:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"expected the module to return features of shape ({rows}, D), got {got}; "
            "take its pooled output, or append nn.Flatten()"
        )
    if not bool(features.isfinite().all()):
        raise ValueError(
            "expected finite features, got NaN or infinity from the module; "
            "check its weights and that it takes images in [0, 1]"
        )


def _read_images(files: Sequence[str | Path], size: int) -> Tensor:
    """uint8 (n, 3, size, size)."""
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(_read_image, files, itertools.repeat(size))))


def _read_image(file: str | Path, size: int) -> Tensor:
    """uint8 (3, size, size): the middle square of an image whose shorter side is ``size``."""
    pillow = require("PIL.Image", extra="train")
    if not Path(file).is_file():
        raise DatasetNotFoundError(
            f"expected an image at '{file}', got no such file; correct the path or drop the row"
        )
    try:
        with pillow.open(file) as opened:
            mode, picture = opened.mode, opened.convert("RGB")
    except Exception as error:
        raise ValueError(
            f"expected a readable image in '{file}', got {type(error).__name__}: {error}; "
            "write the file again or drop the row"
        ) from error
    if mode[0] in "IF":
        raise ValueError(
            f"expected 8 bits per channel in '{file}', got mode '{mode}'; scale the values to "
            "0..255 first, or compute features of the raw values and load these"
        )
    width, height = picture.size
    short = min(width, height)
    box = (width - short) / 2, (height - short) / 2, (width + short) / 2, (height + short) / 2
    picture = picture.resize((size, size), pillow.Resampling.BICUBIC, box=box)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
