"""Every settings file of the benchmarks can be read, every row of it makes an encoder."""

from pathlib import Path

import pytest

from geoenc import LocationEncoder
from geoenc.recipes.config import for_method, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "benchmarks" / "configs").glob("*.toml"))


def test_there_are_files() -> None:
    assert {path.stem for path in CONFIGS} >= {"africa-wealth", "globe-chips-ablation"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_row_is_understood(path: Path) -> None:
    config = load_config(path)
    assert config.methods
    for method in config.methods:
        row = for_method(config, method)
        if row.use_location:
            encoder = LocationEncoder.from_config(vars(row.encoder))
            assert encoder.out_features == row.encoder.network["out_features"]
