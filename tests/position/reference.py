"""The formulas of the position encoders, one place and one column at a time, in sixty digits."""

from collections.abc import Callable, Iterable

import mpmath
import torch
from mpmath import mpf
from torch import Tensor

import geoenc

mpmath.mp.dps = 60
Number = mpmath.mpf


def radii(num: int, first: float, last: float) -> list[Number]:
    if num == 1:
        return [mpf(first)]
    return [mpf(first) * (mpf(last) / mpf(first)) ** (mpf(s) / (num - 1)) for s in range(num)]


def radians(degrees: Number) -> Number:
    return degrees * mpmath.pi / 180


def grid(lon: Number, lat: Number, scales: Iterable[Number]) -> list[Number]:
    scales = list(scales)
    return [f(c / r) for c in (lon, lat) for r in scales for f in (mpmath.sin, mpmath.cos)]


def theory(lon: Number, lat: Number, scales: Iterable[Number]) -> list[Number]:
    columns = []
    for r in scales:
        for turn in (0, 120, 240):
            direction = radians(mpf(turn))
            along = lon * mpmath.cos(direction) + lat * mpmath.sin(direction)
            columns += [mpmath.sin(along / r), mpmath.cos(along / r)]
    return columns


def sphere(lon: Number, lat: Number, scales: Iterable[Number], variant: str) -> list[Number]:
    sin, cos = mpmath.sin, mpmath.cos
    lon, lat = radians(lon), radians(lat)
    columns = []
    for r in scales:
        fine_lon, fine_lat = lon / r, lat / r
        if "+" in variant:
            columns += [sin(fine_lat), cos(fine_lat), sin(fine_lon), cos(fine_lon)]
        else:
            columns += [sin(fine_lat)]
        if "C" in variant:
            columns += [cos(fine_lat) * cos(fine_lon), cos(fine_lat) * sin(fine_lon)]
        else:
            columns += [cos(fine_lat) * cos(lon), cos(lat) * cos(fine_lon)]
            columns += [cos(fine_lat) * sin(lon), cos(lat) * sin(fine_lon)]
    return columns


def table(lonlat: Tensor, formula: Callable[..., list[Number]], *arguments: object) -> Tensor:
    """A formula for every place; places are the float64 numbers that the encoder sees."""
    rows = [
        [float(value) for value in formula(mpf(lon), mpf(lat), *arguments)]
        for lon, lat in lonlat.tolist()
    ]
    return torch.tensor(rows, dtype=torch.float64)


def places() -> Tensor:
    """Poles, edges, near misses, and points spread over the globe."""
    special = [
        (0, 0),
        (0, 90),
        (77, -90),
        (180, 12),
        (-180, 12),
        (179.9999, -0.0001),
        (2.35, 48.86),
    ]
    return torch.cat([torch.tensor(special, dtype=torch.float64), geoenc.sampling.fibonacci(25)])
