"""Position encoders beside TorchSpatial's.

    python -m benchmarks.speed.position [--places 100000] [--repeats 5]

One thread, processor time of the process, both in turns; 32 scales (8 for the double Fourier,
16 for NeRF), 64 random features, 200 anchors. TorchSpatial is found in a checkout named by
``GEOENC_TORCHSPATIAL``; without it the table says so and has no ratios. "in cache" hands each
block of codes over and writes no result; "into rows" writes an existing output. "compiled" are
the kernels of `geoenc.native`, which need a C compiler. The limit is the time to fill existing
memory with the result. Results are appended to ``benchmarks/results/speed``.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import geoenc
from benchmarks.shared import RESULTS
from benchmarks.speed import limits

FILE = RESULTS / "speed" / "position.jsonl"
SPACE = {"min_radius": 0.1, "max_radius": 360.0}
SPHERE = {"min_radius": 0.001, "max_radius": 1.0}
PAIRS: dict[str, tuple[geoenc.PositionEncoder, str, dict[str, Any]]] = {
    "Space2VecGrid": (geoenc.Space2VecGrid(32, **SPACE), "GridCell", SPACE),
    "Space2VecTheory": (geoenc.Space2VecTheory(32, **SPACE), "TheoryGridCell", SPACE),
    "Sphere2VecC": (geoenc.Sphere2VecC(32, **SPHERE), "Sphere", SPHERE),
    "Sphere2VecCPlus": (geoenc.Sphere2VecCPlus(32, **SPHERE), "SphereGird", SPHERE),
    "Sphere2VecM": (geoenc.Sphere2VecM(32, **SPHERE), "SphereMixScale", SPHERE),
    "Sphere2VecMPlus": (geoenc.Sphere2VecMPlus(32, **SPHERE), "SphereGridMixScale", SPHERE),
    "Sphere2VecDFS": (geoenc.Sphere2VecDFS(8, **SPHERE), "DFT", SPHERE),
    "NeRF": (geoenc.NeRF(16), "NERF", {}),
    "RFF": (geoenc.RFF(64, shifted=True), "RFF", {"extent": (-180, 180, -90, 90)}),
    "RBF": (geoenc.RBF(200, 2.0), "RBF", {"model_type": "global", "rbf_kernel_size": 2.0}),
}
SCALES = {"Sphere2VecDFS": 8, "NeRF": 16, "RFF": 64}

Way = Callable[[], object]


def torchspatial() -> Any:
    """Its module of encoders, or None."""
    root = os.environ.get("GEOENC_TORCHSPATIAL")
    if root is None:
        return None
    sys.path.insert(0, str(Path(root) / "main"))
    return importlib.import_module("SpatialRelationEncoder")


def peer(module: Any, name: str) -> Any:
    """TorchSpatial's encoder of one name, with the same scales; RFF with its own random ones."""
    ours, original, settings = PAIRS[name]
    cls = getattr(module, f"{original}SpatialRelationPositionEncoder")
    if isinstance(ours, geoenc.RBF):
        anchors = {"train_locs": ours.anchors.numpy(), "rbf_anchor_pt_ids": list(range(200))}
        return cls(num_rbf_anchor_pts=200, device="cpu", **anchors, **settings)
    return cls(frequency_num=SCALES.get(name, 32), device="cpu", **settings)


def position_ways(name: str, lonlat: Tensor, module: Any) -> dict[str, Way]:
    """What fills or hands over the codes of all places."""
    encoder = PAIRS[name][0]
    out = torch.zeros(len(lonlat), encoder.out_features)

    def consume(compile: bool) -> Way:
        @torch.no_grad()
        def run() -> None:
            for _ in encoder.blocks(lonlat, compile=compile):
                pass

        return run

    ways: dict[str, Way] = {
        "geoenc, in cache, compiled": consume(True),
        "geoenc, into rows, compiled": lambda: encoder.write(lonlat, out, compile=True),
        "geoenc, in cache": consume(False),
        "geoenc, into rows": lambda: encoder.write(lonlat, out, compile=False),
    }
    if module is not None:
        other, given = peer(module, name), lonlat.numpy()[:, None, :]
        ways["TorchSpatial"] = lambda: other(given)
    return ways


def largest_error(name: str, lonlat: Tensor, module: Any) -> dict[str, float]:
    """Against float64, at a hundred places."""
    encoder, few = PAIRS[name][0], lonlat[:100]
    wanted = encoder.double()(few)
    encoder.float()
    errors = {
        f"geoenc{where}": (encoder.write(few, compile=compile) - wanted).abs().max().item()
        for where, compile in ((", compiled", True), ("", False))
    }
    if module is not None and name != "RFF":
        theirs = peer(module, name)(few.numpy()[:, None, :]).squeeze(1)
        errors["TorchSpatial"] = (theirs - wanted).abs().max().item()
    return errors


def measure(name: str, ways: dict[str, Way], errors: dict[str, float], o: Any) -> None:
    """Run all ways in turns, print and keep one table."""
    seconds = limits.in_turns(ways, o.repeats)
    columns = PAIRS[name][0].out_features
    print(f"\n{name}, {columns} columns, {o.places:,} places, 1 thread, process time")
    print(f"  {'':30}{'ms':>9}{'places/s':>13}{'ratio':>8}{'medians':>9}{'limit':>7}{'error':>9}")
    if "TorchSpatial" not in seconds:
        print("  TorchSpatial: no checkout in GEOENC_TORCHSPATIAL")
    for way, times in limits.compared(seconds, "TorchSpatial").items():
        off = errors.get("geoenc, compiled" if "compiled" in way else way.partition(",")[0])
        short = min(seconds[way])
        record = {
            "what": "position", **limits.machine(), "encoder": name, "implementation": way,
            "columns": columns, "places": o.places, "threads": 1, "clock": "process",
            "repeats": o.repeats, **times,
            "share_of_limit": o.places * columns * 4 / o.limit / short,
            "write_existing": o.limit, "max_error": off,
        }  # fmt: skip
        limits.append(o.out, record)
        print(
            f"  {way:30}{1e3 * short:9.1f}{o.places / short:13,.0f}{limits.shown(times)}"
            f"{record['share_of_limit']:7.0%}{'' if off is None else f'{off:.0e}':>9}"
        )


def main() -> None:
    """Measure every pair."""
    options = limits.options_for_encoders(__doc__, FILE)
    module = torchspatial()
    lonlat = geoenc.sampling.uniform(options.places, generator=torch.Generator().manual_seed(0))
    options.limit, _ = limits.write_bandwidth(1)
    print(f"write into existing memory: {options.limit / 1e9:.1f} GB/s")
    for name in options.names or PAIRS:
        errors = largest_error(name, lonlat, module)
        measure(name, position_ways(name, lonlat, module), errors, options)


if __name__ == "__main__":
    main()
