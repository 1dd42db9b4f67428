"""One epoch of CSP pre-training: `geoenc.recipes.csp.pretrain` beside the original's way.

    python -m benchmarks.speed.csp_epoch                    20 steps of each at a time, a minute
    python -m benchmarks.speed.csp_epoch --full             437,000 places for each
    python -m benchmarks.speed.csp_epoch --threads 1 2      also with both cores, wall time
    python -m benchmarks.speed.csp_epoch --bf16             also in bfloat16, emulated if need be
    python -m benchmarks.speed.csp_epoch --accuracy         accuracies of fast and plain training

Both ways see the same places and 2,048 features. They take turns, block of steps by block, within
one process; the first block warms up and is not counted. What is timed is the recipe itself: its
batches come through a generator that stops the clock. Results are appended to
``benchmarks/results/speed``; `benchmarks.speed.table` makes tables of them.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Generator, Tensor

from benchmarks.shared import RESULTS, ROOT
from benchmarks.speed import limits
from benchmarks.speed.original_csp import OriginalModel, PlacesAndFeatures, train
from geoenc import sampling
from geoenc.data import LocationDataset
from geoenc.recipes import csp
from geoenc.recipes.config import Config, Encoder, Hardware, Pretrain

FILE = RESULTS / "speed" / "csp_epoch.jsonl"
EPOCH = 437_000


def configuration(
    batch: int,
    *,
    bf16: bool = False,
    device: str = "cpu",
    products: Any = "torch",
    dropout: float = 0.5,
    **pretrain: Any,
) -> Config:
    """The published sizes: Space2Vec grid of 32 scales, 512 hidden, 256 out, LeakyReLU."""
    network = Encoder().network | {"dropout": dropout}
    return Config(
        encoder=Encoder(network=network),
        pretrain=Pretrain(**{"epochs": 1, "batch_size": batch, **pretrain}),
        hardware=Hardware(
            accelerator=device,
            precision="bf16-mixed" if bf16 else "32-true",
            products=products,
        ),
    )


def invented(rows: int) -> LocationDataset:
    """Places spread over the globe, with random features as wide as those of the original."""
    generator = Generator().manual_seed(0)
    features = torch.empty(rows, limits.FEATURES).normal_(generator=generator)
    target = torch.zeros(rows, dtype=torch.long)
    return LocationDataset(sampling.uniform(rows, generator=generator), target, features)


def original(dataset: LocationDataset, batch: int, device: str = "cpu") -> Iterator[Tensor]:
    """Steps of the original's way over the data set in random order, one loss each."""
    model = OriginalModel(limits.FEATURES).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=Pretrain.learning_rate)
    samples = PlacesAndFeatures(
        dataset.lonlat.float().numpy(), dataset.target.numpy(), dataset.features.numpy(), device
    )
    order = torch.randperm(len(dataset)).tolist()
    return train(model, optimizer, samples, order, batch, sampling.uniform)


def in_turns(
    dataset: LocationDataset, config: Config, block: int, threads: int, device: str
) -> dict[str, list[dict[str, float]]]:
    """Blocks of steps of both ways, in turns, over one epoch: samples, seconds, page faults."""
    batch = config.pretrain.batch_size
    blocks: dict[str, list[dict[str, float]]] = {"geoenc": [], "original": []}
    other = original(dataset, batch, device)
    batches = csp._batches

    def timed(*arguments: Any) -> Iterator[Tensor]:
        epoch = iter(batches(*arguments))
        while rows := list(itertools.islice(epoch, block)):
            samples = sum(map(len, rows))
            with _measured(blocks["geoenc"], samples, threads, device):
                yield from rows
            with _measured(blocks["original"], samples, threads, device):
                for _ in itertools.islice(other, len(rows)):
                    pass

    torch.set_num_threads(threads)
    with mock.patch.object(csp, "_batches", timed):
        csp.pretrain(config, dataset)
    return blocks


class _measured:
    def __init__(self, into: list, samples: int, threads: int, device: str) -> None:
        self.into, self.samples, self.threads, self.device = into, samples, threads, device

    def __enter__(self) -> None:
        self.faults = limits.faults()
        self.start = limits.clock(self.threads, self.device)

    def __exit__(self, *_: object) -> None:
        seconds = limits.clock(self.threads, self.device) - self.start
        faults = limits.faults() - self.faults
        self.into.append({"samples": self.samples, "seconds": seconds, "faults": faults})


def speed(options: argparse.Namespace, dataset: LocationDataset, bf16: bool, threads: int) -> None:
    """Measure, print and keep one comparison."""
    config = configuration(
        options.batch, bf16=bf16, device=options.device, products=options.products
    )
    float32_limit, rates = limits.gemm(threads, batch=options.batch, device=options.device)
    limit = float32_limit
    if bf16:  # the loss stays in float32
        _, narrow = limits.gemm(threads, torch.bfloat16, options.batch, options.device)
        logits = {name: rate for name, rate in rates.items() if name.startswith("logits")}
        limit = limits.overall(options.batch, narrow | logits)
    blocks = in_turns(dataset, config, options.steps, threads, options.device)
    record: dict[str, Any] = {
        "what": "csp_epoch",
        **limits.machine(options.device),
        "precision": "bf16-mixed" if bf16 else "float32",
        "products": options.products,
        "native_bfloat16": limits.native_bfloat16(options.device),
        "rows": len(dataset),
        "batch": options.batch,
        "steps_a_block": options.steps,
        "threads": threads,
        "clock": "process" if threads == 1 and options.device == "cpu" else "wall",
        "flop_a_sample": limits.flop(options.batch) / options.batch,
    }
    for way, rows in blocks.items():
        per_sample = [row["seconds"] / row["samples"] for row in rows[1:]]
        rate = 1 / min(per_sample)
        record[way] = {
            "blocks": len(per_sample),
            "seconds": sum(row["seconds"] for row in rows),
            "samples_a_second": rate,
            "median_samples_a_second": 1 / statistics.median(per_sample),
            "faults_a_step": sum(row["faults"] for row in rows[1:])
            / (sum(row["samples"] for row in rows[1:]) / options.batch),
            "gemm_limit": limit if way == "geoenc" else float32_limit,
        }
        record[way]["share_of_limit"] = rate * record["flop_a_sample"] / record[way]["gemm_limit"]
    ours, theirs = record["geoenc"], record["original"]
    for name in ("samples_a_second", "median_samples_a_second"):
        record[f"ratio_of_{name}"] = ours[name] / theirs[name]
    if options.memory:
        for way in ("geoenc", "original"):
            record[way]["extra_peak_mb"] = {
                str(batch): extra_memory(way, batch, bf16) for batch in options.memory
            }
    record["agreement"] = agreement()
    limits.append(options.out, record)
    report(record)


def report(record: dict[str, Any]) -> None:
    """Print one comparison."""
    bf16 = record["precision"] != "float32"
    emulated = ", emulated by this processor" if bf16 and not record["native_bfloat16"] else ""
    print(
        f"{record['rows']:,} places, batch {record['batch']:,}, {record['threads']} thread(s), "
        f"{record['clock']} time, geoenc in {record['precision']}{emulated}"
    )
    for way in ("geoenc", "original"):
        row = record[way]
        memory = ", ".join(f"{mb:.0f} MB at {b}" for b, mb in row.get("extra_peak_mb", {}).items())
        print(
            f"  {way:9} {row['samples_a_second']:9,.0f} samples/s (median "
            f"{row['median_samples_a_second']:,.0f}), {row['share_of_limit']:.0%} of "
            f"{row['gemm_limit'] / 1e9:.0f} GFLOP/s, {row['faults_a_step']:.0f} faults a step"
            + (f", extra {memory}" if memory else "")
        )
    ratio, median = record["ratio_of_samples_a_second"], record["ratio_of_median_samples_a_second"]
    unsure = "" if abs(ratio / median - 1) < 0.2 else "; they disagree: repeat on a quiet machine"
    print(f"  ratio {ratio:.2f}, of medians {median:.2f}{unsure}")
    print(f"  losses of the first steps agree to {record['agreement']:.1e}")


def agreement(steps: int = 5, batch: int = 256) -> float:
    """Largest relative difference of the losses of the first steps: same weights, order, places.

    Without dropout, whose masks cannot be the same.
    """
    dataset = invented(batch)
    config = configuration(batch, dropout=0.0, epochs=steps)
    start = csp.pretrain(
        dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, learning_rate=0)),
        dataset,
    )
    history: list[float] = []
    csp.pretrain(config, dataset, history=history)
    model = OriginalModel(limits.FEATURES, dropout=0.0)
    published = {"hidden": "0.linear", "norm": "0.layernorm", "out": "1.linear"}
    weights = {
        f"location.{ours}.{kind}": start.location.network.state_dict()[f"layers.{name}.{kind}"]
        for ours, name in published.items()
        for kind in ("weight", "bias")
    } | {
        f"image.{kind}": start.image.state_dict()[f"layers.0.linear.{kind}"]
        for kind in ("weight", "bias")
    }
    model.load_state_dict(weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.pretrain.learning_rate)
    samples = PlacesAndFeatures(
        dataset.lonlat.numpy(), dataset.target.numpy(), dataset.features.numpy(), "cpu"
    )
    generator = Generator().manual_seed(config.seed)  # as the recipe draws: order, then places
    losses = []

    def places(count: int) -> Tensor:
        return sampling.uniform(count, generator=generator)

    for _ in range(steps):
        order = torch.randperm(batch, generator=generator).tolist()
        losses += [x.item() for x in train(model, optimizer, samples, order, batch, places)]
    return max(abs(a - b) / abs(b) for a, b in zip(history, losses, strict=True))


def extra_memory(way: str, batch: int, bf16: bool) -> float:
    """Peak resident memory of steps above what was there before the first, in a new process; MB."""
    command = [sys.executable, "-m", "benchmarks.speed.csp_epoch", "--peak-of", way]
    command += ["--batch", str(batch), *["--bf16"] * bf16]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def peak(way: str, batch: int, bf16: bool) -> float:
    """What `extra_memory` asks of the new process; Linux only."""
    torch.set_num_threads(1)
    dataset = invented(3 * batch)
    if way == "original":
        steps = original(dataset, batch)
        before = limits.reset_peak()
        for _ in steps:
            pass
        return limits.status("VmHWM") - before
    batches, before, after = csp._batches, 0.0, 0.0

    def watched(*arguments: Any) -> Iterator[Tensor]:
        nonlocal before, after
        before = limits.reset_peak()
        yield from batches(*arguments)
        after = limits.status("VmHWM")

    with mock.patch.object(csp, "_batches", watched):
        csp.pretrain(configuration(batch, bf16=bf16), dataset)
    return after - before


def accuracy(options: argparse.Namespace) -> None:
    """Accuracy after fast and plain pre-training and fine-tuning on the embedded globe, by seed."""
    from geoenc.data import RandomConvFeatures, few_shot, image_features, load_globe, random_split
    from geoenc.network.dropout import Dropout
    from geoenc.recipes.config import load_config

    globe = load_globe(num_points=4000)
    features = image_features(globe.images, RandomConvFeatures(256).fit(globe.images))
    mean, spread = features.mean(0), features.std(0)
    everything = LocationDataset(globe.lonlat, globe.target, (features - mean) / (spread + 1e-6))
    part = random_split(len(everything), generator=Generator().manual_seed(0))
    training, test = everything.subset(part == 0), everything.subset(part == 2)
    config = load_config(overrides=["pretrain.epochs=15", "finetune.epochs=15"])
    precisions = {"float32": "32-true"}
    if options.bf16 or limits.native_bfloat16():
        precisions["bfloat16"] = "bf16-mixed"
    torch.set_num_threads(options.threads[0])
    scores: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        labelled = training.subset(
            few_shot(training.target, 0.2, generator=Generator().manual_seed(seed))
        )
        for name, plain in (("plain", True), *((name, False) for name in precisions)):
            hardware = Hardware(accelerator="cpu", precision=precisions.get(name, "32-true"))
            settings = dataclasses.replace(config, seed=1000 * seed, hardware=hardware)
            mask = torch.nn.Dropout.forward if plain else Dropout.forward
            with mock.patch.object(Dropout, "forward", mask):
                model = csp.pretrain(settings, training)
                classifier = csp.finetune(
                    settings, model.location, labelled, num_classes=len(globe.classes)
                )
            found = csp.evaluate(settings, classifier, test)["location_top1"]
            scores.setdefault(name, []).append(found)
    record = {"what": "accuracy", **limits.machine(), "seeds": options.seeds, "top1": scores}
    for name, values in scores.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"  {name:9} top-1 of the place {statistics.mean(values):.4f} ± {spread:.4f}")
    record["within_seed_noise"] = {}
    for name in precisions:
        gap = abs(statistics.mean(scores[name]) - statistics.mean(scores["plain"]))
        noise = statistics.mean(statistics.stdev(scores[key]) for key in (name, "plain"))
        record["within_seed_noise"][name] = gap < 2 * noise * (2 / options.seeds) ** 0.5
        print(
            f"  {name} - plain: {gap:.4f}, within seed noise: {record['within_seed_noise'][name]}"
        )
    limits.append(options.out, record)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, help="places; by default six blocks of steps")
    parser.add_argument("--steps", type=int, default=20, help="steps of a block")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--full", action="store_true", help=f"a whole epoch of {EPOCH:,} places")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--bf16", action="store_true", help="also where the processor emulates it")
    parser.add_argument(
        "--products", default="torch", choices=["torch", "onednn"], help="ours; limits are torch's"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--memory", type=int, nargs="*", default=[1024, 8192], help="batches")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--seeds", type=int, default=5, help="of --accuracy")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--peak-of", choices=["geoenc", "original"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(peak(options.peak_of, options.batch, options.bf16))
        return
    if options.accuracy:
        accuracy(options)
        return
    rows = EPOCH if options.full else options.rows or 6 * options.steps * options.batch
    dataset = invented(rows)
    native = limits.native_bfloat16(options.device)
    if not native:
        print("This processor has no bfloat16 products" + ("." * (not options.bf16)), end="")
        print("; measuring the emulation." if options.bf16 else " Pass --bf16 to measure anyway.")
    for threads in options.threads:
        for bf16 in (False, True) if native or options.bf16 else (False,):
            speed(options, dataset, bf16, threads)


if __name__ == "__main__":
    main()
