"""Invented data: repeatable, clustered, and never written over something else."""

from pathlib import Path
from typing import Any

import pytest
import torch

from geoenc.coordinates import to_xyz
from geoenc.data import READERS, load_inat2018, make_published, make_synthetic


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_columns_and_classes() -> None:
    data = make_synthetic(50, 20, 3, missing=0.5, generator=seeded())
    assert (len(data), data.features.shape, data.image_probs.shape) == (50, (50, 3), (50, 20))
    assert (data.target.bincount(minlength=20) > 0).all()
    torch.testing.assert_close(data.image_probs.sum(1), torch.ones(50))
    assert 0 < data.lonlat.isnan().any(1).sum() < 50
    assert ((data.time >= 0) & (data.time < 1)).all()


def test_same_seed_same_data_and_no_global_state() -> None:
    state = torch.get_rng_state()
    one, other, different = (make_synthetic(generator=seeded(seed)) for seed in (3, 3, 4))
    for name in ("lonlat", "target", "features", "image_probs", "time"):
        assert getattr(one, name).equal(getattr(other, name))
        assert not getattr(one, name).equal(getattr(different, name))
    assert torch.get_rng_state().equal(state)


def test_places_cluster_around_two_centres_of_their_class() -> None:
    data = make_synthetic(600, 3, generator=seeded())
    xyz = to_xyz(data.lonlat)
    near = torch.cdist(xyz, xyz).fill_diagonal_(9).argmin(1)
    assert (data.target[near] == data.target).float().mean() > 0.75
    spread = torch.stack([xyz[data.target == one].std(0).norm() for one in range(3)])
    assert (spread > 0.3).all()  # two centres, not one


def test_noise_makes_the_class_uncertain() -> None:
    sure, unsure = (make_synthetic(noise=noise, generator=seeded()) for noise in (0.0, 3.0))
    assert (sure.image_probs.argmax(1) == sure.target).all()
    assert (unsure.image_probs.argmax(1) == unsure.target).float().mean() < 0.7


@pytest.mark.parametrize("sizes", [(3, 4, 16), (3, 0, 16), (3, 2, 0)])
def test_refuses_sizes(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least one sample for each"):
        make_synthetic(*sizes)


def content(folder: Path) -> dict[str, Any]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", sorted(READERS))
def test_files_are_repeatable(name: str, tmp_path: Path) -> None:
    one, other, different = (
        make_published(name, tmp_path / place, num_samples=60, generator=seeded(seed))
        for place, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert content(one).keys() == content(other).keys() == content(different).keys()
    for file, values in content(one).items():
        if not file.endswith(".npz"):  # a zip archive holds the time
            assert values == content(other)[file], file
    data = [READERS[name](folder, "train") for folder in (one, other, different)]
    assert data[0].image_probs[:].equal(data[1].image_probs[:])
    assert not data[0].features[:].equal(data[2].features[:])


def test_files_that_are_there_are_never_overwritten(tmp_path: Path) -> None:
    folder = make_published("inat2018", tmp_path, generator=seeded())
    before = content(folder)
    with pytest.raises(ValueError, match=r"got '.*train2018\.json'; choose another folder"):
        make_published("inat2018", tmp_path)
    assert content(folder) == before
    assert len(load_inat2018(make_published("inat2018", tmp_path / "other"))) == 200
    with pytest.raises(ValueError, match=r"expected one of inat2017, .*got 'inat'"):
        make_published("inat", tmp_path)
