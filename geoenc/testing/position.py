"""The contract of position encoders."""

import copy
import math

import torch
from torch import Tensor

from geoenc.position import PositionEncoder
from geoenc.testing.component import check_component
from geoenc.testing.shared import (
    Inputs,
    check_shapes,
    device_of,
    enlarged,
    expect,
    expect_close,
    kind,
    leaves,
    places,
    same,
    times,
)

_LONGITUDES = (-180.0, -120.5, -33.0, 0.0, 10.25, 77.0, 179.0)
_OFF_EDGES = [0, 1, 2, 3, 5]  # places at no edge of a cell, a tile or a zone: no whole degrees
_LATITUDES = (-80.5, -45.0, -1.25, 0.0, 33.3, 60.0, 89.0)


def check_position_encoder(
    encoder: PositionEncoder, *, compile: bool | str = False, export: bool = False
) -> None:
    """Check everything that `geoenc.PositionEncoder` promises, on a copy.

    Shapes, widths and dtypes; arithmetic that ``.half()`` leaves alone; gradients, at the poles
    too, in reverse and forward mode; NaN; determinism; both wrapping properties, which must hold
    if declared and fail if not; rebuilding from configuration and weights; ``write`` and
    ``blocks``; ``torch.func``.

    Args:
        encoder: on the device where it is to be checked.
        compile: also compile it, in one graph: True, or the name of a backend. Takes seconds.
        export: also export it by ``torch.export`` and to ONNX, which onnxruntime must run with
            the same result to 1e-5; needs the extra ``onnx``.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> geoenc.testing.check_position_encoder(geoenc.Space2VecGrid(4))
    """
    encoder = copy.deepcopy(encoder).float()
    enlarged(encoder)
    exact = copy.deepcopy(encoder).double()
    lonlat = places(device_of(encoder))
    inputs = _inputs(encoder, lonlat)
    check_shapes(encoder, 2, lambda x: encoder(*_inputs(encoder, x)), (ValueError,))
    _check_wavelengths(encoder)
    step, slope = _scale(encoder)
    check_component(
        encoder, inputs, exact=inputs, rows=_OFF_EDGES, step=step, slope=slope,
        compile=compile, export=export,
    )  # fmt: skip
    _check_output_dtype(encoder, inputs)
    _check_buffers(encoder)
    _check_missing_places(encoder, inputs)
    _check_written(encoder, inputs)
    _check_wraps(exact, "wraps_antimeridian", _edges(lonlat.device))
    _check_wraps(exact, "wraps_poles", _poles(lonlat.device))
    _check_pole_gradients(exact, lonlat)


def _inputs(encoder: PositionEncoder, lonlat: Tensor) -> Inputs:
    """The places, and times if the encoder takes them."""
    if not encoder.takes_time:
        return (lonlat,)
    return lonlat, times(*lonlat.shape[:-1], device=lonlat.device)


def _check_output_dtype(encoder: PositionEncoder, inputs: Inputs) -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        narrow = copy.deepcopy(encoder).to(dtype)
        got, wanted = narrow(*inputs), copy.deepcopy(narrow).double()(*inputs)
        expect(
            got.dtype == dtype,
            f"{kind(encoder)} to return {dtype} after .to({dtype})",
            got.dtype,
            "leave narrowing to PositionEncoder.forward",
        )
        rounding = 0.51 * torch.finfo(dtype).eps
        worst = ((got.double() - wanted).abs() - rounding * wanted.abs()).max().item()
        expect(
            worst < 2e-6,
            f"{kind(encoder)}.to({dtype}) to compute as in float64 and round once",
            f"an error of {worst:.1g} beyond rounding",
            "keep scales as float64 buffers or Python numbers",
        )


def _check_buffers(encoder: PositionEncoder) -> None:
    def dtypes(module: PositionEncoder) -> dict[str, torch.dtype]:
        return {
            key: buffer.dtype for key, buffer in module.named_buffers() if key != "_dtype_of_module"
        }

    for dtype in (torch.float16, torch.float64):
        changed = copy.deepcopy(encoder).to(dtype)
        expect(
            dtypes(changed) == dtypes(encoder),
            f"buffers to keep their dtypes {dtypes(encoder)}",
            dtypes(changed),
            "do not override _apply",
        )


def _check_missing_places(encoder: PositionEncoder, inputs: Inputs) -> None:
    lonlat, *time = inputs
    missing = lonlat.clone()
    missing[[1, 3]] = torch.nan
    code, whole = encoder(missing, *time), encoder(*inputs)
    unknown = code[[1, 3]].isnan()
    known = [row for row in range(len(lonlat)) if row not in (1, 3)]
    expect(
        bool(unknown.all()),
        f"{kind(encoder)} to give NaN where the place is NaN",
        f"numbers in {int((~unknown[0]).sum())} of {encoder.out_features} columns",
        "do not replace NaN, and take care with comparisons and indices",
    )
    expect(
        same(code[known], whole[known]),
        "other rows untouched by a missing place", "a change", "do not mix rows",
    )  # fmt: skip


def _check_written(encoder: PositionEncoder, inputs: Inputs) -> None:
    lonlat, *time = inputs
    when = time[0] if time else None
    wanted = encoder(*inputs)
    for fast in (False, True) if lonlat.device.type == "cpu" else (False,):
        written = encoder.write(lonlat, time=when, compile=fast)
        expect_close(written, wanted, 1e-6, f"{kind(encoder)}.write", "the result of forward")
        parts = encoder.blocks(lonlat, time=when, compile=fast)
        blocks = torch.cat([code.clone() for _, code in parts])
        expect_close(blocks, wanted, 1e-6, f"{kind(encoder)}.blocks", "the result of forward")


def _edges(device: torch.device) -> tuple[Tensor, Tensor]:
    lat = torch.tensor(_LATITUDES, dtype=torch.float64, device=device)
    west = torch.stack([torch.full_like(lat, -180), lat], -1)
    return west, west * torch.tensor([-1.0, 1.0], dtype=torch.float64, device=device)


def _poles(device: torch.device) -> tuple[Tensor, Tensor]:
    lon = torch.tensor(_LONGITUDES, dtype=torch.float64, device=device).repeat(2)
    lat = torch.tensor((90.0, -90.0), dtype=torch.float64, device=device)
    lat = lat.repeat_interleave(len(_LONGITUDES))
    return torch.stack([lon, lat], -1), torch.stack([torch.full_like(lon, 25.0), lat], -1)


def _check_wraps(exact: PositionEncoder, key: str, pair: tuple[Tensor, Tensor]) -> None:
    declared = getattr(exact, key)
    one, other = (exact(*_inputs(exact, lonlat)) for lonlat in pair)
    jump = (one - other).abs().max().item()
    holds = jump < 1e-7
    expect(
        declared is holds,
        f"{kind(exact)}.{key} = {holds}, since the code jumps by {jump:.1g}",
        declared,
        "declare what holds; if it holds for some settings alone, make it a property",
    )


def _check_wavelengths(encoder: PositionEncoder) -> None:
    wavelengths = getattr(encoder, "wavelengths", None)
    expect(
        wavelengths is None or (wavelengths.ndim == 1 and bool((wavelengths > 0).all())),
        f"{kind(encoder)}.wavelengths of shape (F,), positive degrees",
        wavelengths,
        "leave the attribute out if there are no waves",
    )


def _scale(encoder: PositionEncoder) -> tuple[float, float]:
    """Step of finite differences in degrees, and the slope that the finest wave can have."""
    wavelengths = getattr(encoder, "wavelengths", None)
    if wavelengths is None:
        return 1e-5, 1.0
    finest = min(1.0, wavelengths.min().item() / (2 * math.pi))
    return 1e-3 * finest, 1 / finest


def _check_pole_gradients(exact: PositionEncoder, lonlat: Tensor) -> None:
    at = torch.cat([_poles(lonlat.device)[0], torch.zeros_like(lonlat[:1])])
    inputs = _inputs(exact, at)
    if not exact(at.clone().requires_grad_(), *inputs[1:]).requires_grad:
        return
    slopes = leaves(torch.func.vmap(torch.func.jacrev(exact))(*inputs))[0]
    expect(
        bool(slopes.isfinite().all()),
        f"{kind(exact)} to have finite gradients at the poles and at (0, 0)",
        f"{int((~slopes.isfinite()).sum())} that are not",
        "avoid square roots and arcsines that reach the end of their range",
    )
