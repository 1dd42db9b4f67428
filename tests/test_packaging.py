"""What is built holds what it needs; bounds, types, public names and the publishing workflow."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import geoenc

ROOT = Path(geoenc.__file__).parent
REPOSITORY = Path(__file__).parents[1]
EXAMPLE = '''
"""A user's script."""

import torch

import geoenc
from geoenc.conformal import ConformalRegressor
from geoenc.priors import GeoPrior, NearestNeighbors

position = geoenc.Space2VecGrid(16, max_radius=360.0)
encoder = geoenc.LocationEncoder(position, geoenc.FFN(position.out_features, 64))
classifier = geoenc.LocationClassifier(encoder, 5)
loss = geoenc.PresenceAbsenceLoss()
lonlat: torch.Tensor = geoenc.as_lonlat([(2.35, 48.86), (13.4, 52.52)])
target: torch.Tensor = torch.tensor([0, 1])
value: torch.Tensor = loss(classifier(lonlat), target, classifier(lonlat))
embedding: torch.Tensor = encoder.embed([(2.35, 48.86)])
again = geoenc.LocationEncoder.from_pretrained("model")
width: int = again.out_features
prior = NearestNeighbors(1).fit(lonlat, target, 2)
both: torch.Tensor = GeoPrior()(prior.probabilities(lonlat), prior.probabilities(lonlat))
low, high = ConformalRegressor(0.5).calibrate(lonlat, [0.0], [1.0]).interval(lonlat, [0.0])
total: float = float(low[0]) + float(high[0])
wrong: int = encoder.embed(lonlat)
'''


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return found


def dependencies() -> list[str]:
    table = project()
    extras = chain.from_iterable(table["optional-dependencies"].values())
    return [*table["dependencies"], *extras]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network by hatchling itself."""
    pytest.importorskip("hatchling.build", reason="hatchling is not installed; pip install build")
    folder = tmp_path_factory.mktemp("dist")
    code = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("geoenc/")}
    wanted = {
        path.relative_to(ROOT.parent).as_posix()
        for path in ROOT.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted
    assert {"geoenc/py.typed", "geoenc/catalogue.toml", "geoenc/recipes/csp.toml"} <= held


def test_every_package_folder_is_a_package() -> None:
    """A folder without __init__.py is a namespace: type checkers and zip files lose it."""
    folders = {path.parent for path in ROOT.rglob("*.py") if "assets" not in path.parts}
    assert not [folder.name for folder in folders if not (folder / "__init__.py").is_file()]


def test_what_is_imported_is_declared() -> None:
    """Third-party modules that the library names are a dependency or belong to an extra."""
    stated = [re.split(r"[\[<>=!~ ;]", one)[0] for one in dependencies()]
    names = {one.lower().replace("-", "_") for one in stated}
    other = {"PIL": "pillow", "sklearn": "scikit_learn"}
    through = {"pandas": "geopandas", "pyproj": "geopandas", "pyogrio": "geopandas"}
    through["threadpoolctl"] = "scikit_learn"
    found: dict[str, str] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                modules = [ast.unparse(node.args[0]).lstrip("f").strip("'\"")]
            found |= {re.split(r"\W", module)[0]: str(path) for module in modules}
    foreign = set(found) - set(sys.stdlib_module_names) - {"geoenc", "IPython", "__future__"}
    missing = [
        f"{name} in {found[name]}"
        for name in foreign
        if not {name.lower(), other.get(name), through.get(name)} & names
    ]
    assert not missing, f"declare {missing} in pyproject.toml"


def test_every_dependency_has_a_lower_bound() -> None:
    tools = ("geoenc[", "pandas-stubs", "build", "pyright")
    loose = [one for one in dependencies() if ">=" not in one and not one.startswith(tools)]
    assert not loose, f"give {loose} the lowest version that was tried"


@pytest.mark.parametrize(
    "name",
    sorted(
        ".".join(("geoenc", *path.parent.relative_to(ROOT).parts))
        for path in ROOT.rglob("__init__.py")
        if path.parent != ROOT and path.parent.parent == ROOT
    ),
)
def test_public_packages_say_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    has_names = any(isinstance(node, ast.ImportFrom | ast.Import) for node in tree.body)
    assert not has_names or module.__all__, f"{name} has names and no __all__"


@pytest.mark.slow
def test_types_of_a_users_script(tmp_path: Path) -> None:
    """mypy --strict sees the types of the library, and finds the one mistake."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed; pip install mypy")
    script = tmp_path / "script.py"
    script.write_text(EXAMPLE)
    wrong = 1 + EXAMPLE[: EXAMPLE.index("wrong: int")].count("\n")
    told, _, _ = api.run(
        ["--strict", f"--cache-dir={tmp_path / 'cache'}", "--no-error-summary", "--no-pretty",
         "--follow-imports=silent", "--ignore-missing-imports", str(script)]
    )  # fmt: skip
    lines = [line for line in told.splitlines() if "script.py" in line]
    assert [f":{wrong}: error: Incompatible types" in line for line in lines] == [True], told


def test_publishing_builds_tries_and_keeps_no_password() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (REPOSITORY / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["try"]["needs"] == "build"
    assert jobs["pypi"]["needs"] == "try"
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
    assert "password:" not in text
    steps = [step for job in jobs.values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d[\d.]*", action) for action in actions), actions
    lowest = project()["requires-python"].removeprefix(">=")
    tried = jobs["try"]["strategy"]["matrix"]["include"]
    assert {"python": lowest, "versions": "lowest"}.items() <= tried[0].items()
    assert any("geoenc.selftest" in step.get("run", "") for step in steps)


def test_release_notes_begin_with_this_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.M)
    assert versions[0] in (geoenc.__version__, "Unreleased")
    assert geoenc.__version__ in versions
