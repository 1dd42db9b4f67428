"""LocationQueue against a deque."""

from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geoenc


@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=6))
def test_queue_is_a_deque(size: int, batches: list[int]) -> None:
    queue, slow = geoenc.LocationQueue(size), deque(maxlen=size)
    number = 0
    for batch in batches:
        places = torch.tensor([(number + i, -i) for i in range(batch)], dtype=torch.float64)
        queue.push(places.reshape(-1, 2))
        slow.extend(map(tuple, places.reshape(-1, 2).tolist()))
        number += batch
        assert list(map(tuple, queue.locations().tolist())) == list(slow)


def test_queue_starts_empty_and_keeps_float64() -> None:
    queue = geoenc.LocationQueue(4)
    assert queue.locations().shape == (0, 2)
    place = torch.tensor([(0.1, 51.123456789)], dtype=torch.float64)
    queue.push(place)
    assert queue.locations().equal(place)
    place.zero_()
    assert queue.locations()[0, 0] == 0.1


def test_queue_holds_no_gradient_and_no_state() -> None:
    queue = geoenc.LocationQueue(4)
    queue.push(torch.zeros(2, 2, requires_grad=True))
    assert not queue.locations().requires_grad
    assert queue.state_dict() == {}


def test_queue_makes_more_columns() -> None:
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 4)).eval()
    queue = geoenc.LocationQueue(5)
    queue.push(torch.tensor([(0.0, 0.0), (90.0, 10.0)]))
    anchor = torch.randn(3, 4)
    location = encoder(torch.rand(3, 2))
    logits, target = geoenc.losses.in_batch(anchor, location, encoder(queue.locations()))
    assert logits.shape == (3, 5)
    assert target.tolist() == [0, 1, 2]


def test_queue_refuses() -> None:
    with pytest.raises(ValueError, match="size of at least 1, got 0"):
        geoenc.LocationQueue(0)
    for shape in ((3,), (2, 3), (1, 2, 2)):
        with pytest.raises(ValueError, match=r"lonlat of shape \(B, 2\), got") as caught:
            geoenc.LocationQueue(3).push(torch.zeros(shape))
        assert str(shape) in str(caught.value)
