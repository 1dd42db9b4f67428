"""Predictions sample by sample: what is kept, what follows from it, and the way through a file."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geoenc import _files
from geoenc.metrics import (
    class_accuracy,
    macro_accuracy,
    reciprocal_rank,
    target_rank,
    top_k_accuracy,
)
from geoenc.predictions import Gathered, Predictions
from geoenc.priors import GeoPrior
from geoenc.sampling import uniform

CLASSES = 6


def made(num: int = 30, **others: object) -> tuple[Predictions, Tensor, Tensor, Tensor, Tensor]:
    lonlat, target = uniform(num), torch.randint(CLASSES - 1, (num,))
    lonlat[2] = torch.nan
    image = torch.randn(num, CLASSES).softmax(-1)
    image[3, :4] = 0.0  # as in sparse files: many zeros
    place = torch.rand(num, CLASSES)
    place[2] = torch.nan
    scores = GeoPrior(0.7)(image, place)
    predictions = Predictions.of(
        scores,
        target,
        lonlat=lonlat,
        image_probs=image,
        location_probs=place,
        **{"top_k": 4, **others},
    )
    return predictions, scores, target, image, place


def test_what_is_kept() -> None:
    predictions, scores, target, image, place = made()
    rows = torch.arange(30)
    assert predictions.sample.equal(rows)
    assert predictions.rank.equal(target_rank(scores, target))
    assert predictions.image_prob.equal(image[rows, target].double())
    assert predictions.place_prob[3:].equal(place[rows, target].double()[3:])
    assert predictions.place_prob[2].isnan()
    total = scores.exp().sum(1)
    assert torch.allclose(predictions.product_prob, scores.exp()[rows, target] / total)
    for row in range(30):
        order = sorted(range(CLASSES), key=lambda k: (-scores[row, k].item(), k))[:4]
        assert predictions.classes[row].tolist() == order
        assert predictions.scores[row].tolist() == [scores[row, k].item() for k in order]
    assert predictions.lonlat[2].isnan().all()


def test_without_factors_and_with_few_classes() -> None:
    scores = torch.randn(5, 3)
    predictions = Predictions.of(scores, torch.tensor([0, 1, 2, 0, 1]), sample=list("abcde"))
    assert predictions.classes.shape == (5, 3)
    assert predictions.sample == ("a", "b", "c", "d", "e")
    assert predictions.image_prob.isnan().all()
    assert predictions.lonlat.isnan().all()
    assert len(predictions) == 5


def test_equal_scores_are_kept_in_the_order_of_classes() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    predictions = Predictions.of(scores, torch.tensor([4, 0]), top_k=4)
    assert predictions.classes.tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]
    assert predictions.rank.tolist() == [5, 5]  # and count against the right class


def test_rows_of_nan_are_wrong_and_name_no_class() -> None:
    scores, target = torch.randn(10, CLASSES), torch.randint(CLASSES, (10,))
    scores[4, 1] = torch.nan
    predictions = Predictions.of(scores, target, top_k=2)
    assert predictions.classes[4].tolist() == [-1, -1]
    assert predictions.scores[4].isnan().all()
    assert predictions.rank[4] == CLASSES
    assert not predictions.hits(CLASSES)[4]
    for k in (1, 3, CLASSES):
        assert predictions.hits(k).double().mean() == top_k_accuracy(scores, target, k)


def test_metrics_are_those_of_the_scores() -> None:
    predictions, scores, target, *_ = made(200)
    got = predictions.metrics(top_k=(1, 3, 5, 10))
    assert list(got) == ["top1", "top3", "top5", "top10", "mrr", "macro_top1"]
    for k in (1, 3, 5, 10):
        assert got[f"top{k}"] == pytest.approx(top_k_accuracy(scores, target, k).item())
    assert got["mrr"] == pytest.approx(reciprocal_rank(scores, target).mean().item())
    assert got["macro_top1"] == pytest.approx(macro_accuracy(scores, target).item())
    assert torch.allclose(
        predictions.class_accuracy(2), class_accuracy(scores, target, 2), equal_nan=True
    )
    assert predictions.class_accuracy()[CLASSES - 1].isnan()  # never seen


@pytest.mark.parametrize("names", ["numbers", "strings"])
def test_a_file_holds_everything(tmp_path: Path, names: str) -> None:
    sample = None if names == "numbers" else [f"train/{i}.jpg" for i in range(30)]
    predictions, *_ = made(sample=sample)
    predictions.save(tmp_path / "sub" / "test.parquet")
    again = Predictions.load(tmp_path / "sub" / "test.parquet")
    assert again.num_classes == CLASSES
    for name, column in vars(predictions).items():
        other = getattr(again, name)
        if isinstance(column, Tensor):
            assert other.dtype == column.dtype
            assert torch.equal(other.nan_to_num(nan=9.0), column.nan_to_num(nan=9.0))
        else:
            assert other == column
    assert again.metrics() == predictions.metrics()


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    predictions, *_ = made()
    predictions.save(tmp_path / "test.parquet")
    frame = pytest.importorskip("pandas").read_parquet(tmp_path / "test.parquet")
    assert list(frame.columns) == [
        *("sample", "lon", "lat", "target", "rank"),
        *("image_prob", "place_prob", "product_prob", "classes", "scores"),
    ]
    hit = frame.apply(lambda row: row["target"] in row["classes"][:1], axis=1)
    assert hit.mean() == pytest.approx(predictions.metrics()["top1"])


def test_chunks_make_the_whole(tmp_path: Path) -> None:
    whole, scores, target, image, place = made()
    parts = [
        Predictions.of(
            scores[rows],
            target[rows],
            sample=rows,
            lonlat=whole.lonlat[rows],
            image_probs=image[rows],
            location_probs=place[rows],
            top_k=4,
        )
        for rows in torch.arange(30).split(7)
    ]
    joined = Predictions.cat(parts)
    joined.save(tmp_path / "joined.parquet")
    whole.save(tmp_path / "whole.parquet")
    one, other = ((tmp_path / f"{name}.parquet").read_bytes() for name in ("joined", "whole"))
    assert one == other
    strings = [Predictions.of(scores[:2], target[:2], sample=names) for names in ("ab", "cd")]
    assert Predictions.cat(strings).sample == ("a", "b", "c", "d")


def test_samples_are_gathered_up_to_the_number_that_was_told() -> None:
    predictions, scores, target, *_ = made()
    gathered = Gathered(len(predictions) + 1)
    gathered.add(predictions)
    with pytest.raises(ValueError, match=f"got {len(predictions)}"):
        gathered.whole()
    two = Predictions.of(scores[:2], target[:2], sample=torch.tensor([98, 99]), top_k=4)
    with pytest.raises(ValueError, match="samples in all"):
        gathered.add(two)
    gathered.add(Predictions.of(scores[:1], target[:1], sample=torch.tensor([99]), top_k=4))
    assert gathered.whole().sample[-1] == 99


def test_no_samples_are_a_part_too(tmp_path: Path) -> None:
    """A chunk may hold no sample with a place."""
    predictions, scores, target, *_ = made()
    none = Predictions.of(scores[:0], target[:0], top_k=4)
    assert Predictions.cat([none, predictions]).metrics() == predictions.metrics()
    none.save(tmp_path / "none.parquet")
    assert Predictions.load(tmp_path / "none.parquet").classes.shape == (0, 4)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    predictions, *_ = made()
    path = tmp_path / "test.parquet"
    predictions.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full; nothing was changed"):
        made()[0].save(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["test.parquet"]


def test_refuses(tmp_path: Path) -> None:
    scores, target = torch.randn(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="top_k of at least 1, got 0"):
        Predictions.of(scores, target, top_k=0)
    with pytest.raises(ValueError, match=r"classes from 0 to 3.*got -1 to 2; leave out"):
        Predictions.of(scores, torch.tensor([0, -1, 2]))
    with pytest.raises(ValueError, match="k of at least 1, got 0"):
        Predictions.of(scores, target).hits(0)
    with pytest.raises(ValueError, match="got 2 names for 3 samples"):
        Predictions.of(scores, target, sample=["a", "b", "a"])
    with pytest.raises(ValueError, match="columns of one length"):
        Predictions.of(scores, target, lonlat=torch.zeros(2, 2))
    other = Predictions.of(torch.randn(3, 5), target, sample=["a", "b", "c"])
    with pytest.raises(ValueError, match="expected 4 classes, as before, got 5"):
        Predictions.cat([Predictions.of(scores, target, sample=["d", "e", "f"]), other])
    with pytest.raises(ValueError, match="at least one part, got 0"):
        Predictions.cat([])
    with pytest.raises(FileNotFoundError):
        Predictions.load(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(ValueError, match=r"predictions that geoenc saved .*text.parquet"):
        Predictions.load(tmp_path / "text.parquet")
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1]}).to_parquet(tmp_path / "frame.parquet")
    with pytest.raises(ValueError, match=r"predictions that geoenc saved .*frame.parquet"):
        Predictions.load(tmp_path / "frame.parquet")
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    bare = pyarrow.table({"a": [1]})
    parquet.write_table(bare, tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match=r"predictions that geoenc saved .*bare.parquet"):
        Predictions.load(tmp_path / "bare.parquet")


# --- real data ----------------------------------------------------------------------------------


def real(shared: Path, name: str) -> Any:
    path = shared / "data" / f"{name}.parquet"
    assert path.is_file(), f"expected {path}; the folder of real data is incomplete"
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pandas()


def column(frame: Any, name: str) -> Tensor:
    return torch.tensor(frame[name].to_numpy())


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "image", "encoder", "both"),
    [
        ("inat2018_val", 60.20, "ref_Space2Vec-theory", 73.52),
        ("nabirds_ebird_test", 76.08, "ref_Sphere2Vec-sphereC", 81.87),
        ("fmow_val", 69.83, "ref_Sphere2Vec-sphereM", 70.93),
    ],
)
def test_published_accuracy_from_files_of_predictions(
    shared: Path, tmp_path: Path, name: str, image: float, encoder: str, both: float
) -> None:
    """The image alone to two decimals; the product, of whose classes one is known, as a bound.

    The right class surely wins where P(y | image) P(y | place) exceeds the rest of P(. | image).
    """
    frame, places = real(shared, name), real(shared, f"{name}_encoder_probs")
    image_prob, place_prob = column(frame, "image_true_prob").double(), column(places, encoder)
    target, rows = column(frame, "label").long(), torch.arange(len(frame))
    rank = 2 - column(frame, "image_hit1").long()
    if "image_rr" in frame:
        rank = (1 / column(frame, "image_rr")).round().long()
    Predictions(
        sample=column(frame, "row_id"),
        target=target,
        rank=rank,
        image_prob=image_prob,
        place_prob=place_prob.double(),
        product_prob=image_prob * place_prob,
        classes=torch.where(rank == 1, target, 0)[:, None],
        scores=image_prob[:, None].log(),
        lonlat=torch.stack([column(frame, "lon"), column(frame, "lat")], -1),
        num_classes=int(target.max()) + 1,
    ).save(tmp_path / "image.parquet")
    kept = Predictions.load(tmp_path / "image.parquet")
    metrics = kept.metrics()
    assert len(kept) == len(rows)
    assert 100 * metrics["top1"] == pytest.approx(image, abs=0.005)
    if "image_rr" in frame:
        assert metrics["top3"] == pytest.approx(column(frame, "image_hit3").double().mean().item())
        assert metrics["mrr"] == pytest.approx(column(frame, "image_rr").double().mean().item())
    sure = kept.product_prob > 1 - kept.image_prob
    assert 40 < 100 * sure.double().mean().item() <= both


@pytest.mark.real_data
def test_location_only_predictions_of_published_encoders(shared: Path) -> None:
    """All classes at 406 places, against P(right class | place) as stored for the whole set."""
    path = shared / "data" / "fmow_val_ckpt_full_probs.npz"
    assert path.is_file(), f"expected {path}; the folder of real data is incomplete"
    stored, frame = np.load(path), real(shared, "fmow_val")
    reference = real(shared, "fmow_val_encoder_probs")
    rows = torch.tensor(stored["row_id"]).long()
    target = column(frame, "label").long()[rows]
    for name in ("Space2Vec-theory", "Sphere2Vec-sphereM", "wrap_ffn", "xyz"):
        place = torch.tensor(stored[f"probs_{name}"])
        made = Predictions.of(place.log(), target, sample=rows, location_probs=place)
        assert torch.allclose(made.place_prob, column(reference, f"ckpt_{name}")[rows].double())
        by_sorting = (-place).argsort(1)[:, :3] == target[:, None]
        got = made.metrics((1, 3))
        assert got["top3"] == pytest.approx(by_sorting.any(1).double().mean().item())
        assert got["top1"] == pytest.approx(by_sorting[:, 0].double().mean().item())
        assert got["top1"] > 3 / 62
