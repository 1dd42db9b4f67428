"""Memory beside the result: every position encoder at a million places, `embed` at 100,000.

    python -m benchmarks.speed.memory [--places 1000000]

Each in a new process: the peak of resident memory above what was resident when the output had been
filled once with zeros, and the page faults. Linux only. Results are appended to
``benchmarks/results/speed``.
"""

import argparse
import json
from pathlib import Path

import torch

import geoenc
from benchmarks.shared import RESULTS
from benchmarks.speed import limits

FILE = RESULTS / "speed" / "memory.jsonl"
ENCODERS = {
    "Direct": lambda: geoenc.Direct(),
    "Wrap": lambda: geoenc.Wrap(),
    "XYZ": lambda: geoenc.XYZ(),
    "Tile": lambda: geoenc.Tile(32, 1.0),
    "Space2VecGrid": lambda: geoenc.Space2VecGrid(32),
    "Space2VecTheory": lambda: geoenc.Space2VecTheory(32),
    "Sphere2VecC": lambda: geoenc.Sphere2VecC(32),
    "Sphere2VecCPlus": lambda: geoenc.Sphere2VecCPlus(32),
    "Sphere2VecM": lambda: geoenc.Sphere2VecM(32),
    "Sphere2VecMPlus": lambda: geoenc.Sphere2VecMPlus(32),
    "Sphere2VecDFS": lambda: geoenc.Sphere2VecDFS(8),
    "NeRF": lambda: geoenc.NeRF(16),
    "RFF": lambda: geoenc.RFF(64),
    "RBF": lambda: geoenc.RBF(200),
    "SphericalHarmonics, degree 9": lambda: geoenc.SphericalHarmonics(9),
    "SphericalHarmonics, degree 19": lambda: geoenc.SphericalHarmonics(19),
    "Herglotz": lambda: geoenc.Herglotz(64),
    "SoftVoronoi": lambda: geoenc.SoftVoronoi(256),
    "HashGrid": lambda: geoenc.HashGrid(),
}


@torch.no_grad()
def peak(what: str, name: str, places: int) -> dict[str, float]:
    """Megabytes and page faults of one call beside its result, in this process."""
    position = ENCODERS[name]()
    lonlat = geoenc.sampling.uniform(places)
    if what == "write":
        out = torch.zeros(places, position.out_features)
        position.write(lonlat[:2], out[:2])
        before, faults = limits.reset_peak(), limits.faults()
        position.write(lonlat, out)
        result = 0.0
    else:
        network = geoenc.FFN(position.out_features, 256, hidden_features=512)
        encoder = geoenc.LocationEncoder(position, network)
        encoder.embed(lonlat[:2])
        before, faults = limits.reset_peak(), limits.faults()
        embedding = encoder.embed(lonlat)
        result = embedding.nbytes / 2**20
    extra = limits.status("VmHWM") - before - result
    return {"extra_mb": extra, "result_mb": result, "faults": limits.faults() - faults}


def main() -> None:
    """Measure and keep every encoder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these encoders")
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_of:
        print(json.dumps(peak(*json.loads(options.peak_of))))
        return
    print(f"  {'':40}{'places':>12}{'extra MB':>10}{'page faults':>13}")
    for what, places in (("write", options.places), ("embed", options.places // 10)):
        for name in options.names or ENCODERS:
            if what == "embed" and name not in ("Space2VecGrid", "SphericalHarmonics, degree 19"):
                continue
            found = limits.in_new_process("benchmarks.speed.memory", what, name, places)
            record = {"what": what, **limits.machine(), "encoder": name, "places": places, **found}
            limits.append(options.out, record)
            print(
                f"  {what + ', ' + name:40}{places:12,}{found['extra_mb']:10.1f}"
                f"{found['faults']:13,.0f}"
            )


if __name__ == "__main__":
    main()
