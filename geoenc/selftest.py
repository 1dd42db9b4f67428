"""Does this installation work? ``python -m geoenc.selftest``: seconds, no network, no files left.

It prints versions, the platform and one line per check. Paste all of it into a bug report.
"""

import importlib
import inspect
import pkgutil
import platform
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import metadata
from typing import Any

import torch

import geoenc
from geoenc import losses, native, testing
from geoenc.component import Component
from geoenc.models import ImageLocationClassifier
from geoenc.properties import required

Check = tuple[str, Callable[[], object]]

NEEDED = ("torch", "numpy", "scipy", "geopandas", "shapely", "safetensors", "jsonargparse")
OPTIONAL = (
    *("pandas", "pyproj", "lightning-fabric", "tqdm", "pillow", "scikit-learn", "matplotlib"),
    *("pyarrow", "huggingface-hub", "h3", "transformers", "onnx", "onnxruntime"),
)

SMALL: dict[str, Any] = {
    **{"num_frequencies": 4, "num_features": 8, "degree": 4, "num_anchors": 6, "num_atoms": 4},
    **{"num_sites": 12, "site_features": 6, "num_tokens": 5, "num_levels": 2, "table_size": 128},
    **{"base_resolution": 4, "height": 8, "width": 18, "num_columns": 4, "num_rows": 3},
    **{
        "sigma_km": 300.0,
        "bandwidth": 40.0,
        "cell_size": 13.0,
        "in_features": 5,
        "out_features": 4,
    },
    **{"hidden_features": 6, "depth": 2, "num_classes": 3, "num_entries": 5},
}
"""Sizes by the names of constructor arguments, with which a check takes a blink."""

CONTRACTS: list[tuple[type, Callable[..., None]]] = [
    (geoenc.PositionEncoder, testing.check_position_encoder),
    (geoenc.Network, testing.check_network),
    (geoenc.TimeEncoder, testing.check_time_encoder),
]


def versions() -> dict[str, str]:
    """The library, what it needs, what it can use, and the machine."""
    found = {"geoenc": geoenc.__version__, "Python": platform.python_version()}
    for name in (*NEEDED, *OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent" if name in NEEDED else "-"
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found["platform"] = platform.platform()
    found["threads"] = str(torch.get_num_threads())
    found["GPU"] = ", ".join(cards) or "-"
    found["C kernels"] = "-" if native.load_kernels() is None else "built"
    return found


def checks() -> Iterator[Check]:
    """Every module is imported, every component and loss keeps its contract, weights survive."""
    for name in modules():
        yield f"import {name}", partial(importlib.import_module, name)
    for name, cls in sorted(Component.registry.items()):
        contract = next((check for kind, check in CONTRACTS if issubclass(cls, kind)), None)
        if contract is not None:
            yield f"contract {name}", partial(check_contract, cls, contract)
    for model in models():
        name = type(model).__name__
        yield f"contract {name}", partial(testing.check_model, model)
        yield f"save and load {name}", partial(check_saved, model)
    for loss in (geoenc.InfoNCELoss(), geoenc.CSPLoss(), geoenc.PresenceAbsenceLoss()):
        yield f"contract {type(loss).__name__}", partial(testing.check_loss, loss)
    yield "places", check_places
    yield "training", check_training


def modules() -> list[str]:
    """All modules of the library but the one that is the command line itself."""
    found = pkgutil.walk_packages(geoenc.__path__, "geoenc.")
    return [one.name for one in found if not one.name.endswith("__main__")]


def small(cls: Any) -> Any:
    """A component of a class, with small sizes and the same numbers each time.

    Raises:
        TypeError: an argument without a default that is no size.
    """
    unknown = [name for name in required(cls) if name not in SMALL]
    if unknown:
        raise TypeError(
            f"expected sizes that SMALL knows, got {unknown} of {cls.__name__}; give them a default"
        )
    names = inspect.signature(cls).parameters
    arguments = {name: value for name, value in SMALL.items() if name in names}
    if "generator" in names:
        arguments["generator"] = torch.Generator().manual_seed(0)
    return cls(**arguments)


def models() -> list[Any]:
    """One of each kind, small."""

    def encoder() -> geoenc.LocationEncoder:
        return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 4, hidden_features=6))

    timed = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 4), geoenc.CyclicTime())
    return [
        timed,
        geoenc.SumEncoder([encoder(), encoder()]),
        geoenc.DualEncoder(encoder(), geoenc.FFN(5, 4)),
        geoenc.LocationClassifier(encoder(), 3),
        ImageLocationClassifier(encoder(), 5, 3),
        geoenc.RetrievalAugmented(
            encoder(), geoenc.RetrievalDatabase(5, in_features=4, out_features=3)
        ),
    ]


def check_contract(cls: type[Component], contract: Callable[..., None]) -> None:
    """What the family of a class promises, of a small one."""
    contract(small(cls))


def check_saved(model: Any) -> None:
    """What is read from a folder has the weights and the settings that were written."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/model")
        again = geoenc.from_pretrained(f"{folder}/model")
    assert again.config == model.config, "expected the settings that were saved, got others"
    state = again.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value), f"expected {name} as it was saved, got other values"


def check_places() -> None:
    """The gate wraps longitudes and refuses latitudes that cannot be."""
    assert geoenc.as_lonlat([(190.0, 10.0)]).tolist() == [[-170.0, 10.0]]
    try:
        geoenc.as_lonlat([(37.87, -122.27)])
    except ValueError:
        return
    raise AssertionError("expected a latitude of -122 degrees to be refused, got a place")


def check_training() -> None:
    """Twenty steps of contrastive training lower the loss."""
    generator = torch.Generator().manual_seed(0)
    lonlat = geoenc.sampling.uniform(64, generator=generator)
    position = geoenc.Space2VecGrid(8)
    location = geoenc.LocationEncoder(position, geoenc.FFN(position.out_features, 8))
    with torch.no_grad():
        for weight in location.parameters():
            weight.normal_(0.0, 0.1, generator=generator)
    features = torch.randn(64, 8, generator=generator)
    optimizer = torch.optim.Adam(location.parameters(), lr=1e-2)
    history = []
    for _ in range(20):
        loss = losses.InfoNCELoss()(location.eval()(lonlat), features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0], f"expected a falling loss, got {history[0]} to {history[-1]}"


def outcome(check: Callable[[], object]) -> tuple[str, str]:
    """``ok``, ``absent`` (an extra that is not installed) or ``FAILED``, and what there is to say.

    What fails in any way is told, and the next check is run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check()
    except ImportError as error:
        return ("absent", str(error)) if "geoenc[" in str(error) else ("FAILED", _trace())
    except Exception:
        return "FAILED", _trace()
    return "ok", ""


def _trace() -> str:
    return "\n" + traceback.format_exc()


def main(all_checks: Iterable[Check] | None = None) -> int:
    """Run the checks, print a table, and return 0 if none failed, else 1."""
    for name, version in versions().items():
        print(f"{name:18}{version}")
    print()
    counts, start = Counter[str](), time.perf_counter()
    for name, check in checks() if all_checks is None else all_checks:
        began = time.perf_counter()
        result, message = outcome(check)
        counts[result] += 1
        print(f"{result:8}{name:52}{time.perf_counter() - began:6.2f} s  {message}".rstrip())
    told = ", ".join(f"{counts[one]} {one}" for one in ("ok", "absent", "FAILED"))
    print(f"\n{told} in {time.perf_counter() - start:.1f} s")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
