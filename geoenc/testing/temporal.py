"""The contract of time encoders."""

import copy

import torch

from geoenc.temporal import TimeEncoder
from geoenc.testing.export import check_portable
from geoenc.testing.shared import (
    check_gradients,
    check_rebuilt,
    check_repeatable,
    check_transforms,
    device_of,
    expect,
    kind,
    times,
)


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
    exact = copy.deepcopy(encoder).double()
    time = times(5, device=device_of(encoder))
    for module, dtype in ((encoder, torch.float32), (exact, torch.float64)):
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
    check_repeatable(encoder, (time.float(),))
    check_rebuilt(encoder, (time.float(),))
    check_transforms(exact, (time,))
    check_gradients(exact, (time,), 1e-6, 1.0)
    check_portable(encoder, (time.float(),), compile=compile, export=export)
