"""What the original programs compute, written again from the formulas, slowly, in NumPy."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import geoenc

Array = np.ndarray
Shapes = dict[str, tuple[int, ...]]

LONLAT = torch.cat(
    [
        torch.tensor([(0, 0), (0, 90), (77, -90), (180, 12), (-180, 12), (2.35, 48.86)]).double(),
        geoenc.sampling.fibonacci(14),
    ]
)
PLACES = LONLAT.numpy()


def weights(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random numbers for every name, as large as an initialisation makes them."""
    random = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=random, dtype=torch.float64)
        / math.sqrt(shape[-1] if len(shape) > 1 else 4)
        for key, shape in shapes.items()
    }


def arrays(state: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    return {key: value.numpy() for key, value in state.items()}


def saved(folder: Path, content: Any, name: str = "model.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def linear_shapes(prefix: str, inputs: int, outputs: int) -> Shapes:
    return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}


# --- position codes -----------------------------------------------------------------------------


def frequencies(count: int, first: float, last: float) -> list[float]:
    return [1 / (first * (last / first) ** (s / (count - 1))) for s in range(count)]


def rows(function: Any) -> Array:
    """A formula of one place, for all places."""
    return np.array([function(float(lon), float(lat)) for lon, lat in PLACES])


def grid(fs: list[float]) -> Array:
    return rows(lambda *x: [g(f * c) for c in x for f in fs for g in (math.sin, math.cos)])


def theory(fs: list[float], unit: float = 1.0) -> Array:
    def one(lon: float, lat: float) -> list[float]:
        h = math.sqrt(3) / 2
        along = [lon, -lon / 2 + h * lat, -lon / 2 - h * lat]
        return [g(f * unit * a) for f in fs for a in along for g in (math.sin, math.cos)]

    return rows(one)


def theory_port(fs: list[float]) -> Array:
    """The two halves of the vector each begin with a sine."""
    angles = rows(
        lambda lon, lat: [
            f * (math.cos(math.radians(t)) * lon + math.sin(math.radians(t)) * lat)
            for f in fs
            for t in (0, 120, 240)
            for _ in range(2)
        ]
    )
    half = angles.shape[1] // 2
    even = np.arange(half) % 2 == 0
    return np.concatenate(
        [np.where(even, np.sin(p), np.cos(p)) for p in (angles[:, :half], angles[:, half:])], 1
    )


def sphere(fs: list[float], variant: str, *, degrees: bool = False, times: int = 1) -> Array:
    """``degrees``: as if they were radians; ``times``: how often each column is there."""
    s, c = math.sin, math.cos

    def one(lon: float, lat: float) -> list[float]:
        if not degrees:
            lon, lat = math.radians(lon), math.radians(lat)
        out = []
        for f in fs:
            p, q = f * lat, f * lon
            out += [s(p), c(p), s(q), c(q)] if variant.endswith("+") else [s(p)]
            if variant[0] == "C":
                out += [c(p) * c(q), c(p) * s(q)]
            else:
                out += [c(p) * c(lon), c(lat) * c(q), c(p) * s(lon), c(lat) * s(q)]
        return [value for value in out for _ in range(times)]

    return rows(one)


def dfs(fs: list[float]) -> Array:
    def one(lon: float, lat: float) -> list[float]:
        lon, lat = math.radians(lon), math.radians(lat)
        a = [math.sin(f * lon) for f in fs] + [math.cos(f * lon) for f in fs]
        b = [math.sin(f * lat) for f in fs] + [math.cos(f * lat) for f in fs]
        last = [g(f * x) for f in fs for x in (lat, lon) for g in (math.sin, math.cos)]
        return [i * j for i in a for j in b] + last

    return rows(one)


def xyz() -> Array:
    def one(lon: float, lat: float) -> list[float]:
        lon, lat = math.radians(lon), math.radians(lat)
        return [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]

    return rows(one)


def nerf(count: int) -> Array:
    phase = xyz()[:, :, None] * math.pi * 2.0 ** np.arange(count)
    return np.concatenate([f(phase).reshape(len(PLACES), -1) for f in (np.sin, np.cos)], 1)


def scaled(extent: tuple[float, ...] = (-180, 180, -90, 90)) -> Array:
    west, east, south, north = extent
    return rows(
        lambda lon, lat: [
            2 * (lon - west) / (east - west) - 1,
            2 * (lat - south) / (north - south) - 1,
        ]
    )


def wrap() -> Array:
    x = math.pi * scaled()
    return np.concatenate([np.sin(x), np.cos(x)], 1)


def wrap_radians() -> Array:
    lon, lat = np.deg2rad(PLACES).T
    return np.stack([np.cos(lon), np.sin(lon), np.cos(lat), np.sin(lat)], 1)


def doubled() -> Array:
    """encode_3D of the geographic prior."""
    lon, lat = (math.pi * scaled()).T
    return np.stack([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)], 1)


def hexagons(count: int, largest: float) -> Array:
    turn = 2 * math.pi / 3
    return rows(
        lambda *x: [
            math.sin(c / largest ** (k / (count - 1)) + j * turn)
            for c in x
            for k in range(count)
            for j in range(3)
        ]
    )


def harmonics(count: int, kind: str) -> Array:
    """Analytic: at the antipode, without (-1)^m; SatCLIP's with pi; the closed form with it."""
    from scipy.special import lpmv

    def one(lon: float, lat: float) -> list[float]:
        lon, x = math.radians(lon + 180), math.cos(math.radians(lat + 90))
        out = []
        for band in range(count):
            for m in range(-band, band + 1):
                k = abs(m)
                ratio = math.factorial(band - k) / math.factorial(band + k)
                value = math.sqrt((2 * band + 1) / (4 * math.pi) * ratio) * lpmv(k, band, x)
                value *= 1 if m == 0 else math.sqrt(2) * (math.sin if m < 0 else math.cos)(k * lon)
                if kind != "closed-form":
                    value *= (-1) ** k
                out.append(value * (math.pi if kind == "satclip" and m == 0 else 1))
        return out

    return rows(one)


# --- networks -----------------------------------------------------------------------------------


def affine(w: Mapping[str, Array], prefix: str, x: Array) -> Array:
    return x @ w[f"{prefix}.weight"].T + w.get(f"{prefix}.bias", 0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    from scipy.special import erf

    return x * (1 + erf(x / math.sqrt(2))) / 2


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leakyrelu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": gelu,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}


def norm(w: Mapping[str, Array], prefix: str, y: Array) -> Array:
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    return y * w[f"{prefix}.weight"] + w[f"{prefix}.bias"]


def ffn(w: Mapping[str, Array], prefix: str, x: Array, params: Mapping[str, Any]) -> Array:
    act, depth = ACTIVATIONS[params["spa_f_act"]], params["num_hidden_layer"]
    for layer in range(depth):
        y = act(affine(w, f"{prefix}.layers.{layer}.linear", x))
        if params["skip_connection"] and y.shape == x.shape:
            y = y + x
        x = norm(w, f"{prefix}.layers.{layer}.layernorm", y) if params["use_layn"] else y
    return act(affine(w, f"{prefix}.layers.{depth}.linear", x))


def ffn_shapes(prefix: str, columns: int, params: Mapping[str, Any]) -> Shapes:
    depth, hidden = params["num_hidden_layer"], params["hidden_dim"]
    widths = [columns, *[hidden] * depth, params["num_filts"]]
    shapes: Shapes = {}
    for layer in range(depth + 1):
        if layer < depth and params["use_layn"]:
            name = f"{prefix}.layers.{layer}.layernorm"
            shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
        shapes |= linear_shapes(f"{prefix}.layers.{layer}.linear", *widths[layer : layer + 2])
    return shapes


def residual(w: Mapping[str, Array], prefix: str, x: Array, depth: int) -> Array:
    x = np.maximum(affine(w, f"{prefix}.0", x), 0)
    for block in range(2, depth + 2):
        y = np.maximum(affine(w, f"{prefix}.{block}.w1", x), 0)
        x = x + np.maximum(affine(w, f"{prefix}.{block}.w2", y), 0)
    return x


def residual_shapes(prefix: str, columns: int, width: int, depth: int) -> Shapes:
    shapes = linear_shapes(f"{prefix}.0", columns, width)
    for block in range(2, depth + 2):
        for layer in ("w1", "w2"):
            shapes |= linear_shapes(f"{prefix}.{block}.{layer}", width, width)
    return shapes


def siren(w: Mapping[str, Array], prefix: str, x: Array, depth: int) -> Array:
    for layer in range(depth):
        x = np.sin((30 if layer == 0 else 1) * affine(w, f"{prefix}layers.{layer}", x))
    return affine(w, f"{prefix}last_layer", x)


def siren_shapes(prefix: str, columns: int, hidden: int, depth: int, outputs: int) -> Shapes:
    shapes: Shapes = {}
    for layer in range(depth):
        shapes |= linear_shapes(f"{prefix}layers.{layer}", hidden if layer else columns, hidden)
    return shapes | linear_shapes(f"{prefix}last_layer", hidden, outputs)
