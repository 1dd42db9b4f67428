"""Settings: what is read, what is laid over, and what is refused."""

import dataclasses

import pytest

from geoenc.recipes.config import Config, for_method, load_config, merged


def test_shipped_settings_name_the_rows_of_the_paper() -> None:
    assert list(load_config().methods) == [
        "Image only",
        "Sup. Only (wrap)",
        "Sup. Only (grid)",
        "MSE",
        "CSP-NCE-BLD",
        "CSP-MC-BLD",
    ]


def test_shipped_settings_meet_the_experiment_of_the_paper() -> None:
    table = load_config().table
    assert table.seeds >= 3
    assert table.fractions == (0.05, 0.1, 0.2, 1.0)
    assert table.splits == ("random", "blocked")


def test_overrides_win_and_keep_their_type() -> None:
    config = load_config(
        overrides=["pretrain.epochs=3", "table.fractions=[0.5]", "encoder.position.min_radius=7"]
    )
    assert config.pretrain.epochs == 3
    assert config.table.fractions == (0.5,)
    assert config.encoder.position["min_radius"] == 7
    assert config.encoder.position["name"] == "Space2VecGrid"


def test_quick_needs_its_table() -> None:
    with pytest.raises(ValueError, match=r"expected a table \[quick\] in .*csp-paper-fmow"):
        load_config("csp-paper-fmow", quick=True)


def test_quick_applies_its_table() -> None:
    assert load_config(quick=True).table.seeds == 1
    assert load_config(quick=True).methods == load_config().methods


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pretrain.lr=1", "lr"),
        ("epochs=1", "epochs"),
        ("pretrain.epochs=many", "epochs"),
        ("pretrain.objective=magic", "objective"),
        ("pretrain.epochs", "key=value"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_config(overrides=[override])


def test_a_file_may_not_hold_unknown_keys(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[pretrain]\nlearning_rate = 0.1\nspeed = 3\n")
    with pytest.raises(ValueError, match="speed"):
        load_config(path)


def test_a_file_that_is_not_toml_is_refused(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("pretrain: 3\n")
    with pytest.raises(ValueError, match="expected TOML"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


def test_a_method_replaces_components_and_keeps_the_rest() -> None:
    config = load_config(overrides=["pretrain.epochs=3"])
    wrap = for_method(config, "Sup. Only (wrap)")
    assert wrap.encoder.position == {"name": "Wrap"}
    assert wrap.encoder.network["name"] == "ResidualNet"
    assert wrap.pretrain.objective == "none"
    assert wrap.pretrain.epochs == 3
    assert for_method(config, "CSP-NCE-BLD").pretrain.criterion == "nce"


def test_a_method_with_an_unknown_key_is_named() -> None:
    config = dataclasses.replace(Config(), methods={"Odd": {"pretrain": {"speed": 1}}})
    with pytest.raises(ValueError, match=r"Odd.*speed"):
        for_method(config, "Odd")


def test_merged_changes_neither_argument() -> None:
    base = {"a": {"b": 1}}
    result = merged(base, {"a": {"c": [2]}})
    result["a"]["c"].append(3)
    assert base == {"a": {"b": 1}}
    assert merged({"p": {"name": "A", "x": 1}}, {"p": {"name": "B"}}) == {"p": {"name": "B"}}


def test_a_file_is_laid_over_its_base(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "csp-paper-fmow"\n[pretrain]\nepochs = 7\n')
    config, base = load_config(path), load_config("csp-paper-fmow")
    assert config.pretrain.epochs == 7
    assert config.pretrain.learning_rate == base.pretrain.learning_rate
    assert config.encoder == base.encoder
    path.write_text('base = "nothing"\n')
    with pytest.raises(FileNotFoundError, match=r"one of csp, csp-checkpoint-fmow.*'nothing'"):
        load_config(path)


def test_rows_are_chosen_by_name() -> None:
    config = load_config(overrides=['table.methods=["MSE", "Image only"]'])
    assert list(config.methods) == ["MSE", "Image only"]
    with pytest.raises(ValueError, match=r"expected table\.methods among Image only.*got MSF"):
        load_config(overrides=['table.methods=["MSF"]'])
