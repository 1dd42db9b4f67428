"""Floors, public names and conventions, read from the source: the structure is a test."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import geoenc

ROOT = Path(geoenc.__file__).parent
SOURCES = {
    ".".join(("geoenc", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}

FLOORS: dict[str, float] = {
    # primitives: pure functions
    "geoenc.coordinates": 0,
    "geoenc.fourier": 0,
    "geoenc.harmonics": 0.5,
    "geoenc.sampling": 0,
    "geoenc.waves": 0.5,
    "geoenc.native": 0.25,
    "geoenc.distributed": 0,
    "geoenc.simplices": 0,
    "geoenc._optional": 0,
    "geoenc._files": 0,
    "geoenc._memory": 0,
    # component machinery
    "geoenc.component": 1,
    "geoenc.pretrained": 1,
    "geoenc.catalogue": 1,
    # parts
    "geoenc.properties": 0.5,
    "geoenc.position": 2,
    "geoenc.network": 2,
    "geoenc.temporal": 2,
    # models, losses, metrics
    "geoenc.encoder": 3,
    "geoenc.models": 3,
    "geoenc.retrieval": 3.5,
    "geoenc.published": 3.5,
    "geoenc.losses": 3,
    "geoenc.metrics": 3,
    "geoenc.priors": 3.5,
    # the outside world: first what reads it, then what shows it
    "geoenc.data": 4,
    "geoenc.testing": 4,
    "geoenc.predictions": 4,
    "geoenc.compare": 4.5,
    "geoenc.convert": 4.5,
    "geoenc.frames": 4.5,
    "geoenc.hub": 4.75,
    "geoenc.estimator": 4.8,
    "geoenc.tables": 4.8,
    "geoenc._stored": 4.8,
    "geoenc.streaming": 4.9,
    "geoenc.batches": 4.9,
    "geoenc.explore": 4.95,
    "geoenc.grids": 4.95,
    "geoenc.plot": 4.5,
    "geoenc.splits": 4.5,
    "geoenc.bias": 4.75,
    "geoenc.support": 4.6,
    "geoenc.conformal": 4.7,
    "geoenc.selftest": 5.5,
    # recipes, then the command line
    "geoenc.recipes": 5,
    "geoenc.bench": 5,
    "geoenc.cli": 6,
    "geoenc.__main__": 7,
}
"""A module imports from floors strictly below its own, and from siblings in its own package."""

NEVER = [
    ("geoenc.position", "geoenc.network", "parts do not import each other"),
    ("geoenc.network", "geoenc.position", "parts do not import each other"),
    ("geoenc.temporal", "geoenc.position", "parts do not import each other"),
    ("geoenc.models", "geoenc.losses", "models do not import losses"),
    ("geoenc.encoder", "geoenc.losses", "models do not import losses"),
    ("geoenc.losses", "geoenc.position", "losses see embeddings, not parts"),
    ("geoenc.losses", "geoenc.network", "losses see embeddings, not parts"),
    ("geoenc.losses", "geoenc.encoder", "losses see embeddings, not models"),
    ("geoenc.losses", "geoenc.models", "losses see embeddings, not models"),
    ("geoenc.metrics", "geoenc.encoder", "metrics are functions of tensors"),
    ("geoenc.metrics", "geoenc.models", "metrics are functions of tensors"),
    ("geoenc.metrics", "geoenc.losses", "metrics are functions of tensors"),
    ("geoenc.data", "geoenc.encoder", "data sets do not see models"),
    ("geoenc.data", "geoenc.models", "data sets do not see models"),
    ("geoenc.data", "geoenc.losses", "data sets do not see losses"),
]

PUBLIC = {
    *(
        "LocationEncoder",
        "SumEncoder",
        "DualEncoder",
        "LocationClassifier",
        "from_pretrained",
        "ImageLocationClassifier",
    ),
    *("RetrievalAugmented", "RetrievalDatabase", "list_pretrained"),
    *("Direct", "Wrap", "XYZ", "Tile", "Space2VecGrid", "Space2VecTheory"),
    *("Sphere2VecC", "Sphere2VecCPlus", "Sphere2VecM", "Sphere2VecMPlus", "Sphere2VecDFS"),
    *("NeRF", "RFF", "RBF", "SphericalHarmonics"),
    *("GPS2VecCells", "HashGrid", "Herglotz", "Raster", "SoftVoronoi"),
    *("FFN", "Linear", "ResidualNet", "Siren", "CyclicTime", "LinearTime"),
    *("InfoNCELoss", "CSPLoss", "PresenceAbsenceLoss", "LocationQueue"),
    *("PositionEncoder", "Network", "TimeEncoder", "as_lonlat"),
}
NOT_YET: set[str] = set()
"""Names the library has promised and may still lack; take a name out when it arrives."""

LATE = [
    "geopandas",
    "pandas",
    "shapely",
    "scipy",
    "matplotlib",
    "sklearn",
    "lightning_fabric",
    "tqdm",
    "jsonargparse",
    "PIL",
    "pyarrow",
    "zarr",
    "rasterio",
    "h3",
    "transformers",
    "safetensors",
    "huggingface_hub",
]
"""Imported where they are first used, never by ``import geoenc``."""


def floor(module: str) -> float | None:
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        found = FLOORS.get(".".join(parts[:length]))
        if found is not None:
            return found
    return None


def package(module: str) -> str:
    return module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Modules of geoenc that a module imports, anywhere in the file, with the line."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                home = package(module).split(".")
                base = ".".join([*home[: len(home) - node.level + 1], *([base] if base else [])])
            joined = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in SOURCES else base for name in joined]
            if base == "geoenc":
                names = [
                    name
                    for name in names
                    if name != "geoenc" or node.names[0].name != "__version__"
                ]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "geoenc")


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "geoenc"])
def test_module_imports_downwards_only(module: str) -> None:
    own = floor(module)
    assert own is not None, f"{module} has no floor: add it to FLOORS, above all that it imports"
    for other, line in imports(module):
        where = f"{SOURCES[module].relative_to(ROOT.parent)}:{line} imports {other}"
        if other == "geoenc":
            assert own > 3, f"{where}, which imports floors 0 to 3"
            continue
        below = floor(other)
        assert below is not None, f"{where}, which has no floor"
        sibling = own == below and package(other).startswith(package(module))
        assert below < own or sibling, f"{where}: floor {own} sees only floors below, not {below}"
        for user, used, reason in NEVER:
            forbidden = (module + ".").startswith(user + ".") and (other + ".").startswith(
                used + "."
            )
            assert not forbidden, f"{where}: {reason}"


def test_floors_name_modules_that_exist_or_are_promised() -> None:
    promised = {"geoenc.harmonics", "geoenc.convert", "geoenc.frames", "geoenc.__main__"}
    gone = [name for name in FLOORS if name not in SOURCES and name not in promised]
    assert not gone, f"take {gone} out of FLOORS"


def functions(module: str, names: set[str]) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            yield node


@pytest.mark.parametrize("module", SOURCES)
def test_forward_stays_on_the_device(module: str) -> None:
    """No NumPy, .cpu(), .cuda(), .numpy(), .item(), .tolist() or print in forward and encode."""
    for function in functions(module, {"forward", "encode"}):
        for node in ast.walk(function):
            where = f"{module}:{getattr(node, 'lineno', function.lineno)} ({function.name})"
            if isinstance(node, ast.Attribute):
                leaves = node.attr in ("cpu", "cuda", "item", "tolist", "numpy")
                assert not leaves, f"{where} calls .{node.attr}(), which leaves the device"
            if isinstance(node, ast.Name):
                assert node.id not in ("np", "numpy", "print"), f"{where} uses {node.id}"


@pytest.mark.parametrize("module", SOURCES)
def test_randomness_and_devices_are_arguments(module: str) -> None:
    """The library seeds nothing globally and no module takes a device."""
    tree = ast.parse(SOURCES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            seeds = called in ("torch.manual_seed", "np.random.seed", "random.seed")
            allowed = module.startswith("geoenc.recipes")
            assert not seeds or allowed, f"{module}:{node.lineno} seeds globally: {called}"
        if isinstance(node, ast.ImportFrom):
            star = any(alias.name == "*" for alias in node.names)
            assert not star, f"{module}:{node.lineno} imports *"
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    names = [a.arg for a in (*method.args.args, *method.args.kwonlyargs)]
                    assert "device" not in names or "Module" not in ast.unparse(node), (
                        f"{module}:{method.lineno}: {node.name} takes a device; use .to(device)"
                    )


def test_public_names() -> None:
    absent = sorted(name for name in PUBLIC - NOT_YET if not hasattr(geoenc, name))
    assert not absent, f"public names gone from geoenc: {absent}"
    arrived = sorted(name for name in NOT_YET if hasattr(geoenc, name))
    assert not arrived, f"take {arrived} out of NOT_YET: they are here to stay"
    more = sorted(set(geoenc.__all__) - PUBLIC)
    assert not more, f"new public names {more}: add them to PUBLIC if they are meant to stay"


@pytest.mark.parametrize("name", [m for m, path in SOURCES.items() if path.name == "__init__.py"])
def test_all_is_what_can_be_imported(name: str) -> None:
    if SOURCES[name].read_text().count("import ") == 0:
        return
    module = importlib.import_module(name)
    names = module.__all__
    assert len(names) == len(set(names)), "a name twice in __all__"
    missing = [one for one in names if not hasattr(module, one)]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"
    hidden = [
        one
        for one, value in vars(module).items()
        if not one.startswith("_")
        and one not in names
        and type(value) is not type(sys)
        and getattr(value, "__module__", "").startswith("geoenc")
    ]
    assert not hidden, f"{name} has {hidden} without saying so in __all__"


SUBMODULES = [
    *("coordinates", "sampling", "losses", "metrics", "data", "plot", "testing", "recipes"),
    "published",
]


def test_submodules_are_there_after_import_geoenc() -> None:
    """The prefix is part of the name: ``import geoenc`` is enough for ``geoenc.metrics``."""
    code = (
        "import geoenc; "
        f"print(all(name in dir(geoenc) for name in {SUBMODULES!r})); "
        f"print([getattr(geoenc, name).__name__ for name in {SUBMODULES!r}]); "
        "print(hasattr(geoenc, 'nosuch'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    wanted = str([f"geoenc.{name}" for name in SUBMODULES])
    assert result.stdout.splitlines() == ["True", wanted, "False"]


def test_import_is_light() -> None:
    """Beyond torch and NumPy: none of the heavy packages, and none of geoenc's upper floors."""
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import geoenc; "
        "print(' '.join({name for name in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    imported = result.stdout.split()
    upper = ("geoenc.data", "geoenc.testing", "geoenc.plot", "geoenc.recipes", "geoenc.cli")
    upper += ("geoenc.published",)
    heavy = [name for name in imported if name in LATE or name in upper]
    assert not heavy, f"import geoenc imports {heavy}; import them where they are first used"
    foreign = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert foreign <= {"geoenc", "torch", "numpy"}, f"import geoenc imports {foreign}"


def test_version_is_a_version() -> None:
    assert [part.isdigit() for part in geoenc.__version__.split(".")[:2]] == [True, True]
    assert (ROOT / "py.typed").is_file()
