"""The command line: exit codes, one clear line for each error, and a table at the end."""

import json
import math
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import geoenc
from geoenc import cli
from geoenc.cli.output import new_path, print_json
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
    for folder in (tmp_path / "run" / "classifiers").glob("*/*"):
        assert geoenc.from_pretrained(folder).metadata["classes"] == ["north", "south"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """As in ``geoenc list pretrained | head -1``."""
    command = f"{sys.executable} -m geoenc list position | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# Help


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_examples_that_it_would_accept(name, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    examples = [line for line in shown.partition("examples:")[2].splitlines() if line.strip()]
    commands = [line for line in examples if line.startswith(f"  geoenc {name} ")]
    assert commands
    assert max(map(len, examples)) <= 100
    for line in commands:
        words = shlex.split(re.split(" {3,}| > ", line.strip())[0])[1:]
        options, _ = cli.parser().parse_known_args(words)
        assert options.command == name


def test_the_help_of_the_command_names_all_commands_and_exit_codes(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown or f"\n    {name}\n" in shown for name in cli.COMMANDS)
    assert "130 interrupted" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_help_imports_nothing_that_import_geoenc_does_not() -> None:
    code = (
        "import sys, geoenc; before = set(sys.modules); import geoenc.cli\n"
        "try: geoenc.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported <= {"geoenc", *sys.stdlib_module_names}


# Exit codes and errors


@pytest.fixture
def command(monkeypatch):
    """Replace what ``geoenc list`` does."""

    def replaced(run) -> None:
        monkeypatch.setattr("geoenc.cli.listing.run", run)

    return replaced


def test_ctrl_c_exits_with_130_and_says_what_goes_on(command, capsys, monkeypatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
    try:
        command(lambda options: signal.raise_signal(signal.SIGINT))
        assert cli.main(["list"]) == 130
        assert capsys.readouterr().err.strip() == "geoenc: interrupted"
        monkeypatch.setattr("geoenc.cli.listing.RESUMES", True, raising=False)
        assert cli.main(["list"]) == 130
        assert "goes on where it was" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGINT, before)


def test_unexpected_errors_have_no_traceback_unless_asked_for(command, capsys, monkeypatch) -> None:
    def fails(options) -> int:
        raise RuntimeError("the device has gone")

    command(fails)
    monkeypatch.delenv("GEOENC_TRACEBACK", raising=False)
    assert cli.main(["list", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "RuntimeError: the device has gone" in shown.err
    monkeypatch.setenv("GEOENC_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="gone"):
        cli.main(["list"])


# JSON


def strict(text: str):
    """What a strict reader of JSON finds."""

    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_lacks_are_null(capsys) -> None:
    print_json({"a": [math.nan, 1.5, (math.inf,)], "path": Path("x"), 3: "é"})
    assert strict(capsys.readouterr().out) == {"a": [None, 1.5, [None]], "path": "x", "3": "é"}


@pytest.fixture
def correct(tmp_path) -> Path:
    """Places, and whether a model was right there."""
    path = tmp_path / "correct.csv"
    rows = [f"{lon},{lat},{(lon + lat) % 3 < 2}" for lon in range(0, 40, 2) for lat in range(20)]
    path.write_text("\n".join(["lon,lat,correct", *rows]) + "\n")
    return path


@pytest.fixture
def model(tmp_path) -> Path:
    """A small classifier in a folder."""
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 4, hidden_features=4))
    geoenc.LocationClassifier(encoder, 2).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def converted(monkeypatch) -> list[str]:
    """``geoenc convert satclip`` of a file that need not exist."""
    made = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 4, hidden_features=4))
    made.metadata = {"source": "nowhere", "loss": math.nan}
    monkeypatch.setitem(geoenc.convert.FORMATS, "satclip", lambda path: made)
    return ["convert", "satclip", "any.ckpt"]


def said(arguments, capsys, code: int = 0):
    assert cli.main([str(one) for one in arguments]) == code
    return strict(capsys.readouterr().out)


def test_json_of_lists(capsys) -> None:
    found = said(["list", "--json"], capsys)
    assert set(found) == {"position", "network", "time"}
    wrap = next(one for one in found["position"] if one["name"] == "Wrap")
    assert (wrap["columns"], wrap["longest_wave"]) == (4, 360)
    known = said(["list", "pretrained", "--json"], capsys)
    assert [one["name"] for one in known] == [one.name for one in geoenc.list_pretrained()]


def test_json_of_data(tmp_path, capsys) -> None:
    made = ["data", "generate", "fmow", tmp_path, "--json"]
    folder = said(made, capsys)["folder"]
    assert Path(folder).is_dir()
    report = said(["data", "check", tmp_path, "--json"], capsys)
    assert report["ok"] is True
    assert report["datasets"][0]["name"] == "fmow"


def test_json_of_conversions_and_pages(converted, model, tmp_path, capsys) -> None:
    out = tmp_path / "converted"
    found = said([*converted, out, "--json"], capsys)
    made = geoenc.from_pretrained(out)
    parameters = sum(one.numel() for one in made.parameters())
    assert (found["folder"], found["parameters"]) == (str(out), parameters)
    assert found["model"] == made.config
    assert found["metadata"] == {"source": "nowhere", "loss": None}
    page = tmp_path / "page.html"
    found = said(["explore", model, "--rows", 10, "--out", page, "--no-open", "--json"], capsys)
    assert found == {"page": str(page), "bytes": page.stat().st_size, "training_points": None}


def test_json_of_scores(correct, capsys) -> None:
    assert said(["bias", correct, "--radius-km", 500, "--json"], capsys)["samples"] == 400


def test_json_of_a_run_is_its_results(tmp_path, capsys) -> None:
    pytest.importorskip("lightning_fabric")
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    lat = rng.uniform(-80, 80, 120)
    table = {"lon": rng.uniform(-180, 180, 120), "lat": lat, "label": np.where(lat > 0, "n", "s")}
    pd.DataFrame(table | {"feat_0": rng.normal(size=120)}).to_csv(tmp_path / "a.csv", index=False)
    settings = ["table.seeds=1", "table.fractions=[0.5]", "finetune.epochs=1", "pretrain.epochs=1"]
    settings += ["finetune.min_steps=1", "features.components=0", "hardware.accelerator=cpu"]
    settings += ['table.splits=["random"]', f"data.path={tmp_path / 'a.csv'}"]
    folder = tmp_path / "run"
    found = said(["run", "csp", *settings, "--out", folder, "--json"], capsys)
    assert found.pop("folder") == str(folder)
    assert found == strict((folder / "results.json").read_text())


# Nothing is overwritten


@pytest.mark.parametrize("what", ["convert", "bias", "embed", "explore", "run", "data"])
def test_nothing_is_overwritten_without_force(
    what, correct, model, converted, tmp_path, capsys
) -> None:
    out = tmp_path / ("there.parquet" if what == "embed" else "there")
    kept = out
    if what in ("convert", "run"):
        kept = out / ("config.json" if what == "convert" else "results.json")
    if what == "data":
        assert cli.main(["data", "generate", "fmow", str(out), "--samples", "12"]) == 0
        kept = next(one for one in sorted(out.rglob("*")) if one.is_file())
        capsys.readouterr()
    else:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("precious")
    before = kept.read_bytes()
    arguments = {
        "convert": [*converted, out],
        "bias": ["bias", correct, "--radius-km", 500, "--map", out],
        "embed": ["embed", correct, "--model", model, "--out", out],
        "explore": ["explore", model, "--rows", 10, "--no-open", "--out", out],
        "run": ["run", "csp", f"data.path={correct}", "--out", out],
        "data": ["data", "generate", "fmow", out, "--samples", 12],
    }[what]
    assert cli.main([str(one) for one in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("geoenc: expected")
    assert shown.out == ""
    assert kept.read_bytes() == before
    if what == "data":  # it deletes nothing, not even when told to
        return
    assert "--force" in shown.err
    if what in ("convert", "embed", "explore"):
        assert cli.main([str(one) for one in [*arguments, "--force"]]) == 0
        assert kept.read_bytes() != before


def test_new_paths(tmp_path) -> None:
    assert new_path(tmp_path / "new", force=False) == tmp_path / "new"
    assert new_path(tmp_path, force=True) == tmp_path
    with pytest.raises(FileExistsError, match="pass --force"):
        new_path(tmp_path, force=False)


# The page of a model


def test_explore_opens_the_browser_unless_told_not_to(model, tmp_path, capsys, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explore", str(model), "--rows", "10"]) == 0
    page = tmp_path / "explore-model.html"
    assert opened == [page.as_uri()]
    shown = capsys.readouterr()
    assert "explore-model.html" in shown.out
    assert "no browser" in shown.err
    assert cli.main(["explore", "Wrap(latitude_period=360.0)", "--rows", "10", "--no-open"]) == 0
    assert (tmp_path / "explore-Wrap-latitude_period-360.0.html").is_file()
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuchmodel"], "geoenc list pretrained"),
        (["XYZ", "--label", "x"], "--data"),
        (["XYZ", "--time", "never"], "dates such as"),
        (["XYZ", "--time", "1.5"], "fraction of the year"),
        (["XYZ", "--time", "0.5"], "expected no time"),
        (["XYZ", "--rows", "1"], "at least 2 rows"),
        (["FFN"], "position encoder"),
        (["XYZ", "--data", "nothing.csv"], "nothing.csv"),
    ],
)
def test_explore_explains_what_it_cannot_do(arguments, words, tmp_path, capsys) -> None:
    out = tmp_path / "page.html"
    assert cli.main(["explore", *arguments, "--no-open", "--out", str(out)]) == 1
    assert words in capsys.readouterr().err
    assert not out.exists()


# Completion


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """What bash offers for the last word of a command line, in a folder with a few files."""
    pytest.importorskip("shtab")
    folder = tmp_path_factory.mktemp("completion")
    done = subprocess.run(
        [sys.executable, "-m", "geoenc", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "script.bash").write_text(done.stdout)
    (folder / "points.parquet").touch()
    (folder / "models").mkdir()

    def offered(*words: str) -> set[str]:
        line = " ".join(shlex.quote(word) for word in ("geoenc", *words))
        code = (
            f"source ./script.bash; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
            "complete -p geoenc >&2; _shtab_geoenc; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        shown = subprocess.run(
            ["bash", "-c", code], capture_output=True, text=True, check=True, cwd=folder
        )
        assert "-F _shtab_geoenc geoenc" in shown.stderr
        return set(shown.stdout.split())

    return offered


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list", "p"], {"position", "pretrained"}),
        (["convert", "satclip", "po"], {"points.parquet"}),
        (["convert", "satclip", "points.parquet", ""], {"models"}),
        (["explore", "mo"], {"models"}),
        (["explore", "satclip-vit16-l"], {"satclip-vit16-l10", "satclip-vit16-l40"}),
        (["explore", "models", "--data", "p"], {"points.parquet"}),
        (["explore", "models", "--no"], {"--no-open"}),
        (["bias", "p"], {"points.parquet"}),
        (["bias", "points.parquet", "--map", "p"], {"points.parquet"}),
        (["embed", "p"], {"points.parquet"}),
        (["embed", "points.parquet", "--dtype", "f"], {"float32", "float16"}),
        (["run", "csp", "--out", "m"], {"models"}),
        (["data", "generate", "inat"], {"inat2017", "inat2018"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["list", "nothing"], set()),
    ],
)
def test_bash_completes(words, expected, completion) -> None:
    assert completion(*words) == expected


def test_bash_completes_commands(completion) -> None:
    assert completion("") == set(cli.COMMANDS)
    assert completion("con") == {"convert"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_with_all_commands(shell, capsys) -> None:
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", shown) for name in cli.COMMANDS)


def test_completion_names_the_extra_that_it_needs(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 1
    assert "geoenc[cli]" in capsys.readouterr().err
