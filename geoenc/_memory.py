"""Fewer page faults: large new tensors lie in large pages, and freed memory is kept.

The first touch of a page is a fault, and with pages of 4 kB the faults of a large tensor take
longer than to fill it.
"""

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable

import torch
from torch import Tensor

LARGE = 2**25
"""Bytes from which the C library always asks the system for new memory."""


def new(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``torch.empty``, in large pages if it is large."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    size = tensor.numel() * tensor.itemsize
    advise = _advise() if tensor.device.type == "cpu" and size >= LARGE else None
    if advise is not None:
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = (tensor.data_ptr() + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
        advise(start, whole, mmap.MADV_HUGEPAGE)  # advice: if the system has none, pages are small
    return tensor


def keep_freed() -> None:
    """Have the C library keep what is freed, up to 32 MB, where work goes on in small blocks.

    glibc gives the end of its memory back when more is free than twice the largest block that it
    ever had to ask the system for, and every block would then fault its pages in again.
    """
    torch.empty(2**24, dtype=torch.uint8)


@functools.cache
def _advise() -> Callable[[int, int, int], int] | None:
    """``madvise`` of Linux, or None."""
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
