"""Readers of the published files: every set, every plausible form, every mistake."""

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import geoenc.data
from geoenc.data import (
    READERS,
    DatasetNotFoundError,
    LocationDataset,
    Rows,
    load_birdsnap,
    load_classes,
    load_fmow,
    load_inat2018,
    load_subset,
    make_published,
)
from geoenc.data.metadata import read_categories, read_index
from geoenc.data.sources import PUBLISHED, folder_of

NAMES = sorted(READERS)


def made(name: str, root: Path, **changes: Any) -> Path:
    return make_published(name, root, generator=torch.Generator().manual_seed(0), **changes)


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def same(one: LocationDataset, other: LocationDataset) -> bool:
    return one.lonlat.nan_to_num(7).equal(other.lonlat.nan_to_num(7)) and torch.equal(
        one.target, other.target
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_split_of_every_set(name: str, tmp_path: Path) -> None:
    made(name, tmp_path, num_samples=120, num_classes=4, num_features=6)
    for split in PUBLISHED[name].splits:
        if split == "test" and name.startswith("inat"):
            continue
        data = READERS[name](tmp_path, split)
        assert len(data) == (120 if split == "train" else 60)
        assert isinstance(data.features, Rows)
        assert data.features.shape == (len(data), 6)
        assert isinstance(data.image_probs, Rows)
        assert data.image_probs.shape == (len(data), 4)
        torch.testing.assert_close(data.image_probs[:].sum(1), torch.ones(len(data)))
        hits = (data.image_probs[:].argmax(1) == data.target).float().mean()
        assert hits > 0.6  # rows of predictions belong to rows of labels
        missing = data.lonlat.isnan().any(1)
        assert 0 < missing.sum() < 0.1 * len(data)
        assert len(data.with_location()) == len(data) - missing.sum()
    assert load_classes(name, tmp_path) == tuple(f"class {number}" for number in range(4))
    with pytest.raises(ValueError, match=r"expected a split of .*, one of train, .*got 'dev'"):
        READERS[name](tmp_path, "dev")


@pytest.mark.parametrize("name", NAMES)
def test_features_are_informative_of_class_and_place(name: str, tmp_path: Path) -> None:
    made(name, tmp_path, num_samples=400, num_classes=3)
    data = READERS[name](tmp_path, "train").with_location()
    x = torch.nn.functional.pad(data.features[:].double(), (0, 1), value=1.0)
    for wanted in (torch.eye(3)[data.target].double(), geoenc.coordinates.to_xyz(data.lonlat)):
        fitted = x @ torch.linalg.lstsq(x, wanted).solution
        explained = 1 - (wanted - fitted).square().sum() / (wanted - wanted.mean(0)).square().sum()
        assert explained > 0.4


@pytest.mark.parametrize("name", NAMES)
def test_names_of_functions_and_options(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    assert reader is getattr(geoenc.data, f"load_{name}")
    assert reader.__name__ == f"load_{name}"
    folder = made(name, tmp_path)
    for root in (folder, tmp_path):
        assert folder_of(name, root) == folder
    assert reader(folder, features="", predictions="").features is None
    (tmp_path / "geo_prior_data").mkdir()
    (tmp_path / "geo_prior_data/data").mkdir()
    folder.rename(tmp_path / "geo_prior_data/data" / folder.name)
    assert len(reader(tmp_path)) == 200
    with pytest.raises(DatasetNotFoundError, match=r"see docs/how-to/get-the-datasets\.md"):
        reader(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected features of"):
        reader(tmp_path, features="pixels")


def test_birds_without_usable_image(tmp_path: Path) -> None:
    folder = made("birdsnap", tmp_path)
    before = load_birdsnap(tmp_path).features[:]
    path = folder / "features_inception/birdsnap_train_net_feats.npy"
    stored = np.load(path)
    np.save(path, np.insert(stored, 100, 99, axis=0))  # a row for the unusable entry too
    again = load_birdsnap(tmp_path)
    assert len(again) == 200
    assert again.features[:].equal(before)
    assert again.features[99:101].equal(torch.from_numpy(stored[99:101]))


def test_explicit_variants_and_missing_files(tmp_path: Path) -> None:
    folder = made("inat2018", tmp_path)
    (folder / "features_inception_pretrain").rename(folder / "features_inception_pretrain-vit")
    vit = load_inat2018(tmp_path, features="pretrain-vit")
    assert "pretrain-vit" in vit.features.name
    assert "features_inception/" in load_inat2018(tmp_path).features.name
    with pytest.raises(DatasetNotFoundError, match="expected features_inception_pretrain/inat2018"):
        load_inat2018(tmp_path, features="pretrain")
    assert "_hr" in load_inat2018(tmp_path, "val", predictions="high_res").image_probs.name
    few = load_inat2018(tmp_path, "val", fraction=0.05).image_probs
    assert "ratio0.050" in few.name
    assert load_inat2018(tmp_path, "val", fraction=0.3).image_probs is None  # never the full ones
    with pytest.raises(DatasetNotFoundError, match=r"ratio0\.300"):
        load_inat2018(tmp_path, "val", predictions="fewshot", fraction=0.3)
    (folder / "val2018_locations.json").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"expected val2018_locations\.json in"):
        load_inat2018(tmp_path, "val")


def test_private_labels(tmp_path: Path) -> None:
    folder = made("inat2018", tmp_path)
    edited(folder / "val2018.json", lambda found: {"images": found["images"]})
    data = load_inat2018(tmp_path, "val")
    assert data.target.tolist() == [-1] * 100


PLACES: dict[str, Callable[[list[dict[str, Any]], list[int]], Any]] = {
    "shuffled objects": lambda entries, ids: entries[::-1],
    "long names": lambda entries, ids: [
        {"id": one["id"], "longitude": one["lon"], "latitude": one["lat"]} for one in entries
    ],
    "NaN": lambda entries, ids: [
        {**one, "lon": float("nan") if one["lon"] is None else one["lon"]} for one in entries
    ],
    "text": lambda entries, ids: [
        {**one, "lon": str(one["lon"] or ""), "lat": str(one["lat"] or "")} for one in entries
    ],
    "objects by id": lambda entries, ids: {str(one["id"]): one for one in entries},
    "pairs by id": lambda entries, ids: {
        str(one["id"]): None if one["lon"] is None else [one["lon"], one["lat"]] for one in entries
    },
    "pairs in order": lambda entries, ids: [
        [one["lon"], one["lat"]] for one in sorted(entries, key=lambda one: ids.index(one["id"]))
    ],
    "latitude first": lambda entries, ids: {
        str(one["id"]): None if one["lon"] is None else [one["lat"], one["lon"]] for one in entries
    },
    "without the missing": lambda entries, ids: [one for one in entries if one["lon"] is not None],
}


@pytest.mark.parametrize("form", PLACES)
@pytest.mark.parametrize("name", ["inat2018", "fmow"])
def test_forms_of_places(
    name: str, form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made(name, tmp_path)
    source = PUBLISHED[name]
    before = READERS[name](tmp_path)
    described = json.loads((folder / source.labels[0].format(split="train")).read_text())
    ids = [image["id"] for image in described["images"]]
    path = folder / source.places[0].format(split="train")
    edited(path, lambda entries: PLACES[form](entries, ids))
    with caplog.at_level(logging.INFO, "geoenc.data"):
        assert same(READERS[name](tmp_path), before)
    said = caplog.text
    assert f"places as {'object by' if 'by id' in form or 'first' in form else 'list'}" in said
    assert ("latitude, longitude" in said) == (form == "latitude first")
    assert ("not mentioned" in said) == (form == "without the missing")
    assert ("of pairs" in said) == ("pairs" in form or "first" in form)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: [*found[:5], [1, 2]], "expected objects with an id, or one entry for each"),
        (lambda found: 3, "expected a list of places"),
        (lambda found: [{**one, "lon": "east"} for one in found], "a number or null, got 'east'"),
        (lambda found: {str(one["id"]): 4 for one in found}, "expected an object with lon and lat"),
        (lambda found: [{**one, "lat": 122.0} for one in found], "latitude 122 is outside"),
    ],
)
def test_places_that_make_no_sense(change: Any, words: str, tmp_path: Path) -> None:
    folder = made("fmow", tmp_path)
    edited(folder / "train_location.json", change)
    with pytest.raises(ValueError, match=words):
        load_fmow(tmp_path)


CATEGORIES: dict[str, Callable[[dict[str, int]], Any]] = {
    "names to ids": lambda found: found,
    "ids to names": lambda found: {str(number): name for name, number in found.items()},
    "objects": lambda found: [{"id": number, "name": name} for name, number in found.items()],
    "within COCO": lambda found: {"categories": CATEGORIES["objects"](found)},
    "names": list,
}


@pytest.mark.parametrize("form", CATEGORIES)
def test_forms_of_categories(form: str, tmp_path: Path) -> None:
    folder = made("fmow", tmp_path)
    before = load_fmow(tmp_path)
    edited(folder / "category.json", CATEGORIES[form])
    assert load_classes("fmow", tmp_path) == tuple(f"class {number}" for number in range(5))
    assert same(load_fmow(tmp_path), before)


def test_class_ids_with_gaps_are_numbered_in_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made("fmow", tmp_path)
    before = load_fmow(tmp_path)

    def moved(found: Any) -> Any:
        for one in found["annotations"]:
            one["category_id"] = 10 * one["category_id"] + 1
        return found

    edited(folder / "train.json", moved)
    with pytest.raises(ValueError, match=r"train\.json: expected category_id of one of 5"):
        load_fmow(tmp_path)
    edited(folder / "category.json", lambda found: {k: 10 * v + 1 for k, v in found.items()})
    with caplog.at_level(logging.INFO, "geoenc.data"):
        assert same(load_fmow(tmp_path), before)
    assert "class ids run from 1 to 41 with 5 in use" in caplog.text
    (tmp_path / "odd.json").write_text('{"a": 0.5}')
    with pytest.raises(ValueError, match="expected classes as a list"):
        read_categories(tmp_path / "odd.json")


@pytest.mark.parametrize("form", ["probabilities", "logits", "log-probabilities", "scores"])
@pytest.mark.parametrize("kind", ["npy", "npz", "sparse"])
def test_forms_of_predictions(
    form: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made("fmow", tmp_path)
    path = folder / "feature_moco/fmow_val_preds.npy"
    probs = np.load(path)
    stored = {
        "probabilities": probs,
        "logits": np.log(probs) + 3,
        "log-probabilities": np.log(probs),
        "scores": 100 * probs,
    }[form]
    if kind == "npy":
        np.save(path, stored)
    else:
        path.unlink()
        if kind == "sparse":
            name = "fmow_val_preds_sparse.npz"
            scipy.sparse.save_npz(path.with_name(name), scipy.sparse.csr_array(stored))
        else:
            np.savez(path.with_suffix(".npz"), stored)
    with caplog.at_level(logging.INFO, "geoenc.data"):
        data = load_fmow(tmp_path, "val")
    assert f"class predictions are {form}" in caplog.text
    np.testing.assert_allclose(data.image_probs[:].numpy(), probs, atol=1e-6)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = made("fmow", tmp_path)
    path = folder / "feature_moco/fmow_val_preds.npy"
    np.save(path, np.load(path)[:, :3])
    with pytest.raises(ValueError, match="expected a column for each class, 4 among them, got 3"):
        load_fmow(tmp_path, "val")
    features = folder / "features_inception_pretrain/fmow_train_pretrain_net_feats.npy"
    np.save(features, np.load(features)[:150])
    with pytest.raises(ValueError, match=r"feats\.npy: expected 200 rows, one .* got 150; take"):
        load_fmow(tmp_path)
    (folder / "train.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"train\.json: expected JSON in 12 bytes.*get it again"):
        load_fmow(tmp_path)


def test_nan_in_features_names_file_and_row(tmp_path: Path) -> None:
    folder = made("inat2018", tmp_path)
    path = folder / "features_inception_pretrain/inat2018_train_pretrain_net_feats.npy"
    values = np.load(path)
    values[123, 4] = np.nan
    np.save(path, values)
    data = load_inat2018(tmp_path)
    assert data[:100].features.isfinite().all()
    with pytest.raises(ValueError, match=rf"{path.name}: expected finite .* in row 123"):
        data[torch.tensor([5, 123])]


@pytest.mark.parametrize("name", ["inat2017", "inat2018", "fmow"])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2])
def test_published_subsets_are_stratified_rows_of_the_training_split(
    name: str, fraction: float, tmp_path: Path
) -> None:
    folder = made(name, tmp_path, num_samples=900)
    rows = load_subset(name, tmp_path, fraction)
    data = READERS[name](tmp_path)
    assert (rows.diff() > 0).all()
    assert not data.lonlat[rows].isnan().any()  # the numbers count only images with a place
    path = folder / PUBLISHED[name].subset[0].format(fraction=fraction)
    assert path.read_bytes()[:6] != b"\x93NUMPY"  # pickled, as published
    stored = read_index(path)
    assert len(stored) == len(rows)
    assert (stored <= rows.numpy()).all()
    assert (stored != rows.numpy()).any()
    for write in (
        lambda: np.save(path, stored),
        lambda: path.write_bytes(pickle.dumps(stored[::-1].copy(), protocol=5)),
    ):
        write()
        assert load_subset(name, tmp_path, fraction).equal(rows)


def test_subset_that_counts_all_images_is_recognised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made("inat2018", tmp_path, num_samples=900)
    data = load_inat2018(tmp_path)
    index = geoenc.data.few_shot(data.target, 0.2)
    np.save(folder / "sample_idx/train_sample_ratio0.200.npy", index.numpy())
    with caplog.at_level(logging.INFO, "geoenc.data"):
        assert load_subset("inat2018", tmp_path, 0.2).equal(index)
    assert "numbers of all images" in caplog.text
    path = folder / "sample_idx/train_sample_ratio0.200.npy"
    path.with_suffix(".json").write_text(json.dumps(np.load(path).tolist()))
    path.unlink()
    assert load_subset("inat2018", tmp_path, 0.2).equal(index)


def test_subsets_that_are_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made("inat2018", tmp_path)
    path = folder / "sample_idx/train_sample_ratio0.100.npy"
    np.save(path, np.arange(20))
    load_subset("inat2018", tmp_path, 0.1)
    assert "classes have another share than 0.1" in caplog.text
    for wrong, words in (
        (np.array([3, 200]), "expected row numbers below 200, got 3 to 200"),
        (np.empty(0, np.int64), "got nothing"),
        (np.array([0.5]), "expected a list of row numbers, got float64"),
    ):
        np.save(path, wrong)
        with pytest.raises(ValueError, match=words):
            load_subset("inat2018", tmp_path, 0.1)
    with pytest.raises(DatasetNotFoundError, match=r"ratio0\.500\.npy in .*geoenc.data.few_shot"):
        load_subset("inat2018", tmp_path, 0.5)
    made("yfcc", tmp_path)
    with pytest.raises(DatasetNotFoundError, match="expected published subsets"):
        load_subset("yfcc", tmp_path, 0.1)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_pickles_that_run_something_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "index.npy"
    for evil in (_Evil(), [_Evil()], np.array([_Evil()], dtype=object)):
        path.write_bytes(pickle.dumps(evil))
        with pytest.raises(
            ValueError, match=r"a pickle that calls builtins\.print|list of row num"
        ):
            read_index(path)
    assert "executed" not in capsys.readouterr().out
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="expected a list of row numbers"):
        read_index(path)
    (tmp_path / "index.json").write_text("[3, 1]")
    assert read_index(tmp_path / "index.json").tolist() == [3, 1]


def test_tables_and_birds_that_are_wrong(tmp_path: Path) -> None:
    folder = made("yfcc", tmp_path)
    path = folder / "train_test_split.csv"
    path.write_text(path.read_text().replace(",val\n", ",dev\n"))
    with pytest.raises(DatasetNotFoundError, match="expected rows with split 'val', got none"):
        READERS["yfcc"](tmp_path, "val")
    path.write_text(path.read_text().replace("lon,lat", "x,y"))
    with pytest.raises(ValueError, match="expected columns split, lon, lat and class"):
        READERS["yfcc"](tmp_path)
    folder = made("nabirds", tmp_path)
    path = folder / "nabirds_with_loc_2019.json"
    edited(path, lambda found: {**found, "train": [{"class_id": 1, "orig_meta": {}}]})
    with pytest.raises(ValueError, match=r"expected 'ebird_meta' .*metadata= one of \['orig_meta"):
        READERS["nabirds"](tmp_path)
    edited(path, lambda found: {"classes": found["classes"]})
    with pytest.raises(DatasetNotFoundError, match="expected a list 'train', got classes"):
        READERS["nabirds"](tmp_path)
