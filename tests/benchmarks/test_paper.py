"""The tables of the CSP paper: every number has a command that runs and names its files."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch

from geoenc.data import make_published
from geoenc.recipes.config import load_config

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout: benchmarks are not there", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import paper  # noqa: E402

TABLES = paper.reported()


def test_all_five_tables_are_there() -> None:
    assert {name[: len("csp_table1")] for name in TABLES} == {f"csp_table{i}" for i in range(1, 6)}


@pytest.mark.parametrize("name", TABLES)
def test_every_command_is_one_that_runs(name: str) -> None:
    table = TABLES[name]
    for method, numbers in table["top1"].items():
        assert len(numbers) == len(table["fractions"])
        words = shlex.split(paper.command(name, table, method))
        assert words[:4] == ["geoenc", "run", "csp", "--config"]
        config = load_config(words[4], [word for word in words[5:] if "=" in word])
        assert list(config.methods) == [method]
        assert config.table.fractions == tuple(table["fractions"])


@pytest.mark.parametrize("name", ["csp_table1", "csp_table5"])
def test_the_files_that_are_named_are_those_of_the_data_set(name: str, tmp_path) -> None:
    table = TABLES[name]
    data = load_config(table["config"]).data.name
    make_published(data, tmp_path, num_samples=60, generator=torch.Generator().manual_seed(0))
    for method in table["top1"]:
        for fraction in table["fractions"]:
            absent = [
                f for f in paper.needs(table, method, fraction) if not (tmp_path / f).exists()
            ]
            assert not absent


def test_a_cell_is_filled_by_a_run_that_was_kept_or_says_what_it_needs(tmp_path) -> None:
    table = TABLES["csp_table2"]
    kept = tmp_path / "csp_table2" / "mine"
    kept.mkdir(parents=True)
    cell = {"method": "CSP-MC-B", "fraction": 0.1, "top1": 0.1234, "top1_std": 0.005}
    (kept / "results.json").write_text(json.dumps({"summary": [cell]}))
    lines = paper.section("csp_table2", table, tmp_path)
    rows = [line for line in lines if line.startswith("| CSP-MC-B |")]
    assert len(rows) == 4
    assert "| 16.58 | 12.34 (0.50) |  |" in rows[1]
    assert "fewshot/inat2018_val_preds_sparse_ratio0.050.npz" in rows[0]
    assert "|  | `" in rows[0]


def test_another_image_network_has_files_of_its_own() -> None:
    table = TABLES["csp_table4_vit"]
    files = paper.needs(table, "MSE", 0.05)
    folder = "inat_2018/features_inception_pretrain-vit_tiny_patch16_224"
    assert f"{folder}/inat2018_train_pretrain_net_feats.npy" in files
    assert any(file.startswith("inat_2018/fewshot-vit_tiny_patch16_224/") for file in files)
