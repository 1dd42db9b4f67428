"""LocationDataset: aligned columns, rows by index, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader

from geoenc.data import LocationBatch, LocationDataset

LONLAT = [(0.0, 51.5), (2.35, 48.86), (float("nan"), 3.0), (139.69, 35.68)]


def dataset(**changes: Any) -> LocationDataset:
    columns: dict[str, Any] = {
        "lonlat": LONLAT,
        "target": torch.tensor([1, 0, 2, -1]),
        "features": torch.arange(12.0).view(4, 3),
        "image_probs": torch.full((4, 3), 1 / 3),
        "time": torch.tensor([0.0, 0.25, 0.5, 0.75]),
    }
    return LocationDataset(**{**columns, **changes})


def test_places_pass_the_gate_and_stay_float64() -> None:
    data = LocationDataset(np.array([[360.5, 10.1]], dtype=np.float32))
    assert data.lonlat.dtype == torch.float64
    assert data.lonlat[0, 0].item() == pytest.approx(0.5)
    frame = pd.DataFrame({"lat": [10.0], "lon": [20.0]})
    assert LocationDataset(frame).lonlat.tolist() == [[20.0, 10.0]]
    with pytest.raises(ValueError, match="latitude 122 is outside"):
        LocationDataset([(37.0, 122.0)])


def test_rows_by_number_slice_tensor_list_and_mask() -> None:
    data = dataset()
    one = data[1]
    assert isinstance(one, LocationBatch)
    assert one.lonlat.tolist() == [2.35, 48.86]
    assert one.target is not None
    assert one.target.item() == 0
    for index in (
        slice(1, 3),
        torch.tensor([1, 2]),
        [1, 2],
        torch.tensor([False, True, True, False]),
    ):
        batch = data[index]
        assert batch.features is not None
        assert batch.features.tolist() == [[3, 4, 5], [6, 7, 8]]
        assert batch.time is not None
        assert batch.time.tolist() == [0.25, 0.5]
    assert data[-1].lonlat.tolist() == [139.69, 35.68]
    with pytest.raises(IndexError):
        data[4]


def test_what_is_lacking_is_none() -> None:
    batch = LocationDataset(LONLAT)[torch.tensor([0, 1])]
    assert batch[1:] == (None, None, None, None)
    assert batch.to("cpu").target is None


def test_batch_moves_as_a_whole() -> None:
    batch = dataset()[0:2].to("meta")
    assert {value.device.type for value in batch if value is not None} == {"meta"}


def test_loader_fetches_whole_batches() -> None:
    data = dataset()
    sampler = BatchSampler(range(len(data)), batch_size=3, drop_last=False)
    batches = list(DataLoader(data, sampler=sampler, batch_size=None))
    assert [len(batch.lonlat) for batch in batches] == [3, 1]
    assert torch.cat([batch.features for batch in batches]).equal(data.features)


def test_length_and_printing() -> None:
    data = dataset(image_probs=None)
    assert len(data) == 4
    assert repr(data) == "LocationDataset(lonlat[4, 2], target[4], features[4, 3], time[4])"


def test_subset_and_with_location() -> None:
    data = dataset()
    for index in (torch.tensor([3, 0]), [3, 0], np.array([3, 0])):
        part = data.subset(index)
        assert part.target is not None
        assert part.target.tolist() == [-1, 1]
    known = data.with_location()
    assert len(known) == 3
    assert known.features is not None
    assert known.features[:, 0].tolist() == [0, 3, 9]
    part = data.subset(torch.tensor([0]))
    part.features.zero_()
    assert data.features is not None
    assert data.features[0].tolist() == [0, 1, 2]


def test_replace() -> None:
    data = dataset()
    other = data.replace(image_probs=torch.eye(4), time=None)
    assert other.image_probs is not None
    assert other.image_probs.shape == (4, 4)
    assert other.time is None
    assert other.lonlat.nan_to_num().equal(data.lonlat.nan_to_num())
    assert data.time is not None
    with pytest.raises(TypeError):
        data.replace(pictures=None)


def test_half_a_missing_place_is_missing() -> None:
    assert dataset().lonlat[2].isnan().all()


def test_targets_become_int64() -> None:
    for kind in (torch.int32, torch.uint8, np.int16):
        target = np.zeros(4, kind) if kind is np.int16 else torch.zeros(4, dtype=kind)
        assert dataset(target=target).target.dtype == torch.int64


def test_memory_mapped_features(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    features = np.load(tmp_path / "features.npy", mmap_mode="r+")
    data = dataset(features=features)
    assert data.features is not None
    assert data.features.data_ptr() == features.__array_interface__["data"][0]  # no copy
    assert data[torch.tensor([2])].features.tolist() == [[6, 7, 8]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"lonlat": torch.empty(0, 2)}, ["(N, 2) with at least one row", "got (0, 2)"]),
        ({"lonlat": (1.0, 2.0)}, ["(N, 2)", "got (2,)"]),
        ({"lonlat": torch.zeros(2, 2, 2)}, ["(N, 2)", "got (2, 2, 2)"]),
        ({"target": torch.zeros(3, dtype=torch.long)}, ["target", "4 rows", "got shape (3,)"]),
        ({"target": torch.zeros(4, 1).long()}, ["target with 1 dimension and", "(4, 1)"]),
        ({"target": torch.zeros(4)}, ["integer target", "torch.float32"]),
        ({"features": torch.zeros(4)}, ["features with 2 dimensions", "got shape (4,)"]),
        ({"features": torch.zeros(5, 3)}, ["features", "4 rows", "got shape (5, 3)"]),
        ({"image_probs": torch.zeros(4)}, ["image_probs with 2 dimensions"]),
        ({"time": torch.zeros(4, 1)}, ["time with 1 dimension and 4 rows"]),
        ({"features": torch.full((4, 3), torch.nan)}, ["features without NaN", "leave those"]),
        ({"image_probs": torch.full((4, 3), torch.nan)}, ["image_probs without NaN"]),
        ({"time": torch.tensor([0, 0, torch.nan, 0])}, ["time without NaN"]),
    ],
)
def test_refuses(columns: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        dataset(**columns)
    for word in words:
        assert word in str(caught.value)


def test_infinite_and_half_precision_features_are_not_mistaken_for_nan() -> None:
    assert dataset(features=torch.full((4, 3), 6e4, dtype=torch.float16)).features is not None
