"""What others published: typed as it stands in the sources, and every command of the page runs."""

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import geoenc
from geoenc import bench, catalogue, cli
from geoenc.data import make_published
from geoenc.models import LocationClassifier
from geoenc.recipes.config import load_config

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout: benchmarks are not there", allow_module_level=True)
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench"), str(ROOT / "tests" / "data")]

from fake_tasks import SIZES  # noqa: E402
from test_coordbench import coordbench_twin, range_twin  # noqa: E402

import benchmarks.__main__ as suite  # noqa: E402
from benchmarks import (  # noqa: E402
    locbench,
    locbench_weights,
    published,
    range_database,
    reproductions,
)

SETTINGS = locbench.read_settings()
REPORTED = published.reported("locbench")


# --- typed as it stands in the sources ----------------------------------------------------------


def numbers(cells: list[str]) -> list[float]:
    """All numbers in the cells of a row, in their order."""
    text = " ".join(cells).replace("−", "-")
    return [float(one) for one in re.findall(r"(?<![\w.])-?(?:\d+\.?\d*|\.\d+)(?![\w.])", text)]


def tables(text: str) -> list[list[list[str]]]:
    """Tables of a Markdown text, with their heads."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    cut = [[line.strip("| \n").split("|") for line in block.splitlines()] for block in blocks]
    return [[[cell.strip(" *") for cell in row] for row in [one[0], *one[2:]]] for one in cut]


@pytest.fixture(scope="module")
def spec(shared: Path) -> str:
    path = shared / "spec" / "published.md"
    if not path.is_file():
        pytest.skip(f"expected the collection of published numbers in {path}, got no such file")
    return path.read_text(encoding="utf-8")


def between(text: str, first: str, last: str) -> str:
    return text.split(first)[1].split(last)[0]


def pairs(table: dict[str, dict[str, Any]]) -> list[list[float]]:
    return [list(row.values()) for row in table.values()]


@pytest.mark.real_data
def test_locbench_is_typed_as_printed(spec: str) -> None:
    first = tables(between(spec, "### 2.1", "### 2.2"))[0]
    assert pairs(REPORTED["table1"]) == [numbers(row[1:]) for row in first[1:]]
    for name, table in zip(
        ("top1", "top3", "reciprocal_rank"),
        tables(between(spec, "### 2.2", "### 2.3")),
        strict=True,
    ):
        assert pairs(REPORTED[name]) == [numbers(row[1:]) for row in table[1:]]
    both, _, sustainbench = tables(between(spec, "### 2.5", "### 2.6"))
    third = {row[0]: [numbers([cell])[0] for cell in row[1:]] for row in both[1:]}
    files = {row[0]: [numbers([cell])[1] for cell in row[1:]] for row in both[1:]}
    assert pairs(REPORTED["r2"]) == list(files.values())
    more = [numbers(row[1:]) for row in sustainbench[1:]]
    for (encoder, row), theirs in zip(REPORTED["table3"].items(), more, strict=True):
        assert list(row.values()) == third.get(encoder, []) + theirs


@pytest.mark.real_data
def test_range_and_coordbench_are_typed_as_printed(spec: str) -> None:
    rows = tables(between(spec, "## 7.", "## 8."))[0]
    typed = [list(row["reported"].values()) for row in published.reported("range")["rows"]]
    assert typed == [numbers(row[1:]) for row in rows[1:]]
    text, table = between(spec, "## 9.", "## 10."), published.reported("coordbench")
    groups = [*table["linear"].values(), *table["neighbours"].values()]
    typed = [[x for both in row.values() for x in both if x == x] for row in groups]
    order = sorted(tables(text)[0][1:], key=lambda row: "5-NN" in row[0])
    assert typed == [numbers(row[1:]) for row in order]
    line = text.split("SustainBench")[1].split("\n")[0].strip(".")
    said = [numbers([part])[-6:] for part in line.split(": ", 1)[1].split(";")]
    columns = [[row[key] for row in table["sustainbench"].values()] for key in table["models"]]
    keys = ["sincos", "mind", "mind-small", "climplicit", "sinr", "geoclip", "satclip"]
    assert list(table["models"]) == keys
    assert columns == said


@pytest.mark.real_data
def test_no_number_of_the_re_run_is_left_out(spec: str) -> None:
    rows = tables(between(spec, "## 6.", "## 7."))[0]
    typed = {row["reported"] for row in reproductions.read_settings()["rows"] if "reported" in row}
    typed |= {
        x for row in published.reported("russwurm")["degrees"] for x in row["accuracy"].values()
    }
    harmonics = {94.9, 95.8, 94.3}  # of one seed; typed is the mean over five
    wanted = {x for row in rows[1:] for x in numbers(row[1:7])} - harmonics
    assert wanted <= typed


# --- what the released files are worth ----------------------------------------------------------


@pytest.mark.parametrize("score", ["top1", "top3", "reciprocal_rank", "r2"])
def test_the_kept_scores_of_released_files_are_the_published_ones(score: str) -> None:
    found = locbench.released_scores("values" if score == "r2" else "classes")
    tolerance = 0.00051 if score == "r2" else 0.0051
    for encoder, row in REPORTED[score].items():
        for key, value in row.items():
            assert found[encoder][key][score] == pytest.approx(value, abs=tolerance)


def test_files_are_found_by_their_names_and_empty_ones_are_not_counted(tmp_path: Path) -> None:
    folder = tmp_path / "eval_results"
    for part in ("classification", "regression"):
        (folder / part).mkdir(parents=True)
    ranks = pd.DataFrame({"reciprocal_rank": [1, 0.5, 0.25, 1]})
    ranks.to_csv(folder / "classification" / "eval_fmow__val_rbf.csv")
    (folder / "classification" / "eval_fmow__val_wrap.csv").write_text("\n")
    values = pd.DataFrame({"labels": [1.0, 2, 3], "predictions": [1.0, 2, 4]})
    start = folder / "regression" / "eval_mosaiks_elevation__test_"
    values.to_csv(f"{start}no_prior_regress copy.csv")
    found = locbench.score_released(SETTINGS, tmp_path)
    assert found["classes"] == {
        "rbf": {"fmow": {"rows": 4, "top1": 50, "top3": 75, "reciprocal_rank": 68.75}}
    }
    assert found["values"]["no_prior"]["elevation"]["r2"] == 0.5
    with pytest.raises(geoenc.data.DatasetNotFoundError, match="set GEOENC_TORCHSPATIAL"):
        locbench.score_released(SETTINGS, folder)


def test_weights_that_a_file_is_of_are_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, weights = tmp_path / "eval_results/classification", tmp_path / "pre_trained_models/x"
    for folder in (results, weights, tmp_path / "data"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("GEOENC_SHARED", str(tmp_path))
    monkeypatch.setattr(geoenc.convert, "torchspatial", lambda path: released_model(path.name))
    rng, label = np.random.default_rng(0), np.arange(40) % 5
    places = pd.DataFrame({"lon": rng.uniform(-180, 180, 40), "lat": rng.uniform(-90, 90, 40)})
    with torch.no_grad():
        said = released_model("").probabilities(torch.tensor(places.to_numpy())).numpy()
    image, place = rng.random(40), said[np.arange(40), label]
    for key, name in locbench_weights.PLACES.items():
        places.assign(label=label).to_parquet(tmp_path / name)
        files = {"no_prior": image, "xyz": image * place, "wrap_ffn": image * place * 1.01}
        for encoder, column in files.items():
            start = f"eval_{SETTINGS['classes'][key]['file']}_{encoder}.csv"
            pd.DataFrame({"true_class_prob": column}).to_csv(results / start)
        for encoder in ("xyz", "wrap_ffn", "rbf"):
            (weights / locbench.weights(SETTINGS, encoder, key).file).touch()
    found = locbench_weights.measure(tmp_path)
    assert {key: set(one) for key, one in found.items()} == {
        key: {"xyz", "wrap_ffn"} for key in locbench_weights.PLACES
    }
    lines = locbench_weights.table(found)
    for line in lines[2:]:
        assert line.endswith("| yes |" if "`xyz`" in line else "| no |")
    assert found["fmow"]["wrap_ffn"]["median"] == pytest.approx(0.01 / 1.01, rel=1e-4)


# --- commands -----------------------------------------------------------------------------------


def commands() -> list[str]:
    """Every command of the page."""
    text = (ROOT / "benchmarks" / "published.md").read_text(encoding="utf-8")
    return [part for line in re.findall(r"^\$ (.+)$", text, re.M) for part in line.split(" && ")]


def test_the_page_has_every_section_as_it_is_made_now(tmp_path: Path) -> None:
    text = (ROOT / "benchmarks" / "published.md").read_text(encoding="utf-8")
    sections = re.findall(r"<!-- begin published/(.+)\.md -->", text)
    assert sections == ["locbench-weights", *published.PAGES]
    for name, section in published.PAGES.items():
        kept = (ROOT / "benchmarks/results/published" / f"{name}.md").read_text(encoding="utf-8")
        assert [line for line in section() if line.startswith("$")] == [
            line for line in kept.splitlines() if line.startswith("$")
        ]
        assert kept.strip() in text


def test_every_command_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    for name in ("range", "range-plus"):
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    seen = set()
    for line in commands():
        words = [word for word in shlex.split(line) if not word.startswith("GEOENC_")]
        kind, rest = " ".join(words[:3]), words[3:]
        if words[:2] == ["geoenc", "bench"]:
            options, kind = cli.parser().parse_args(words[1:]), "geoenc bench"
            for text in options.encoder:
                assert bench.entries(text)
            assert bench.plan(options.tasks, protocols=options.protocol).tasks
        elif words[:2] == ["geoenc", "run"]:
            options, settings = cli.parser().parse_known_args(words[1:])
            assert load_config(options.config, settings).methods
            kind = "geoenc run"
        elif kind == "python -m benchmarks":
            assert rest[:3] == ["--report", "--out", published.OUT.split()[1]]
            assert ROOT / rest[4] == published.RESULTS / "published" / "suite"
        elif kind == "python -m benchmarks.locbench":
            assert locbench.parser().parse_args(rest).what in ("released", "classes", "values")
        elif kind == "python -m benchmarks.locbench_weights":
            assert rest == []
        elif kind == "python -m benchmarks.range_database":
            assert range_database.parser().parse_args(rest).out.name in ("range", "range-plus")
        else:
            assert (kind, rest) == ("python -m benchmarks.reproductions", [])
        seen.add(kind)
    assert len(seen) == 7


def test_every_row_has_its_command() -> None:
    lines = commands()
    for kind, table in (("classes", "table1"), ("values", "table3")):
        assert len(REPORTED[table]) == 16
        for encoder in REPORTED[table]:
            assert lines.count(f"python -m benchmarks.locbench {kind} {encoder} --data DIR") == 1
    for row in published.reported("range")["rows"]:
        encoder = shlex.quote(row["encoder"])
        assert (
            sum("range-biome range-eco" in one and f"--encoder {encoder} " in one for one in lines)
            == 1
        )
    for name in published.vmf_sets():
        assert sum(f" {name} " in one for one in lines) == 1


# --- and works, on files of the form ------------------------------------------------------------


def small(settings: dict[str, Any]) -> dict[str, Any]:
    """Short trainings."""
    harmonics = {key: {**one, "epochs": 1} for key, one in settings["spherical_harmonics"].items()}
    return {
        **settings,
        "training": {**settings["training"], "epochs": 1, "width": 16},
        "regression": {
            **settings["regression"],
            "epochs": 25,
            "width": 16,
            "batch": 32,
            "rate": 0.01,
        },
        "spherical_harmonics": harmonics,
    }


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All seven sets with classes, invented, in LocBench's layout."""
    root = tmp_path / "download"
    for name in ("birdsnap", "nabirds", "inat2017", "inat2018", "yfcc", "fmow"):
        generator = torch.Generator().manual_seed(0)
        make_published(name, root / "geo_prior_data/data", num_samples=60, generator=generator)
    made = small(SETTINGS)
    monkeypatch.setattr(locbench, "read_settings", lambda: made)
    return root


def released_model(name: str, **options: Any) -> LocationClassifier:
    torch.manual_seed(0)
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8))
    return LocationClassifier(encoder, 5).eval()


def test_classes_of_every_set(
    download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "out", []
    monkeypatch.setattr(
        geoenc, "from_pretrained", lambda name, **o: asked.append(name) or released_model(name)
    )
    for encoder in ("no_prior", "wrap"):
        assert locbench.main(["classes", encoder, "--data", str(download), "--out", str(out)]) == 0
    words = ["classes", "spherical_harmonics", "--data", str(download), "--out", str(out)]
    assert locbench.main([*words, "--sets", "birdsnap-ebird", "fmow"]) == 0
    assert asked == [f"torchspatial-wrap-{key}" for key in SETTINGS["classes"]]
    found = locbench.kept("classes", out)
    trained = found["spherical_harmonics"]
    assert {key: one["model"] for key, one in trained.items()} == {
        "birdsnap-ebird": "trained",
        "fmow": "trained",
    }
    for key in SETTINGS["classes"]:
        none, wrap = (found[encoder][key] for encoder in ("no_prior", "wrap"))
        assert none["top1"] == none["image_top1"] == wrap["image_top1"]
        assert wrap["model"] == f"torchspatial-wrap-{key}"
        assert wrap["location_top1"] > 0
    lines = published.locbench_classes(out)
    row = next(line for line in lines if line.startswith("| `wrap` |"))
    cells = [cell.split(" / ")[2] for cell in row.strip(" |").split(" | ")[1:]]
    order = [*list(SETTINGS["classes"])[:5], None, "yfcc", "fmow"]
    wanted = [None if key is None else f"{found['wrap'][key]['top1']:.2f}" for key in order]
    assert [a for a, b in zip(cells, wanted, strict=True) if b] == [b for b in wanted if b]
    species = [found["wrap"][key]["top1"] for key in order[:5]]
    assert float(cells[5]) == pytest.approx(sum(species) / 5, abs=0.006)


def test_anchors_of_released_rbf_are_training_places(
    download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}
    monkeypatch.setattr(catalogue, "fetch", lambda entry, **options: Path(entry.file))

    def convert(path: Path, *, training_places: torch.Tensor) -> LocationClassifier:
        given[path.name] = training_places
        return released_model("")

    monkeypatch.setattr(geoenc.convert, "torchspatial", convert)
    sets = ["inat2018", "birdsnap-ebird"]
    words = ["classes", "rbf", "--data", str(download), "--out", str(tmp_path), "--sets", *sets]
    assert locbench.main(words) == 0
    assert len(given) == 2
    for file, places in given.items():
        assert "_rbf_" in file
        assert 0 < len(places) <= 60
        assert not places.isnan().any()


def test_a_set_whose_files_are_missing_is_told_and_the_others_go_on(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (download / "geo_prior_data/data/fmow/feature_moco").iterdir():
        path.unlink()
    words = ["classes", "no_prior", "--data", str(download), "--out", str(tmp_path)]
    assert locbench.main([*words, "--sets", "fmow", "yfcc"]) == 1
    assert "fmow: expected P(y | image) of fMoW 'val'" in capsys.readouterr().err
    assert set(locbench.kept("classes", tmp_path)["no_prior"]) == {"yfcc"}


def test_settings_stated_by_file_names_are_those_of_the_published_encoders() -> None:
    compared = 0
    for encoder, own in SETTINGS["encoders"].items():
        for key, name in (("inat2018", "iNat2018"), ("fmow", "fMoW")):
            title = f"{own['position']['name']}-{name}"
            if encoder == "wrap" or title not in geoenc.published.names():
                continue
            config = locbench.training(SETTINGS, encoder, key)
            known = geoenc.published.entry(title).config
            position = {**known["position"]}
            if encoder in ("Sphere2Vec-sphereM+", "Sphere2Vec-dfs"):
                position |= {"min_radius": 1.0, "max_radius": 1.0}  # lost on its way, see there
            position.pop("extent", None)
            assert config.encoder.position == pytest.approx(position), title
            assert config.encoder.network == known["network"], title
            compared += 1
    assert compared >= 20
    theory = locbench.training(SETTINGS, "Space2Vec-theory", "fmow").finetune
    assert (theory.learning_rate, theory.batch_size) == (0.02, 8192)
    assert locbench.training(SETTINGS, "spherical_harmonics", "yfcc").finetune.learning_rate == 0.01


def test_train_builds_every_encoder(download: Path, tmp_path: Path) -> None:
    for encoder in ("tile_ffn", "rff", "NeRF", "rbf"):
        words = ["classes", encoder, "--data", str(download), "--out", str(tmp_path), "--train"]
        assert locbench.main([*words, "--sets", "birdsnap"]) == 0
        assert locbench.kept("classes", tmp_path)[encoder]["birdsnap"]["model"] == "trained"


def test_values_are_learnt_from_image_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(SETTINGS)
    monkeypatch.setattr(locbench, "read_settings", lambda: made)
    rng, folder = np.random.default_rng(0), tmp_path / "mosaiks"
    folder.mkdir()
    lon, lat = rng.uniform(-90, 90, 200), rng.uniform(-60, 60, 200)
    seen = rng.normal(size=(200, 3)).astype("f4")
    table = {"lon": lon, "lat": lat, "elevation": 10 * np.sin(np.radians(lat)) + 3 * seen[:, 0]}
    split = rng.choice(["train", "train", "test"], 200)
    pd.DataFrame({**table, "split": split}).to_csv(folder / "Y_elevation.csv", index=False)
    np.save(folder / "X_elevation.npy", seen)
    out = tmp_path / "out"
    for encoder in ("no_prior", "xyz", "rbf"):
        words = ["values", encoder, "--data", str(tmp_path), "--out", str(out)]
        assert locbench.main([*words, "--sets", "elevation"]) == 0
    words = ["values", "no_prior", "--data", str(tmp_path), "--out", str(out)]
    assert locbench.main([*words, "--sets", "asset", "elevation"]) == 1
    found = {name: one["elevation"] for name, one in locbench.kept("values", out).items()}
    assert found["xyz"]["rows"] == (split == "test").sum()
    assert found["xyz"]["r2"] > found["no_prior"]["r2"] + 0.2
    row = next(x for x in published.locbench_values(out) if x.startswith("| `xyz` |"))
    assert f"0.72 / – / {found['xyz']['r2']:.2f}" in row


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bench.plan
    monkeypatch.setattr(
        bench, "plan", lambda *args, **options: replace(whole(*args, **options), settings=SIZES)
    )


@pytest.mark.usefixtures("quick")
def test_results_of_the_other_benchmarks_enter_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").mkdir()
    range_twin(tmp_path / "range", rows=120)
    coordbench_twin(tmp_path / "coordbench")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8)).save_pretrained("satclip")
    keys = {"locs": (20, 2), "satclip_embeddings": (20, 8), "image_embeddings": (20, 4)}
    rng = np.random.default_rng(0)
    np.savez(
        "db.npz", **{name: rng.uniform(-1, 1, shape).astype("f4") for name, shape in keys.items()}
    )
    plus = ["--plus", "--database", "db.npz", "--encoder", "satclip"]
    range_database.main(["models/range-plus", *plus])
    named = "models/range-plus"
    assert geoenc.from_pretrained(named).place_weight == 0.5

    def ran(words: str) -> None:
        assert cli.main([*shlex.split(words)[1:], "--jobs", "1"]) == 0

    ran(published.bench(["range-country", "range-temperature"], [named], ["probe"], data="."))
    sustainbench = f"{published.TASKS}/coordbench-sustainbench-asset.toml"
    sincos = ["Wrap(latitude_period=360.0)"]
    tasks = ["coordbench-biome", sustainbench]
    ran(published.bench(tasks, sincos, ["probe", "neighbours"], data="."))
    kept = tmp_path / "results"
    words = ["--report", "--out", "runs/published", "--keep", str(kept / "published/suite")]
    suite.main(["range-country", *words])
    ours = published.measured(kept)
    assert len({key[0] for key in ours}) == 4

    def cells(lines: list[str], start: str) -> list[str]:
        return next(one for one in lines if one.startswith(start)).strip(" |").split(" | ")

    row = cells(published.range_suite(kept), "| RANGE+ ")
    country = ours["range-country", "random", "range-plus", "probe"]
    assert row[3] == f"94.7 / {100 * country:.1f}"
    assert row[1].endswith("/ –")
    biome = [ours["coordbench-biome", s, sincos[0], "neighbours"] for s in ("random", "blocked")]
    row = cells(published.coordbench(kept), "| biome, neighbours |")
    assert row[1] == f"0.926 / 0.820; {biome[0]:.3f} / {biome[1]:.3f}"
    asset = ours["coordbench-sustainbench-asset", "random", sincos[0], "probe"]
    assert cells(published.coordbench(kept), "| asset, sust")[1] == f"0.152; {asset:.3f}"


def test_only_whole_training_parts_count(tmp_path: Path) -> None:
    folder = tmp_path / "published" / "suite"
    folder.mkdir(parents=True)
    record = {"task": "vmf-u1", "split": "random", "protocol": "trained", "kind": "encoder"}
    record |= {"error": None, "test": [0.5, 0.7], "num_train": 9, "num_train_available": 9}
    rows = [{**record, "row": "Sphere2VecC + FFN"}, {**record, "row": "Sphere2VecM + FFN"}]
    rows[1]["num_train"] = 8
    (folder / "vmf-u1.json").write_text(json.dumps(rows))
    (folder / "summary.json").write_text("{}")
    line = next(one for one in published.sphere2vec(tmp_path) if one.startswith("| `vmf-u1`"))
    assert line == "| `vmf-u1` | not retrievable | – | 60.00 | – | – | – | – |"


def test_harmonics_on_inat2018_run(download: Path, tmp_path: Path) -> None:
    config = str(ROOT / "benchmarks/configs/russwurm-inat2018.toml")
    methods = 'table.methods=["Image only","SH + Siren"]'
    words = ["run", "csp", "--config", config, f"data.path={download}", methods]
    out = tmp_path / "run"
    assert cli.main([*words, "finetune.epochs=1", "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())["summary"]
    assert {cell["method"] for cell in found} == {"Image only", "SH + Siren"}
