"""Tasks that are read by rules of their own: species, sets of images, other benchmarks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from geoenc import sampling
from geoenc.bench import Entry, Task, parts_of, read_settings, split_of
from geoenc.bench.disdat import REGIONS, disdat
from geoenc.bench.generated import GENERATED
from geoenc.bench.images import image_probabilities, mato_grosso
from geoenc.bench.load import load_task
from geoenc.bench.readers import coordbench, locbench_values, range_suite
from geoenc.bench.retrieval import nearest_of_class, nearest_of_each
from geoenc.bench.species import RankJudge, inat_species
from geoenc.coordinates import to_xyz
from geoenc.data import DatasetNotFoundError
from geoenc.data.coordbench import random_folds, spatial_folds


def disdat_twin(root: Path) -> Path:
    """Both files with two regions: presences, background, and surveys of two groups of species."""
    rng = np.random.default_rng(0)
    folder = root / "data"
    folder.mkdir()

    def places(rows: int, region: str) -> dict[str, object]:
        split = rng.choice(["train", "val", "test"], rows)
        return {
            "lon": rng.uniform(0, 1, rows).astype("f4"),
            "lat": rng.uniform(0, 1, rows).astype("f4"),
            "region": region,
            "split": split,
            "split_block": rng.permutation(split),
        }

    seen = [
        pd.DataFrame(
            {**places(60, r), "kind": "presence", "species": rng.choice(["s1", "s2", "s3"], 60)}
        )
        for r in ("AWT", "NZ")
    ]
    seen += [
        pd.DataFrame({**places(80, r), "kind": "background", "species": None})
        for r in ("AWT", "NZ")
    ]
    pd.concat(seen).to_parquet(folder / "disdat_presence_background.parquet")
    surveys = []
    for region in ("AWT", "NZ"):
        frame = pd.DataFrame(places(50, region))
        frame["surveyed"] = ["s1,s2" if i % 2 else "s3" for i in range(50)]
        frame["present"] = [["", "s1", "s3", "s1,s2"][i % 4] for i in range(50)]
        surveys.append(frame)
    pd.concat(surveys).to_parquet(folder / "disdat_presence_absence_test.parquet")
    return root


def test_disdat_learns_from_presences_and_is_judged_by_surveys(tmp_path: Path) -> None:
    task = disdat(region="NZ", data=disdat_twin(tmp_path))
    seen = pd.read_parquet(tmp_path / "data" / "disdat_presence_background.parquet")
    seen = seen[seen["region"] == "NZ"]
    assert len(task) == 140 + 50
    assert task.classes == 4
    names = ["s1", "s2", "s3"]
    wanted = [
        names.index(s) if k == "presence" else 3
        for s, k in zip(seen.species, seen.kind, strict=True)
    ]
    assert task.target[:140].tolist() == wanted
    random, blocked = task.fixed["random"], task.fixed["blocked"]
    assert random[:140].tolist() == [int(s == "val") for s in seen["split"]]
    assert random[140:].tolist() == [2] * 50
    codes = {"train": 0, "val": 1, "test": -1}
    assert blocked[:140].tolist() == [codes[s] for s in seen["split_block"]]
    assert set(blocked[140:].tolist()) == {-1, 2}


def test_disdat_is_judged_by_the_mean_over_species(tmp_path: Path) -> None:
    task = disdat(region="AWT", data=disdat_twin(tmp_path))
    assert task.judge is not None
    surveys = pd.read_parquet(tmp_path / "data" / "disdat_presence_absence_test.parquet")
    surveys = surveys[surveys["region"] == "AWT"]
    rows = (task.fixed["random"] == 2).nonzero()[:, 0]
    logits = torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(1))
    wanted = []
    for number, name in enumerate(["s1", "s2", "s3"]):
        asked = [name in one.split(",") for one in surveys["surveyed"]]
        there = np.array([name in one.split(",") for one in surveys["present"]])[asked]
        ratio = (logits[:, number] - logits[:, 3]).numpy()[asked]
        if 0 < there.sum() < len(there):
            wanted.append(roc_auc_score(there, ratio))
    found = task.judge(logits, rows)
    assert found["species"] == len(wanted) > 1
    assert found["auc"] == pytest.approx(np.mean(wanted))
    votes = (logits.double() - logits.min()).exp()  # the same ratios, but for what is added
    assert task.judge(1e6 * votes, rows)["auc"] == pytest.approx(found["auc"], abs=1e-6)
    with pytest.raises(ValueError, match="expected a species with presences and absences"):
        task.judge(logits[:1], rows[:1])


@pytest.mark.real_data
@pytest.mark.parametrize("region", REGIONS)
def test_disdat_by_neighbours(shared: Path, region: str) -> None:
    """About what the README of the data says of a ratio of densities by neighbours."""
    published = {"AWT": 0.582, "CAN": 0.557, "NSW": 0.674, "NZ": 0.656, "SA": 0.775}[region]
    task = disdat(region=region, data=shared)
    rows = [(task.fixed["random"] == part).nonzero()[:, 0] for part in (0, 2)]
    xyz = [to_xyz(task.lonlat[one]) for one in rows]
    near = torch.from_numpy(cKDTree(xyz[0].numpy()).query(xyz[1].numpy(), k=200)[1])
    votes = torch.zeros(len(rows[1]), task.classes)
    votes.scatter_add_(1, task.target[rows[0]][near], torch.ones_like(near, dtype=votes.dtype))
    assert task.judge is not None
    assert task.judge(votes, rows[1])["auc"] == pytest.approx(published, abs=0.03)


def test_ranks_count_ties_half() -> None:
    judge = RankJudge(torch.tensor([0, 2, 1, 1]))
    output = torch.tensor([[3.0, 1, 2], [3, 3, 3], [5, 1, 0]])
    found = judge(output, torch.tensor([0, 1, 3]))  # ranks 1, 2 of three equals, 2
    assert found["top1"] == pytest.approx(1 / 3)
    assert found["top10"] == 1
    assert found["reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_the_nearest_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    train, codes = torch.randn(30, 3, generator=generator), torch.randn(7, 3, generator=generator)
    target = torch.randint(0, 5, (30,), generator=generator)
    target[target == 4] = 0
    found = nearest_of_each(train, target, 5, codes)
    for row in range(7):
        for one in range(4):
            gap = min((codes[row] - train[i]).norm().item() for i in range(30) if target[i] == one)
            assert -found[row, one].item() == pytest.approx(gap, rel=1e-5)
    assert (found[:, 4] == -torch.inf).all()


def test_a_ranking_by_nearest_rows_beats_chance_in_space_and_in_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    lonlat = sampling.uniform(600, generator=generator)
    target = (lonlat[:, 0] // 30 + 6).long()
    part = torch.arange(600) % 3
    task = Task(
        "stripes", lonlat, target, 12, "top1", fixed={"random": part}, judge=RankJudge(target)
    )
    split = split_of(task, "random")
    parts = parts_of(task, split, split.folds[0])
    settings, entries = read_settings(), [None, Entry("XYZ", {"name": "XYZ"})]
    said = [nearest_of_class(parts, entry, settings, 0, None) for entry in entries]
    assert torch.allclose(said[0].test, said[1].test.double(), atol=1e-5)
    assert parts["test"].score(said[0].test) > 0.7
    assert said[0].deterministic
    again = nearest_of_class(parts, entries[1], settings, 1, said[1].chosen)
    assert torch.equal(again.test, said[1].test)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("split", "wanted"), [("random", (4.6, 16.3, 42.7)), ("blocked", (0.7, 6.0, 31.1))]
)
def test_species_by_the_nearest_observation(
    shared: Path, split: str, wanted: tuple[float, ...]
) -> None:
    """What the README of the data says of species that were seen, to a point."""
    task = inat_species(data=shared)
    train, test = (task.fixed[split] != 2), (task.fixed[split] == 2).nonzero()[:, 0]
    test = test[torch.isin(task.target[test], task.target[train])]
    xyz = to_xyz(task.lonlat)
    output = nearest_of_each(xyz[train], task.target[train], task.classes, xyz[test])
    assert task.judge is not None
    found = task.judge(output, test)
    for key, value in zip(("top1", "top10", "top100"), wanted, strict=True):
        assert 100 * found[key] == pytest.approx(value, abs=1.0)


def images_twin(root: Path, rows: int = 200) -> Path:
    """The file of Mato Grosso with three classes that the features tell apart in part."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, rows)
    (root / "data_images").mkdir()
    np.savez(
        root / "data_images" / "matogrosso_modis.npz",
        feat=(rng.normal(size=(rows, 2, 3)) + label[:, None, None]).astype("f4"),
        lon=rng.uniform(-60, -50, rows),
        lat=rng.uniform(-15, -8, rows),
        label=label.astype("u1"),
        label_names=np.array(["Cerrado", "Pasture", "Soy"]),
        split=(np.arange(rows) % 4).clip(max=2).astype("u1"),
        split_block=(np.arange(rows) // 50).clip(max=2).astype("u1"),
    )
    return root


def test_images_say_what_the_training_rows_teach(tmp_path: Path) -> None:
    task = mato_grosso(data=images_twin(tmp_path))
    assert task.class_names == ("Cerrado", "Pasture", "Soy")
    assert isinstance(task.image_probs, dict)
    for split, probs in task.image_probs.items():
        learned = task.fixed[split] == 0
        assert probs[learned].isnan().all()
        assert torch.allclose(probs[~learned].sum(1), torch.ones(int((~learned).sum())))
        right = probs[~learned].argmax(1) == task.target[~learned]
        assert right.double().mean() > 0.6
    assert not torch.equal(task.fixed["random"], task.fixed["blocked"])


def test_image_probabilities_are_those_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.integers(0, 3, 300))
    features = torch.from_numpy(rng.normal(size=(300, 4))) + target[:, None]
    part = torch.arange(300) % 3
    found, penalty = image_probabilities(features, target, 3, part)
    train = part == 0
    scaled = ((features - features[train].mean(0)) / features[train].std(0)).numpy()
    model = LogisticRegression(C=1 / (penalty * 100), tol=1e-8, max_iter=1000)
    wanted = model.fit(scaled[train], target[train]).predict_proba(scaled[~train])
    assert np.abs(found[~train].numpy() - wanted).max() < 0.02


@pytest.mark.real_data
def test_images_of_mato_grosso(shared: Path) -> None:
    """About what the README of the data says of the image alone: 94.1 and 79.4 %."""
    task = load_task("mato-grosso", shared)
    assert isinstance(task.image_probs, dict)
    for split, wanted in (("random", 0.941), ("blocked", 0.794)):
        test = task.fixed[split] == 2
        right = task.image_probs[split][test].argmax(1) == task.target[test]
        assert right.double().mean().item() == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize(
    ("name", "options", "file"),
    [
        ("disdat", {}, "data/disdat_presence_background.parquet"),
        ("inat-species", {}, "data/inat2018_val.parquet"),
        ("globe-chips", {}, "data_images/globe_chips.npz"),
        ("africa-wealth", {}, "data_images/africa_wealth.npz"),
        ("glc24-habitats", {}, "data_images/glc24_habitats.npz"),
        ("mato-grosso", {}, "data_images/matogrosso_modis.npz"),
        ("coordbench", {"benchmark": "country"}, "data/country/data.parquet"),
        ("range-suite", {"benchmark": "country"}, "country.csv"),
        ("locbench-values", {"benchmark": "mosaiks_elevation"}, "mosaiks/Y_elevation.csv"),
    ],
)
def test_data_that_are_not_there(tmp_path: Path, name: str, options: dict, file: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=f"expected {file}"):
        GENERATED[name](**options, data=tmp_path)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected region of AWT.*got 'MOON'"):
        disdat(region="MOON", data=tmp_path)
    with pytest.raises(ValueError, match="expected label of igbp, koppen, got 'x'"):
        GENERATED["globe-chips"](label="x", data=tmp_path)


def table(path: Path, **columns: object) -> None:
    rng = np.random.default_rng(5)
    path.parent.mkdir(parents=True, exist_ok=True)
    places = {"lon": rng.uniform(-180, 180, 300), "lat": rng.uniform(-80, 80, 300)}
    frame = pd.DataFrame({**places, **columns})
    write = frame.to_parquet if path.suffix == ".parquet" else frame.to_csv
    write(path)


def test_other_benchmarks_keep_their_test_rows(tmp_path: Path) -> None:
    table(tmp_path / "coordbench/data/country/data.parquet", country=["FR", "DE", "US"] * 100)
    task = coordbench(benchmark="country", data=tmp_path)
    assert (task.metric, task.class_names) == ("top1", ("DE", "FR", "US"))
    for split, fold in (("random", random_folds(300)), ("blocked", spatial_folds(task.lonlat))):
        assert torch.equal(task.fixed[split] == 2, fold == 0)
        assert torch.equal(task.fixed[split] == 1, fold == 1)
    table(tmp_path / "range/elevation.csv", elevation=np.arange(300.0))
    task = range_suite(benchmark="elevation", data=tmp_path)
    assert task.metric == "r2"
    assert task.fixed["random"].bincount().tolist() == [216, 24, 60]
    split = ["train"] * 200 + ["val"] * 40 + ["test"] * 60
    table(tmp_path / "locbench/mosaiks/Y_elevation.csv", elevation=np.arange(300.0), split=split)
    task = locbench_values(benchmark="mosaiks_elevation", data=tmp_path)
    assert task.fixed["random"].bincount().tolist() == [200, 40, 60]
    assert task.target.tolist() == list(range(300))


def test_sustainbench_of_locbench_is_validated_on_training_rows(tmp_path: Path) -> None:
    for part, rows in (("trainval", np.arange(300.0)), ("test", np.arange(300.0, 600))):
        table(tmp_path / f"locbench/sustainbench/dhs_{part}_labels.csv", asset_index=rows)
    task = locbench_values(benchmark="sustainbench_asset_index", data=tmp_path)
    assert task.fixed["random"].bincount().tolist() == [270, 30, 300]
    assert sorted(task.target.tolist()) == list(range(600))
    assert (task.target[task.fixed["random"] == 2] >= 300).all()
