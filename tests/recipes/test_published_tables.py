"""The shipped settings of the paper's tables, run on small files of the published form."""

import json

import pytest
import torch

from geoenc.data import DatasetNotFoundError, make_published
from geoenc.predictions import Predictions
from geoenc.recipes import sources, study
from geoenc.recipes.config import for_method, load_config, shipped

CONFIGS = [name for name in shipped() if name.startswith("csp-") and "methods" not in name]
TINY = [
    "table.seeds=1",
    "pretrain.epochs=1",
    "finetune.epochs=1",
    "joint.epochs=1",
    "encoder.position.num_frequencies=4",
    "encoder.network.out_features=16",
    "encoder.network.hidden_features=16",
    "hardware.accelerator=cpu",
]
PRIORS = {
    "Nearest neighbours",
    "Within distance",
    "Rectangular grid",
    "Kernel density",
    "Class frequency",
}
JOINT = {"Tang et al. (gps)", "Tang et al. (discrete)"}


def published(name: str, folder) -> str:
    make_published(name, folder, num_samples=200, generator=torch.Generator().manual_seed(0))
    return f"data.path={folder}"


def test_six_files_of_three_sources_and_two_data_sets() -> None:
    ways = ("paper", "scripts", "checkpoint")
    assert sorted(CONFIGS) == sorted(f"csp-{w}-{d}" for w in ways for d in ("inat2018", "fmow"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_file_has_every_method(name: str) -> None:
    config = load_config(name)
    assert config.data.name == name.rpartition("-")[2]
    made = {method: for_method(config, method) for method in config.methods}
    assert not made["Image only"].use_location
    assert made["Sup. Only (wrap)"].encoder.position["name"] == "Wrap"
    assert made["Sup. Only (grid)"].pretrain.objective == "none"
    assert made["MSE"].pretrain.objective == "mse"
    for way, criterion in (("NCE", "nce"), ("MC", "multiclass")):
        for terms in ("B", "BL", "BLD") if way == "NCE" else ("B", "BL", "BD", "BLD"):
            pretrain = made[f"CSP-{way}-{terms}"].pretrain
            assert pretrain.criterion == criterion
            assert (pretrain.location_weight > 0) == ("L" in terms)
            assert (pretrain.dropout_weight > 0) == ("D" in terms)
    assert made["CSP-MC-BLD (symmetric)"].pretrain.symmetric
    for width in (64, 128, 512, 1024):
        method = made[f"CSP-MC-BLD (d={width})"]
        assert method.encoder.network["out_features"] == width
        assert method.encoder.network["activation"] == config.encoder.network["activation"]
    assert {method for method in made if made[method].prior} == PRIORS
    assert {method for method in made if made[method].joint.location != "none"} == JOINT


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("csp-paper-inat2018", (0.0002, 0.0005, 0.01, 1.0, 1.0, "uniform", "leaky_relu")),
        ("csp-scripts-inat2018", (0.0005, 0.001, 0.1, 20.0, 1.0, "legacy_disc", "leaky_relu")),
        ("csp-checkpoint-inat2018", (0.0005, 0.001, 0.1, 20.0, 1.0, "legacy_disc", "leaky_relu")),
        ("csp-paper-fmow", (0.001, 0.001, 0.01, 1.0, 1.0, "uniform", "gelu")),
        ("csp-scripts-fmow", (0.00005, 0.001, 0.1, 20.0, 1.0, "legacy_disc", "gelu")),
        ("csp-checkpoint-fmow", (0.00005, 0.001, 0.1, 1.0, 0.1, "legacy_disc", "gelu")),
    ],
)
def test_what_paper_scripts_and_checkpoints_disagree_on(name: str, settings: tuple) -> None:
    config = for_method(load_config(name), "CSP-MC-BLD")
    assert (
        config.pretrain.learning_rate,
        config.finetune.learning_rate,
        config.encoder.position["min_radius"],
        config.pretrain.temperature,
        config.pretrain.dropout_weight,
        config.pretrain.negatives,
        config.encoder.network["activation"],
    ) == settings
    assert config.finetune.background == config.pretrain.negatives
    leaks = config.pretrain.batches == "class_balanced_leaking_labels"
    assert leaks == (not name.startswith("csp-paper"))
    assert (config.data.predictions == "full") == (name == "csp-scripts-inat2018")
    assert for_method(load_config("csp-paper-inat2018"), "MSE").pretrain.learning_rate == 2e-6


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """All rows at two shares of the labels, on the smallest iNat2018."""
    folder = tmp_path_factory.mktemp("inat")
    settings = [*TINY, published("inat2018", folder), "table.fractions=[0.05, 1.0]"]
    config = load_config("csp-scripts-inat2018", [*settings, "data.predictions="])
    return config, folder / "run", study.run(config, folder / "run")


def test_every_method_is_a_row_of_one_table(table) -> None:
    config, folder, results = table
    scored = {(row["method"], row["fraction"]): row for row in results["scores"]}
    assert set(scored) == {(m, f) for m in config.methods for f in (0.05, 1.0)}
    printed = (folder / "table.md").read_text()
    assert all(f"| {method} |" in printed for method in config.methods)
    assert "5% labels" in printed
    for (method, _), row in scored.items():
        assert ("location_top1" in row) == (method != "Image only" and method not in JOINT)


def test_images_are_judged_by_what_was_stored_for_the_share_of_labels(table) -> None:
    """Few-shot predictions are noisier than those of the full labels: two numbers, not one."""
    _, _, results = table
    for fraction in (0.05, 1.0):
        found = {row["image_top1"] for row in results["scores"] if row["fraction"] == fraction}
        assert len(found) == 1
    first, last = (row["image_top1"] for row in results["scores"] if row["method"] == "Image only")
    assert first < last


def test_labels_are_the_published_subset(table) -> None:
    config, _, results = table
    made = sources.PublishedSource(config)
    rows = made.labelled(0.05, torch.Generator())
    assert {row["labels"] for row in results["scores"] if row["fraction"] == 0.05} == {len(rows)}
    assert rows.equal(made.labelled(0.05, torch.Generator().manual_seed(9)))


def test_predictions_of_every_sample_are_kept(table) -> None:
    config, folder, results = table
    files = sorted((folder / "predictions").iterdir())
    assert len(files) == 2 * len(config.methods)
    row = next(r for r in results["scores"] if (r["method"], r["fraction"]) == ("CSP-MC-BLD", 1.0))
    kept = Predictions.load(folder / "predictions" / "given-csp-mc-bld-0-1.parquet")
    assert kept.metrics()["top1"] == row["top1"]
    assert kept.metrics()["mrr"] == row["mrr"]
    assert len(kept) == 100


def test_losses_of_every_stage_are_logged(table) -> None:
    _, folder, _ = table
    logged = {path.parent.name for path in (folder / "logs").rglob("metrics.csv")}
    assert {"csp-mc-bld-0-pretraining", "csp-mc-bld-0-0.05", "tang-et-al-gps-0-1"} <= logged


def test_fmow_chooses_settings_of_priors_without_a_validation_part(tmp_path) -> None:
    config = load_config(
        "csp-paper-fmow",
        [
            *TINY,
            published("fmow", tmp_path),
            "table.fractions=[1.0]",
            'table.methods=["Image only", "Nearest neighbours", "Sup. Only (grid)"]',
        ],
    )
    results = study.run(config, tmp_path / "run")
    assert [row["method"] for row in results["scores"]] == list(config.methods)
    by = {row["method"]: row for row in results["scores"]}
    assert by["Nearest neighbours"]["location_top1"] > 0.3  # five classes, clustered


def test_a_validation_part_is_held_out_to_choose_by(tmp_path) -> None:
    config = load_config(
        "csp-paper-inat2018",
        [
            *TINY,
            published("inat2018", tmp_path),
            "table.fractions=[0.2]",
            'table.methods=["CSP-MC-BLD"]',
            "data.validation=0.4",
            "evaluate.weights=[1.0, 0.0]",
            "pretrain.patience=1",
            "finetune.patience=1",
        ],
    )
    results = study.run(config, tmp_path / "run")
    row = results["scores"][0]
    assert row["weight"] in (0.0, 1.0)
    assert 0 <= row["validation_top1"] <= 1
    kept = Predictions.load(tmp_path / "run/predictions/given-csp-mc-bld-0-0.2.parquet")
    assert len(kept) == 60


def test_what_is_missing_is_named(tmp_path) -> None:
    settings = [*TINY, published("inat2018", tmp_path), 'table.methods=["Image only"]']
    for file in (tmp_path / "inat_2018" / "fewshot").iterdir():
        file.unlink()
    config = load_config("csp-paper-inat2018", [*settings, "table.fractions=[0.05]"])
    with pytest.raises(
        DatasetNotFoundError, match=r"P\(y \| image\) of inat2018.*5% of the labels"
    ):
        study.run(config, tmp_path / "run")
    alone = load_config(
        "csp-paper-inat2018",
        [*settings[:-1], 'table.methods=["Within distance"]', "data.predictions=none"],
    )
    results = study.run(alone, tmp_path / "alone")
    for row in results["scores"]:
        assert "image_top1" not in row
        assert 0 < row["top1"] < row["location_top1"]  # where a missing place is wrong
    for file in (tmp_path / "inat_2018" / "features_inception_pretrain").iterdir():
        file.unlink()
    both = [*settings[:-1], 'table.methods=["Sup. Only (grid)"]', "table.fractions=[1.0]"]
    assert study.run(load_config("csp-paper-inat2018", both), tmp_path / "both")["scores"]
    needy = [*both[:-2], 'table.methods=["MSE"]', "table.fractions=[1.0]"]
    with pytest.raises(DatasetNotFoundError, match=r"expected features 'pretrain'.*the rows MSE"):
        study.run(load_config("csp-paper-inat2018", needy), tmp_path / "needy")
    assert not (tmp_path / "needy/scores.jsonl").exists()
    nowhere = load_config("csp-paper-inat2018", [*TINY, f"data.path={tmp_path / 'nowhere'}"])
    with pytest.raises(DatasetNotFoundError, match="iNat2018 not found"):
        study.run(nowhere, tmp_path / "none")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"lon": 0.0, "lat": 4e5}, "places of iNat2018 train: latitude .* is outside"),
        ({"lon": None, "lat": None}, "expected a sample to train on.*got 0 with a place"),
    ],
)
def test_places_that_cannot_be_used_are_named(tmp_path, damage: dict, words: str) -> None:
    settings = [*TINY, published("inat2018", tmp_path), 'table.methods=["CSP-MC-BLD"]']
    file = tmp_path / "inat_2018/train2018_locations.json"
    file.write_text(json.dumps([one | damage for one in json.loads(file.read_text())]))
    config = load_config("csp-paper-inat2018", [*settings, "table.fractions=[1.0]"])
    with pytest.raises(ValueError, match=words):
        study.run(config, tmp_path / "run")


def test_a_linear_probe_stands_in_for_stored_predictions(tmp_path) -> None:
    settings = [*TINY, published("fmow", tmp_path), 'table.methods=["Image only"]']
    settings += ["table.fractions=[1.0]", "data.predictions=probe", "image.max_iterations=20"]
    with pytest.raises(ValueError, match="choose the penalty of the linear probe"):
        study.run(load_config("csp-paper-fmow", settings), tmp_path / "refused")
    config = load_config("csp-paper-fmow", [*settings, "data.validation=0.3"])
    row = study.run(config, tmp_path / "run")["scores"][0]
    assert row["image_top1"] > 0.4


def test_the_same_seeds_give_the_same_table(table, tmp_path) -> None:
    config, _, results = table
    few = ["table.fractions=[0.05]", 'table.methods=["CSP-MC-BLD", "Tang et al. (gps)"]']
    path = f"data.path={config.data.path}"
    again = load_config("csp-scripts-inat2018", [*TINY, path, "data.predictions=", *few])
    rows = study.run(again, tmp_path / "run")["scores"]
    before = {(r["method"], r["fraction"]): r for r in results["scores"]}
    for row in rows:
        old = before[row["method"], row["fraction"]]
        assert {k: row[k] for k in row if k != "seconds"} == {
            k: old[k] for k in old if k != "seconds"
        }
    assert json.loads((tmp_path / "run" / "results.json").read_text())["scores"] == rows
