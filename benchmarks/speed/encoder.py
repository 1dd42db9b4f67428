"""Whole encoders, position code and network, beside the originals'.

    python -m benchmarks.speed.encoder [--places 100000] [--repeats 5]

The same layers stand behind both codes; behind the originals torch calls them one after the other,
for all places at once. TorchSpatial is found in a checkout named by ``GEOENC_TORCHSPATIAL``; for
SatCLIP, whose published path is float64 throughout, the generated expressions are those of
``GEOENC_SATCLIP``, see `benchmarks.speed.harmonics`. One thread, processor time of the process, in
turns. "into rows" writes an existing output. The limit is the time of the matrix products in
float32 if all numbers were in registers, from the rate of a loop in C measured in the same run;
where the processor has no bfloat16, a model in bfloat16 computes in float32. Results are appended
to ``benchmarks/results/speed``.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from torch import Tensor

import geoenc
from benchmarks.shared import RESULTS
from benchmarks.speed import limits
from benchmarks.speed.harmonics import expressions
from benchmarks.speed.position import PAIRS, peer, torchspatial

FILE = RESULTS / "speed" / "encoder.jsonl"
NAMES = ("Space2VecGrid", "Sphere2VecMPlus", "SatCLIP-L10", "SatCLIP-L40")

Way = Callable[[], Tensor]


def build(name: str) -> geoenc.LocationEncoder:
    """Ours, in evaluation mode."""
    if name.startswith("SatCLIP"):
        encoder = geoenc.published.encoder(name)
        assert isinstance(encoder, geoenc.LocationEncoder)
        return encoder.eval()
    position = copy.deepcopy(PAIRS[name][0])
    network = geoenc.FFN(position.out_features, 256, hidden_features=512)
    return geoenc.LocationEncoder(position, network).eval()


@torch.no_grad()
def original(name: str, encoder: geoenc.LocationEncoder, lonlat: Tensor) -> Way | str:
    """The original's way to the same embedding, or why it is absent."""
    if name.startswith("SatCLIP"):
        assert isinstance(encoder.position, geoenc.SphericalHarmonics)
        basis, why = expressions("SatCLIP", encoder.position.degree)
        if basis is None:
            return why
        wide = copy.deepcopy(encoder.network).double()
        return lambda: wide(basis(lonlat))
    module = torchspatial()
    if module is None:
        return "no checkout in GEOENC_TORCHSPATIAL"
    other, given = peer(module, name), lonlat.numpy()[:, None, :]
    assert isinstance(encoder.network, geoenc.FFN)
    layers = encoder.network.layers  # called by torch one after the other, as theirs are
    return lambda: layers(other(given).squeeze(1))


def product_seconds(encoder: geoenc.LocationEncoder, places: int) -> float | None:
    """That nothing can go below: of the matrix products, with all numbers in registers."""
    rate = limits.registers()
    linear = [part for part in encoder.network.modules() if isinstance(part, torch.nn.Linear)]
    flop = 2 * places * sum(part.in_features * part.out_features for part in linear)
    return None if rate is None else flop / rate


def measure(name: str, o: argparse.Namespace) -> None:
    """Run all ways in turns, print and keep one table."""
    encoder = build(name)
    half = copy.deepcopy(encoder).bfloat16()
    exact = copy.deepcopy(encoder).double()
    count = o.places // (20 if name == "SatCLIP-L40" else 1)
    lonlat = geoenc.sampling.uniform(count, generator=torch.Generator().manual_seed(0))
    out = torch.zeros(count, encoder.out_features)
    ways: dict[str, Way] = {
        "geoenc": lambda: encoder.embed(lonlat),
        "geoenc, into rows": lambda: encoder.embed(lonlat, out=out),
        "geoenc, bfloat16": lambda: half.embed(lonlat),
    }
    theirs = original(name, encoder, lonlat)
    if not isinstance(theirs, str):
        ways["original"] = theirs
    with torch.no_grad():
        limit = product_seconds(encoder, count)
        seconds = limits.in_turns(ways, o.repeats, warm=2)
    few = lonlat[:1000]
    wanted = exact.embed(few)
    print(f"\n{name}, {count:,} places, 1 thread, process time")
    print(f"  {'':24}{'ns a place':>12}{'ratio':>8}{'medians':>9}{'limit':>7}{'1 - cosine':>12}")
    if isinstance(theirs, str):
        print(f"  original: absent, {theirs}")
    for way, times in limits.compared(seconds, "original").items():
        off = None
        if way != "original":
            got = (half if "bfloat16" in way else encoder).embed(few).double()
            off = (1 - torch.cosine_similarity(got, wanted)).max().item()
        record = {
            "what": "encoder", **limits.machine(), "encoder": name, "implementation": way,
            "places": count, "threads": 1, "clock": "process", "repeats": o.repeats, **times,
            "native_bfloat16": limits.native_bfloat16(), "limit_seconds": limit,
            "share_of_limit": None if limit is None else limit / min(seconds[way]),
            "cosine_loss": off,
        }  # fmt: skip
        limits.append(o.out, record)
        share = limits.percent(record["share_of_limit"])
        print(
            f"  {way:24}{1e9 * min(seconds[way]) / count:12,.0f}{limits.shown(times)}"
            f"{share:>7}{'' if off is None else f'{off:.0e}':>12}"
        )


def main() -> None:
    """Measure every pair."""
    options = limits.options_for_encoders(__doc__, FILE)
    for name in options.names or NAMES:
        measure(name, options)


if __name__ == "__main__":
    main()
