"""The contract of time encoders."""

import copy

import torch

from geoenc.temporal import TimeEncoder
from geoenc.testing.component import check_component
from geoenc.testing.shared import device_of, expect, kind, times


def check_time_encoder(
    encoder: TimeEncoder, *, compile: bool | str = False, export: bool = False
) -> None:
    """Check everything that `geoenc.TimeEncoder` promises, on a copy.

    Shapes and widths; the dtype of the argument; NaN; determinism; gradients in reverse and
    forward mode; rebuilding from configuration and weights; ``torch.func``.

    Args:
        encoder: on the device where it is to be checked.
        compile, export: as for `check_position_encoder`.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> geoenc.testing.check_time_encoder(geoenc.CyclicTime())
    """
    encoder = copy.deepcopy(encoder).float().eval()
    time = times(5, device=device_of(encoder))
    for dtype in (torch.float32, torch.float64):
        module = copy.deepcopy(encoder).to(dtype)
        for shape in ((), (5,), (0,), (3, 4)):
            code = module(times(*shape, device=time.device).to(dtype))
            wanted = (*shape, encoder.out_features)
            expect(
                tuple(code.shape) == wanted,
                f"{kind(encoder)} to map {shape} to {wanted}",
                tuple(code.shape),
                "add one dimension, the last",
            )
            expect(
                code.dtype == dtype,
                f"{kind(encoder)} to follow {dtype}",
                code.dtype,
                "cast it",
            )
    unknown = encoder(torch.full_like(time, torch.nan, dtype=torch.float32)).isnan()
    expect(bool(unknown.all()), "NaN where the time is NaN", "numbers", "do not replace NaN")
    check_component(encoder, (time.float(),), exact=(time,), compile=compile, export=export)
