"""What is there, what is missing, what looks wrong: each mistake is put into sound files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from geoenc import cli
from geoenc.data import READERS, check, make_published

FEATURES = "features_inception_pretrain/fmow_train_pretrain_net_feats.npy"
PROBS = "feature_moco/fmow_val_preds.npy"


def made(name: str, root: Path, **changes: Any) -> Path:
    return make_published(name, root, generator=torch.Generator().manual_seed(0), **changes)


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def resaved(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)))


@pytest.mark.parametrize("name", sorted(READERS))
def test_sound_files_of_every_set(name: str, tmp_path: Path) -> None:
    folder = made(name, tmp_path)
    report = check(tmp_path)
    assert report.ok, str(report)
    assert list(report.files) == [name]
    seen = {one.path for one in report.files[name] if one.present}
    assert seen == {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert not [one for one in report.files[name] if not one.present]
    text = str(report)
    for words in ("5 classes (published", "top-1 accuracy", "images have a place", "probabilities"):
        assert words in text
    assert text.endswith("nothing looks wrong")


def all_nan(values: np.ndarray) -> np.ndarray:
    values[[7, 90]] = np.nan
    return values


def zeros(values: np.ndarray) -> np.ndarray:
    values[150:] = 0
    return values


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


WRONG: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "cut features": (FEATURES, cut, "damaged or cut short"),
    "NaN": (
        FEATURES,
        lambda p: resaved(p, all_nan),
        "NaN or infinity in 2 rows, .* row 7",
    ),
    "zeros": (FEATURES, lambda p: resaved(p, zeros), "nothing but zeros in 50 rows, .* row 150"),
    "rows": (FEATURES, lambda p: resaved(p, lambda v: v[:-1]), "expected 200 rows.*got 199"),
    "filtered": (
        FEATURES,
        lambda p: resaved(p, lambda v: v[:191]),
        "got 191, which is how many have a place and a user",
    ),
    "columns": (
        "features_inception_pretrain/fmow_val_pretrain_net_feats.npy",
        lambda p: resaved(p, lambda v: v[:, :-1]),
        "expected 16 columns, as other splits have",
    ),
    "text": (
        FEATURES,
        lambda p: np.save(p, np.array([["a"]])),
        "expected a matrix of real numbers",
    ),
    "classes": (
        PROBS,
        lambda p: resaved(p, lambda v: v[:, :4]),
        "expected 5 columns, one per class",
    ),
    "order": (
        PROBS,
        lambda p: resaved(p, lambda v: np.roll(v, 1, axis=1)),
        "top-1 accuracy is at chance",
    ),
    "NaN probabilities": (PROBS, lambda p: resaved(p, all_nan), "finite numbers, got NaN"),
    "cut labels": ("val.json", cut, "expected JSON"),
    "cut places": ("val_location.json", cut, "expected JSON"),
    "cut categories": ("category.json", cut, "expected JSON"),
    "unknown class": (
        "category.json",
        lambda p: edited(p, lambda found: {k: v for k, v in found.items() if v < 4}),
        "",
    ),
    "swapped": (
        "train_location.json",
        lambda p: edited(p, lambda f: [{**one, "lon": one["lat"], "lat": one["lon"]} for one in f]),
        "latitudes exceed 90 degrees: longitude and latitude are swapped",
    ),
    "metres": (
        "train_location.json",
        lambda p: edited(p, lambda f: [{**one, "lon": 4e5, "lat": 2e6} for one in f]),
        "200 latitudes exceed 90 degrees: these are not degrees",
    ),
    "null island": (
        "train_location.json",
        lambda p: edited(p, lambda f: [{**one, "lon": 0, "lat": 0} for one in f]),
        "200 places are exactly",
    ),
    "no places": (
        "train_location.json",
        lambda p: edited(p, lambda f: [{**one, "lon": None} for one in f]),
        "no image has a place",
    ),
    "infinite": (
        "train_location.json",
        lambda p: edited(p, lambda f: [{**f[0], "lon": float("inf"), "lat": 1.0}, *f[1:]]),
        "infinite coordinates in 1 rows",
    ),
    "no labels": (
        "val.json",
        lambda p: edited(p, lambda f: {"images": f["images"]}),
        "val: no image has a label",
    ),
    "subset out of range": (
        "sample_idx/train_sample_ratio0.050.npy",
        lambda p: np.save(p, np.array([5000])),
        "expected row numbers below 200",
    ),
    "subset of another share": (
        "sample_idx/train_sample_ratio0.050.npy",
        lambda p: np.save(p, np.arange(100)),
        r"expected 5% of the images, got 52\.36%",
    ),
    "subset twice": (
        "sample_idx/train_sample_ratio0.050.npy",
        lambda p: np.save(p, np.array([3, 3, 4, 5, 6, 7, 8, 9, 10, 11])),
        "1 images are named twice",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_each_mistake_is_found_in_its_file(mistake: str, tmp_path: Path) -> None:
    name, spoil, words = WRONG[mistake]
    folder = made("fmow", tmp_path)
    spoil(folder / name)
    report = check(tmp_path)
    assert not report.ok
    wrong = {one.path: " ".join(one.problems) for one in report.files["fmow"] if one.problems}
    blamed = "train.json" if mistake == "unknown class" else name
    assert blamed in wrong
    words = words or "expected category_id of one of 4 categories, got 4"
    assert re.search(words, wrong[blamed]), wrong
    if mistake not in ("unknown class", "cut categories"):
        assert list(wrong) == [name]


def test_forms_are_said_and_no_problem(tmp_path: Path) -> None:
    folder = made("fmow", tmp_path)
    resaved(folder / PROBS, np.log)
    assert "logarithms of probabilities" in str(check(folder))
    resaved(folder / PROBS, lambda values: values + 1)
    assert "logits; the readers take their softmax" in str(check(folder))
    resaved(folder / PROBS, lambda values: np.exp(values) * 7)
    report = check(folder)
    assert "not normalised; the readers divide each row by its sum" in str(report)
    assert report.ok


def test_missing_files_say_what_they_are_for(tmp_path: Path) -> None:
    folder = made("fmow", tmp_path)
    (folder / FEATURES).unlink()
    report = check(tmp_path)
    assert report.ok  # location-only work needs no features
    assert f"missing {FEATURES}  —  features 'pretrain' of train, for pre-training (opt" in str(
        report
    )
    (folder / "val_location.json").unlink()
    report = check(tmp_path)
    assert not report.ok
    assert "1 needed files are missing" in str(report)
    assert "missing val_location.json  —  places of val\n" in str(report)


def test_real_places_of_two_continents_show_an_exchange(shared: Path, tmp_path: Path) -> None:
    file = shared / "data" / "inat2018_val.parquet"
    if not file.is_file():
        pytest.skip(f"places of iNat2018 expected in {file}, got no such file")
    frame = pandas.read_parquet(file, columns=["lon", "lat"]).dropna()
    frame = frame[(frame.lon > -20) & (frame.lon < 60)][:500]
    for swap in (False, True):
        folder = made("yfcc", tmp_path / str(swap), num_samples=len(frame))
        table = pandas.read_csv(folder / "train_test_split.csv")
        names = ["lat", "lon"] if swap else ["lon", "lat"]
        table.loc[: len(frame) - 1, names] = frame[["lon", "lat"]].to_numpy()
        table.to_csv(folder / "train_test_split.csv", index=False)
        report = check(folder)
        assert report.ok != swap
        assert ("they may be swapped" in str(report)) == swap


def test_nothing_there(tmp_path: Path) -> None:
    report = check(tmp_path)
    assert not report.ok
    assert "no published data set in" in str(report)
    with pytest.raises(NotADirectoryError, match="expected a folder of published files"):
        check(tmp_path / "none")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "generate", "inat2018", str(tmp_path), "--samples", "60"]) == 0
    assert "inat_2018" in capsys.readouterr().out
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert "nothing looks wrong" in capsys.readouterr().out
    cut(tmp_path / "inat_2018/features_inception/inat2018_val_preds_sparse.npz")
    assert cli.main(["data", "check", str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    wrong = [one for one in report["datasets"][0]["files"] if one["status"] == "wrong"]
    assert [one["path"] for one in wrong] == ["features_inception/inat2018_val_preds_sparse.npz"]
    assert cli.main(["data", "generate", "inat2018", str(tmp_path)]) == 1
    assert cli.main(["data", "check", str(tmp_path / "none")]) == 1
    assert "expected a folder" in capsys.readouterr().err
