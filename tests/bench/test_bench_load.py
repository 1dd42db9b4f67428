"""Files of tasks: all that come with geoenc are sound, and errors say what to do."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from geoenc.bench import entries, list_tasks, load_task, read_settings, standard_entries
from geoenc.bench.load import find_task, read_task
from geoenc.data import DatasetNotFoundError
from geoenc.position import PositionEncoder

TABLE = {
    "lon": [0.0, 1.0, 2.0, 3.0, None, 5.0],
    "lat": [0.0, 10.0, 20.0, 30.0, 40.0, 50.0],
    "kind": ["b", "a", "b", "c", "a", None],
    "name": ["Bee", "Ant", "Bee", "Cat", "Ant", None],
    "size": [1.5, 2.5, float("nan"), 4.5, 5.5, 6.5],
    "loc_id": [0, 0, 1, 2, 3, 4],
    "part": ["train", "val", "test", "train", "test", "val"],
}


def written(folder: Path, text: str, *, name: str = "mine") -> str:
    pd.DataFrame(TABLE).to_csv(folder / "table.csv", index=False)
    path = folder / f"{name}.toml"
    path.write_text('about = "What is there"\nfile = "table.csv"\n' + text)
    return str(path)


def test_classes_are_counted_in_the_order_of_their_names(tmp_path: Path) -> None:
    task = load_task(written(tmp_path, 'target = "kind"\nmetric = "top1"\nnames = "name"\n'))
    assert task.target.tolist() == [1, 0, 1, 2]
    assert task.class_names == ("Ant", "Bee", "Cat")
    assert task.lonlat.tolist() == [[0, 0], [1, 10], [2, 20], [3, 30]]
    assert task.lonlat.dtype == torch.float64
    assert task.place.tolist() == [0, 0, 1, 2]
    assert task.name == "mine"


def test_numbers_filters_places_and_fixed_parts(tmp_path: Path) -> None:
    text = 'target = "size"\nmetric = "r2"\nsplit = "part"\n'
    task = load_task(written(tmp_path, text))
    assert task.target.tolist() == [1.5, 2.5, 4.5, 6.5]
    assert task.fixed["random"].tolist() == [0, 1, 0, 1]
    assert task.classes == 0
    where = 'where = [["lat", ">", 5], ["kind", "!=", "c"]]\n'
    filtered = load_task(written(tmp_path, text + where))
    assert filtered.target.tolist() == [2.5, 6.5]
    once = load_task(written(tmp_path, text + 'one_row_per = "loc_id"\n'))
    assert once.target.tolist() == [1.5, 4.5, 6.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('target = "colour"\nmetric = "top1"\n', "columns colour"),
        ('target = "kind"\nmetric = "accuracy"\n', "metric of top1"),
        ('target = "kind"\nmetric = "top1"\nspeed = 1\n', "got speed"),
        ('metric = "top1"\n', "file and target"),
        ('target = "kind"\n', "no metric"),
        ("target = kind\n", "TOML"),
        ('target = "kind"\nmetric = "top1"\nsplit = "name"\n', "train, val or test"),
        ('target = "kind"\nmetric = "top1"\nwhere = [["lat", ">", 90]]\n', "rows with places"),
    ],
)
def test_errors_say_what_to_correct(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        load_task(written(tmp_path, text))


def test_absent_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOENC_SHARED", raising=False)
    with pytest.raises(DatasetNotFoundError, match=r"fmow_val\.parquet.*--data.*GEOENC_SHARED"):
        load_task("fmow-class")
    with pytest.raises(DatasetNotFoundError, match="nothing of that name"):
        load_task("fmow-class", tmp_path)
    with pytest.raises(ValueError, match="did you mean"):
        find_task("fmow")


def test_every_task_that_comes_with_geoenc_says_where_it_is_from() -> None:
    files = list_tasks()
    assert len({file.name for file in files}) == len(files) > 30
    for file in files:
        assert len(file.about) > 15, file.name
        assert file.licence, file.name
        assert file.generator or file.url.startswith("https://"), file.name
    assert any(file.control for file in files)
    assert sum(file.quick for file in files) >= 8


def test_tasks_without_data_can_always_be_loaded() -> None:
    loaded = [file for file in list_tasks() if file.generator and not file.file]
    assert loaded
    for file in loaded:
        task = load_task(file.name)
        assert task.name == file.name
        assert len(task) > 100


@pytest.mark.real_data
def test_tasks_of_tables_can_be_loaded(shared: Path) -> None:
    seen = 0
    for file in list_tasks():
        path = file.path(shared)
        if file.target and path is not None and path.stat().st_size < 600_000:
            task = load_task(file.name, shared)
            assert task.classes != 1
            assert set(task.fixed) == {"random", "blocked"}
            assert len(task.target.unique()) > 1
            seen += 1
    assert seen > 12


def test_the_encoders_of_the_suite_can_be_built() -> None:
    found = standard_entries()
    for entry in found:
        for one in entry.candidates:
            encoder = PositionEncoder.from_config({**entry.position, **one})
            assert encoder(torch.zeros(2, 2)).shape == (2, encoder.out_features)
    quick = standard_entries(quick=True)
    assert 1 < len(quick) < len(found)
    assert {entry.name for entry in quick} <= {entry.name for entry in found}


def test_settings_of_the_quick_part_differ_where_they_say() -> None:
    whole, quick = read_settings(), read_settings(quick=True)
    assert quick.steps < whole.steps
    assert quick.neighbours == whole.neighbours
    assert read_settings(seeds=5).seeds == 5
    assert whole.seeds >= 3


def test_words_of_the_command_line_become_entries(tmp_path: Path) -> None:
    [entry] = entries("Space2VecGrid(num_frequencies=8, min_radius=0.5)")
    assert entry.position == {"name": "Space2VecGrid", "num_frequencies": 8, "min_radius": 0.5}
    assert entry.candidates == [{}]
    file = tmp_path / "a.toml"
    file.write_text(
        '[[encoders]]\nposition = { name = "XYZ" }\n'
        '[[encoders]]\nname = "b"\nmodel = "models/b"\n'
        '[[encoders]]\nname = "c"\nposition = { name = "NeRF" }\nrates = [0.1]\n'
        "choose = { num_frequencies = [2, 3] }\n"
    )
    first, second, third = entries(str(file))
    assert (first.name, second.model) == ("XYZ", "models/b")
    assert third.candidates == [{"num_frequencies": 2}, {"num_frequencies": 3}]
    assert third.rates == (0.1,)
    for text, words in (
        ("[[encoders]]\nname = 'x'\n", "either position or model"),
        ("[[encoders]]\nposition = { name = 'Nothing' }\n", "class of geoenc"),
        ("encoder = 1\n", "got none"),
        ("[[encoders]]\nposition = { name = 'XYZ' }\n" * 2, "different names"),
        ("[[encoders]]\nposition = { name = 'XYZ' }\nspeed = 1\n", "correct the table"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            entries(str(file))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not there"):
        read_task(tmp_path / "none.toml")
