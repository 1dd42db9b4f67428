"""What encoders with cells, tables or anchors have in common."""

from typing import Any

import torch
from torch import Generator, Tensor

from geoenc.coordinates import as_lonlat

MAX_PARAMETERS = 2**28
LOWEST = -40.0
"""Exponents stop here, at 4e-18: times weights and slopes, much less is denormal and slow."""


def cell(position: Tensor, count: int) -> Tensor:
    """floor(position) as an index from 0 to count - 1; 0 where the position is NaN."""
    known = position.detach().masked_fill(position.isnan(), 0.0)
    return known.floor().clamp(0, count - 1).long()


def check_table(rows: int, columns: int, do: str) -> None:
    """Refuse a trained table of more than `MAX_PARAMETERS` numbers."""
    if rows * columns > MAX_PARAMETERS:
        raise ValueError(
            f"expected a table of at most {MAX_PARAMETERS:,} numbers, got {rows * columns:,} "
            f"({rows:,} rows of {columns:,}); {do}"
        )


def choose(lonlat: Any, num: int, generator: Generator | None) -> Tensor:
    """``(num, 2)`` of the given places: without replacement, or with it if there are too few."""
    places = as_lonlat(lonlat).detach().reshape(-1, 2)
    if len(places) == 0:
        raise ValueError("expected places to draw from, got none")
    if len(places) < num:
        chosen = torch.randint(len(places), (num,), generator=generator)
    else:
        chosen = torch.randperm(len(places), generator=generator)[:num]
    return places[chosen.to(places.device)]
