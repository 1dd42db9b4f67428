"""The command line: exit codes, one clear line for each error, and a table at the end."""

import subprocess
import sys

import pytest

import geoenc
from geoenc import cli
from geoenc.properties import example, properties


def test_list_names_registered_components(capsys) -> None:
    assert cli.main(["list", "position"]) == 0
    shown = capsys.readouterr().out
    assert "Space2VecGrid" in shown
    assert "FFN" not in shown
    assert cli.main(["list"]) == 0
    assert "ResidualNet" in capsys.readouterr().out


def test_list_shows_size_finest_wave_and_seams(capsys) -> None:
    assert cli.main(["list", "position"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert rows["XYZ"].split()[1:] == ["3", "0", "–", "joins", "joins"]
    assert rows["Wrap"].split()[1:] == ["4", "0", "180°", "(20,015", "km)", "joins", "jumps"]
    grid = geoenc.Space2VecGrid()
    assert rows["Space2VecGrid"].split()[1:3] == [str(grid.out_features), "0"]
    assert f"{grid.wavelengths.min():.3g}°" in rows["Space2VecGrid"]


def test_properties_are_those_of_the_instance() -> None:
    assert properties(geoenc.Wrap(360.0))["longest_wave"] == 360
    tiles = properties(geoenc.Tile(4, 30.0))
    assert (tiles["columns"], tiles["parameters"]) == (4, 12 * 6 * 4)
    assert tiles["shortest_wave"] is None
    first, again = (example(geoenc.RFF).wavelengths for _ in range(2))
    assert first.equal(again)


def test_settings_are_explained(capsys) -> None:
    assert cli.main(["run", "csp", "--show-settings"]) == 0
    shown = capsys.readouterr().out
    assert "pretrain.temperature" in shown
    assert "of the in-batch term" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "csp", "pretrain.speed=1"], "speed"),
        (["run", "csp", "nothing.toml"], "nothing.toml"),
        (["run", "csp", "data.path=nothing.csv"], "nothing.csv"),
        (["run", "csp", "table.fractions=[1.5]"], "fraction of the labels"),
    ],
)
def test_errors_are_one_line_without_a_traceback(arguments, words, capsys, tmp_path) -> None:
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("geoenc: expected")
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "run").exists()


def test_usage_errors_exit_with_2() -> None:
    for arguments in ([], ["walk"], ["run", "csp", "--speed"], ["list", "animals"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2


def test_the_module_runs_and_knows_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "geoenc", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == geoenc.__version__


def test_the_recipe_runs_on_a_table_of_the_user(tmp_path, capsys) -> None:
    """A CSV of places, labels and features, as a user would have it."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 240), rng.uniform(-80, 80, 240)
    label = np.where(lat > 0, "north", "south")
    table = pd.DataFrame({"lon": lon, "lat": lat, "label": label})
    for i in range(4):
        table[f"feat_{i}"] = (lat > 0) + rng.normal(size=240)
    table.loc[3, ["lon", "lat"]] = np.nan
    table.to_csv(tmp_path / "mine.csv", index=False)
    code = cli.main(
        [
            "run",
            "csp",
            f"data.path={tmp_path / 'mine.csv'}",
            "table.seeds=1",
            "table.fractions=[0.5]",
            "pretrain.epochs=2",
            "finetune.epochs=2",
            "finetune.min_steps=2",
            "features.components=0",
            "hardware.accelerator=cpu",
            "--out",
            str(tmp_path / "run"),
        ]
    )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "CSP-MC-BLD" in shown.out
    assert "blocked split" in shown.out


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """As in ``geoenc list pretrained | head -1``."""
    command = f"{sys.executable} -m geoenc list position | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
