"""Spherical harmonics beside sphericart and the generated expressions of the originals.

    python -m benchmarks.speed.harmonics                     a minute: degree 9 and 39, fewer places
    python -m benchmarks.speed.harmonics --full              100,000 places, degree 9, 19, 39, 99
    python -m benchmarks.speed.harmonics --start             import and first calls only

One thread, processor time of the process, all ways in turns. Peers are found where they are:

- ``sphericart-torch`` if installed;
- the expressions of SatCLIP and locationencoder in checkouts named by ``GEOENC_SATCLIP`` and
  ``GEOENC_LOCATIONENCODER``, in which ``spherical_harmonics_ylm.py`` was made by
  ``python spherical_harmonics_generate_ylms.py > spherical_harmonics_ylm.py`` (degree 39 is
  enough). They are slow, and see half of the places at degree 9, a 32nd at 39.

Every row has its largest error at the last places, poles among them, against 60 digits. The limit
is the time to write the result into existing memory. "in cache" hands each block of codes over
and writes no result; "compiled" is `geoenc.native`, which needs a C compiler: without one (or with
``CC=false``) these rows are as slow as the others.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import torch
from torch import Tensor

import geoenc
from benchmarks.shared import RESULTS, ROOT
from benchmarks.speed import limits
from geoenc.coordinates import to_xyz
from geoenc.harmonics import block_rows

FILE = RESULTS / "speed" / "harmonics.jsonl"
HARD = [(0.0, 90.0), (77.0, -90.0), (30.0, 89.0), (-120.0, -85.0), (10.0, 45.0), (-70.0, 0.5)]
PEERS = {
    "SatCLIP": ("GEOENC_SATCLIP", "satclip/positional_encoding"),
    "locationencoder": ("GEOENC_LOCATIONENCODER", "locationencoder/pe"),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}

Way = Callable[[], Tensor | None]


def places(count: int) -> Tensor:
    """Uniform on the sphere, the last ones hard: poles and near them."""
    some = geoenc.sampling.uniform(count - len(HARD), generator=torch.Generator().manual_seed(0))
    return torch.cat([some, torch.tensor(HARD, dtype=some.dtype)])


def truth(degree: int) -> Tensor:
    """Harmonics at the hard places in 60 digits, by Legendre functions of each order."""
    table = torch.zeros(len(HARD), (degree + 1) ** 2, dtype=torch.float64)
    mpmath.mp.dps = 60
    for row, (lon, lat) in enumerate(HARD):
        lon, lat = mpmath.radians(mpmath.mpf(lon)), mpmath.radians(mpmath.mpf(lat))
        z, s = mpmath.sin(lat), mpmath.cos(lat)
        for m in range(degree + 1):
            before, value = mpmath.mpf(0), mpmath.fac2(2 * m - 1) * s**m
            for level in range(m, degree + 1):
                if level > m:
                    step = (2 * level - 1) * z * value - (level + m - 1) * before
                    before, value = value, step / (level - m)
                norm = (2 * level + 1) * mpmath.fac(level - m) / mpmath.fac(level + m)
                scaled = mpmath.sqrt((2 if m else 1) * norm / (4 * mpmath.pi)) * value
                middle = level * level + level
                table[row, middle - m] = float(scaled * mpmath.sin(m * lon))
                table[row, middle + m] = float(scaled * mpmath.cos(m * lon))
    return table


def expressions(name: str, degree: int) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """The encoder of a checkout, or None and why not; its package is not run, only this folder."""
    variable, inside = PEERS[name]
    root = os.environ.get(variable)
    if root is None:
        return None, f"no checkout in {variable}"
    folder = Path(root) / inside
    if not (folder / "spherical_harmonics_ylm.py").is_file():
        return None, "spherical_harmonics_ylm.py was not generated"
    package = types.ModuleType(f"original_{name}")
    package.__path__ = [str(folder)]
    sys.modules.setdefault(package.__name__, package)
    module = importlib.import_module(f"{package.__name__}.spherical_harmonics")
    table = sys.modules[f"{package.__name__}.spherical_harmonics_ylm"]
    if not hasattr(table, f"Yl{degree}_m0"):
        return None, f"not generated up to degree {degree}"
    return module.SphericalHarmonics(degree + 1, harmonics_calculation="analytic"), ""


def factors(name: str, degree: int) -> Tensor:
    """What turns its columns into harmonics: it looks from the antipode, SatCLIP with a pi."""
    rows = []
    for level in range(degree + 1):
        row = torch.ones(2 * level + 1, dtype=torch.float64) * (-1) ** level
        row[level] /= torch.pi if name == "SatCLIP" else 1
        rows.append(row)
    return torch.cat(rows)


def forward_ways(degree: int, dtype: torch.dtype, count: int) -> dict[str, Any]:
    """Name to (places, function, factors of its columns), or to why it is absent."""
    lonlat = places(count)
    encoder = geoenc.SphericalHarmonics(degree).to(dtype)
    columns = torch.zeros(encoder.out_features, count, dtype=dtype).mT
    rows = torch.zeros(count, encoder.out_features, dtype=dtype)

    def consumed(compile: bool) -> Tensor:
        for _, code in encoder.blocks(lonlat, compile=compile):
            last = code
        return last

    def written(out: Tensor, compile: bool) -> Way:
        return lambda: encoder.write(lonlat, out, compile=compile)

    ways: dict[str, Any] = {
        "geoenc, in cache, compiled": (count, lambda: consumed(True), 1),
        "geoenc, into rows, compiled": (count, written(rows, True), 1),
        "geoenc, new memory, compiled": (count, lambda: encoder(lonlat), 1),
        "geoenc, in cache": (count, lambda: consumed(False), 1),
        "geoenc, into columns": (count, written(columns, False), 1),
        "geoenc, into rows": (count, written(rows, False), 1),
    }
    try:
        from sphericart.torch import SphericalHarmonics
    except ImportError:
        ways["sphericart"] = "not installed"
    else:
        peer, xyz = SphericalHarmonics(degree), to_xyz(lonlat).to(dtype)
        ways["sphericart"] = (count, lambda: peer(xyz), 1)

        def in_blocks() -> Tensor:
            for part in xyz.split(block_rows(degree)):
                last = peer(part)
            return last

        ways["sphericart, in cache"] = (count, in_blocks, 1)
    if dtype == torch.float64:
        few = places(max(len(HARD), count * 50 // (degree + 1) ** 2))
        for name in PEERS:
            original, why = expressions(name, degree)
            if original is None:
                ways[name] = why
                continue
            ways[name] = (len(few), lambda f=original: f(few), factors(name, degree))
    return ways


def gradient_ways(degree: int, dtype: torch.dtype, count: int) -> dict[str, Any]:
    """Forward and backward, by the places for ours and by unit vectors for sphericart."""
    lonlat = places(count)
    encoder = geoenc.SphericalHarmonics(degree).to(dtype)
    weight = torch.randn(count, encoder.out_features, dtype=dtype)

    def both(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Way:
        def run() -> None:
            for part, g in zip(x.split(size), weight.split(size), strict=True):
                function(part.clone().requires_grad_()).backward(g)

        return run

    rows = block_rows(degree)
    ways: dict[str, Any] = {
        "geoenc, in cache, compiled": (count, both(encoder, lonlat, rows), None),
        "geoenc, new memory, compiled": (count, both(encoder, lonlat, count), None),
    }
    try:
        from sphericart.torch import SphericalHarmonics
    except ImportError:
        ways["sphericart"] = "not installed"
        return ways
    peer, xyz = SphericalHarmonics(degree), to_xyz(lonlat).to(dtype)
    ways["sphericart"] = (count, both(peer, xyz, count), None)
    ways["sphericart, in cache"] = (count, both(peer, xyz, rows), None)
    return ways


def error(way: tuple[int, Way, Any], wanted: Tensor) -> float:
    """Largest difference at the hard places; infinite if a number is not finite."""
    _, function, factor = way
    code = function()
    assert code is not None
    got = code[-len(wanted) :].double() * factor
    return (got - wanted).abs().max().item() if bool(got.isfinite().all()) else float("inf")


def measure(options: argparse.Namespace, what: str, degree: int, dtype: str, limit: float) -> None:
    """Measure, print and keep one table."""
    count = options.places // (10 if degree > 90 else 1)
    make = forward_ways if what == "forward" else gradient_ways
    ways = make(degree, DTYPES[dtype], count)
    present = {name: way[1] for name, way in ways.items() if not isinstance(way, str)}
    seconds = limits.in_turns(present, options.repeats, warm=2)  # some peers compile
    wanted = truth(degree) if what == "forward" else None
    print(f"\n{what}, degree {degree}, {dtype}, {count:,} places, 1 thread, process time")
    print(
        f"  {'implementation':30}{'ms':>10}{'points/s':>13}{'ratio':>8}{'medians':>9}"
        f"{'limit':>7}{'extra MB':>10}{'max error':>11}"
    )
    best = {name: min(times) / ways[name][0] for name, times in seconds.items()}
    middle = {name: statistics.median(times) / ways[name][0] for name, times in seconds.items()}
    peer = "sphericart" if "sphericart" in best else min(best, key=best.__getitem__)
    size = (degree + 1) ** 2 * DTYPES[dtype].itemsize
    for name, way in ways.items():
        record = {
            "what": f"harmonics, {what}", **limits.machine(), "implementation": name,
            "degree": degree, "dtype": dtype, "threads": 1, "clock": "process",
            "write_existing": limit, "version": version(name),
        }  # fmt: skip
        if isinstance(way, str):
            print(f"  {name:30}  absent: {way}")
            limits.append(options.out, record | {"absent": way})
            continue
        memory: dict[str, float] = {}
        if options.memory:
            memory = limits.in_new_process(
                "benchmarks.speed.harmonics", what, name, degree, dtype, way[0]
            )
        off = error(way, wanted) if wanted is not None else None
        record |= {
            "places": way[0], "seconds": min(seconds[name]),
            "median": statistics.median(seconds[name]), "repeats": len(seconds[name]),
            "places_a_second": 1 / best[name], "beside": peer,
            "ratio": best[peer] / best[name], "ratio_of_medians": middle[peer] / middle[name],
            "share_of_limit": size / limit / best[name], "max_error": off, **memory,
        }  # fmt: skip
        limits.append(options.out, record)
        extra = f"{memory['extra_mb']:.0f}" if memory else ""
        print(
            f"  {name:30}{1e3 * min(seconds[name]):10.1f}{1 / best[name]:13,.0f}"
            f"{record['ratio']:8.2f}{record['ratio_of_medians']:9.2f}"
            f"{record['share_of_limit']:7.0%}{extra:>10}{'' if off is None else f'{off:.0e}':>11}"
        )


def version(name: str) -> str:
    """Of ours or of an installed peer; a checkout has none."""
    if name.startswith("geoenc"):
        return geoenc.__version__
    if not name.startswith("sphericart"):
        return "checkout"
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sphericart-torch")
    except PackageNotFoundError:
        return "absent"


def peak(what: str, name: str, degree: int, dtype: str, count: int) -> dict[str, float]:
    """Peak above the start of one run, and its page faults; for a new process, Linux only."""
    for peer, (variable, _) in PEERS.items():
        if peer != name:
            os.environ.pop(variable, None)  # it takes seconds to load, and memory
    make = forward_ways if what == "forward" else gradient_ways
    if name in PEERS:
        count = count * (degree + 1) ** 2 // 50
    _, function, _ = make(degree, DTYPES[dtype], count)[name]
    before, faults = limits.reset_peak(), limits.faults()
    result = function()
    extra = limits.status("VmHWM") - before
    del result
    return {"extra_mb": extra, "faults": limits.faults() - faults}


START = {
    "import torch": "import torch",
    "import geoenc": "import geoenc",
    "geoenc, degree 100, first call": (
        "import geoenc; e = geoenc.SphericalHarmonics(100); x = geoenc.sampling.uniform(100)\n"
        "START()\ne(x)"
    ),
    "geoenc, second call": (
        "import geoenc; e = geoenc.SphericalHarmonics(100); x = geoenc.sampling.uniform(100)\n"
        "e(x)\nSTART()\ne(x)"
    ),
    "expressions, import": (
        "from benchmarks.speed.harmonics import expressions\nSTART()\n"
        "assert expressions('SatCLIP', 1)[0]"
    ),
    "expressions, L = 40, first call": (
        "import geoenc; from benchmarks.speed.harmonics import expressions\n"
        "f, _ = expressions('SatCLIP', 39); x = geoenc.sampling.uniform(100)\nSTART()\nf(x)"
    ),
    "expressions, L = 40, second call": (
        "import geoenc; from benchmarks.speed.harmonics import expressions\n"
        "f, _ = expressions('SatCLIP', 39); x = geoenc.sampling.uniform(100)\nf(x)\nSTART()\nf(x)"
    ),
}
"""What a new process does; the clock starts at START(), or with the process."""


def start_up(options: argparse.Namespace) -> None:
    """Seconds and resident memory of imports and first calls, each in a new process."""
    print("\nstart-up, processor time of a new process, 100 places; best of 3")
    for name, code in START.items():
        timed = (
            "import time; t = m = 0\n"
            "def peak():\n"
            "    lines = open('/proc/self/status').read().splitlines()\n"
            "    return [int(x.split()[1]) for x in lines if x.startswith('VmHWM')][0] / 1024\n"
            "def START():\n    global t, m; t = time.process_time(); m = peak()\n"
            f"{code}\nprint(time.process_time() - t, peak() - m)"
        )
        runs = []
        for _ in range(3):
            run = subprocess.run(
                [sys.executable, "-c", timed], cwd=ROOT, capture_output=True, text=True, check=False
            )
            if run.returncode == 0:
                runs.append([float(one) for one in run.stdout.split()[-2:]])
        record = {"what": "harmonics, start", **limits.machine(), "implementation": name}
        if runs:
            seconds, megabytes = min(runs)
            limits.append(options.out, record | {"seconds": seconds, "extra_mb": megabytes})
            print(f"  {name:36}{seconds:8.3f} s{megabytes:8.0f} MB")
        else:
            limits.append(options.out, record | {"absent": "not found"})
            print(f"  {name:36}  absent")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="100,000 places, all degrees")
    parser.add_argument("--start", action="store_true", help="imports and first calls only")
    parser.add_argument("--places", type=int)
    parser.add_argument("--degrees", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_of:
        print(json.dumps(peak(*json.loads(options.peak_of))))
        return
    if not options.start:
        options.places = options.places or (100_000 if options.full else 20_000)
        options.memory = options.memory and options.full
        limit, _ = limits.write_bandwidth(1)
        print(f"write into existing memory: {limit / 1e9:.1f} GB/s")
        began = time.monotonic()
        for degree in options.degrees or ((9, 19, 39, 99) if options.full else (9, 39)):
            for what in ("forward", "forward and backward"):
                for dtype in ("float64", "float32") if degree < 19 else ("float64",):
                    measure(options, what, degree, dtype, limit)
        print(f"\n{time.monotonic() - began:.0f} s")
    if options.start or options.full:
        start_up(options)


if __name__ == "__main__":
    main()
