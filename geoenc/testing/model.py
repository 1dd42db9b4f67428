"""The contract of models: what is made of position encoders, networks and time encoders."""

import copy
import inspect

import torch
from torch import Tensor, nn

from geoenc.component import Component
from geoenc.network import Network
from geoenc.position import PositionEncoder
from geoenc.temporal import TimeEncoder
from geoenc.testing.component import check_component
from geoenc.testing.shared import (
    Inputs,
    device_of,
    expect,
    expect_close,
    kind,
    leaves,
    numbers,
    places,
    times,
)


def check_model(
    model: Component, *, compile: bool | str = False, export: bool = False, **arguments: Tensor
) -> None:
    """Check what every model promises, on a copy in evaluation mode.

    One row of results per place, which no other place changes; float32 from float64 degrees;
    determinism; gradients of the places and of every parameter, in reverse and forward mode;
    rebuilding from configuration and weights; ``torch.func``.

    The arguments are made up from the names in the signature of ``forward``: ``lonlat``
    ``(B, 2)``; ``time`` ``(B,)``, if a part of the model takes it; ``features`` ``(B, D)`` with
    the width of ``model.image``.

    Args:
        model: on the device where it is to be checked.
        compile, export: as for `check_position_encoder`.
        arguments: float64 tensors for arguments with other names, at least two rows each.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> position = geoenc.Space2VecGrid(4)
        >>> network = geoenc.FFN(16, 8, hidden_features=8)
        >>> geoenc.testing.check_model(geoenc.LocationEncoder(position, network))
    """
    model = copy.deepcopy(model).float().eval()
    wide = _inputs(model, arguments)
    inputs = tuple(
        x.float() if key == "features" else x for key, x in zip(_names(model), wide, strict=False)
    )
    _check_rows(model, inputs)
    check_component(model, inputs, exact=wide, rows=slice(3), compile=compile, export=export)


def _names(model: Component) -> list[str]:
    return list(inspect.signature(model.forward).parameters)


def _inputs(model: Component, given: dict[str, Tensor]) -> Inputs:
    device = device_of(model)
    lonlat = places(device)[:5]
    result = []
    for key in _names(model):
        image = getattr(model, "image", None)
        if key in given:
            result.append(given[key])
        elif key == "lonlat":
            result.append(lonlat)
        elif key == "features" and isinstance(image, Network):
            result.append(numbers(len(lonlat), image.in_features, device=device))
        elif key == "time":
            if any(_takes_time(part) for part in model.modules()):
                result.append(times(len(lonlat), device=device))
        else:
            known = "lonlat, time and features"
            do = f"pass a tensor: check_model(model, {key}=...)"
            expect(False, f"arguments of {kind(model)}.forward to be of {known}", key, do)
    return tuple(result)


def _takes_time(part: nn.Module) -> bool:
    return isinstance(part, TimeEncoder) or (isinstance(part, PositionEncoder) and part.takes_time)


def _check_rows(model: Component, inputs: Inputs) -> None:
    missing = tuple(x.clone() for x in inputs)
    for x in missing:
        x[1] = torch.nan
    none = leaves(model(*[x[:0] for x in inputs]))
    for result, whole, empty in zip(
        leaves(model(*missing)), leaves(model(*inputs)), none, strict=True
    ):
        rows = len(inputs[0])
        expect(len(whole) == rows, f"{rows} rows from {rows} places", len(whole), "keep rows")
        expect(len(empty) == 0, "no row from no place", len(empty), "keep rows")
        expect(whole.dtype == torch.float32, "float32 after .float()", whole.dtype, "narrow it")
        others = [0, *range(2, rows)]
        expect_close(result[others], whole[others], 1e-6, "other rows", "the result without NaN")
        expect(
            bool(result[1].isnan().all()), f"{kind(model)} to give NaN where the place is NaN",
            result[1], "do not replace NaN",
        )  # fmt: skip
