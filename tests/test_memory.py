"""Large tensors ask for large pages, within their own memory."""

import mmap
import sys
from unittest import mock

import pytest
import torch

from geoenc import _memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [3, 1_000_003])
def test_a_tensor_like_any_other(rows: int) -> None:
    made = _memory.new((rows, 9), torch.float32, CPU)
    assert (made.shape, made.dtype, made.is_contiguous()) == ((rows, 9), torch.float32, True)
    made.fill_(1)
    assert made.sum(dtype=torch.float64) == 9 * rows


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes this advice")
def test_only_whole_pages_of_its_own_are_advised() -> None:
    advise = mock.Mock()
    with mock.patch.object(_memory, "_advise", return_value=advise):
        _memory.new((1000,), torch.float64, CPU)
        advise.assert_not_called()
        made = _memory.new((_memory.LARGE + 100,), torch.uint8, CPU)
    ((start, size, advice),) = [call.args for call in advise.call_args_list]
    assert advice == mmap.MADV_HUGEPAGE
    assert start % mmap.PAGESIZE == size % mmap.PAGESIZE == 0
    first, last = made.data_ptr(), made.data_ptr() + made.numel()
    assert first <= start < first + mmap.PAGESIZE
    assert last - mmap.PAGESIZE < start + size <= last


def test_where_the_system_takes_no_advice() -> None:
    _memory._advise.cache_clear()
    try:
        with mock.patch("ctypes.CDLL", side_effect=OSError("no C library")):
            assert _memory.new((_memory.LARGE,), torch.uint8, CPU).numel() == _memory.LARGE
    finally:
        _memory._advise.cache_clear()
