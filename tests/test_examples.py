"""The programs that the pages show, in a process of their own as a reader would start them."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent / "examples"


def need(*modules: str) -> None:
    """Skip without them. Lightning may fail with torchvision's error, which is no ImportError."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            pytest.skip(f"{module} could not be imported: {type(error).__name__}: {error}")


def run(name: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_lightning_learns_which_places_suit_an_image(tmp_path: Path) -> None:
    need("lightning")
    import geoenc

    before, after = eval(run("lightning_csp", tmp_path).splitlines()[-1])
    assert before < 0.15
    assert after > 3 * before
    encoder = geoenc.from_pretrained(tmp_path / "location-encoder")
    assert encoder.embed([(2.35, 48.86)]).shape == (1, 64)


def test_a_transform_puts_the_place_beside_the_image(tmp_path: Path) -> None:
    scores = eval(run("torchgeo_style", tmp_path))
    assert scores["image alone"] < 0.8, "two of the classes look alike"
    assert scores["with place"] > scores["image alone"] + 0.1


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("dask_points", ("dask.dataframe", "distributed", "pyarrow")),
        pytest.param("ray_points", ("ray.data", "pyarrow"), marks=pytest.mark.slow),
    ],
)
def test_engines_embed_a_table(name: str, modules: tuple[str, ...], tmp_path: Path) -> None:
    need(*modules)
    import numpy as np
    import pyarrow.dataset

    import geoenc

    run(name, tmp_path)
    table = pyarrow.dataset.dataset(tmp_path / "embedded", format="parquet").to_table().to_pandas()
    assert len(table) == 10_000
    numbers = np.stack(table["embedding"]) if "embedding" in table else table.filter(like="emb_")
    places = table[["lon", "lat"]].to_numpy()
    wanted = geoenc.from_pretrained(tmp_path / "model").embed(places)
    np.testing.assert_allclose(np.asarray(numbers, dtype=float), wanted, rtol=1e-3, atol=1e-4)
