"""Contrastive losses, forward and backward, beside the ways of other libraries.

    python -m benchmarks.speed.losses [--batches 512 1024 4096 8192 16384] [--memory 16384 32768]

float32, 256 columns, one thread, processor time, all ways of a loss in turns. The other ways are
written here from what those libraries compute, so that both see the same matrix products: the
symmetric loss of open_clip (normalise, two matrices of logits, the mean of two cross-entropies),
that of lightly (NT-Xent: both views as 2 B anchors against all but themselves), and CSP's terms
by plain torch. The error is that of the gradient, against float64 by the largest entry. Memory
is the peak of a new process, above what was resident when the inputs had been made, less the
gradients of the inputs; Linux only. Results are appended to ``benchmarks/results/speed``.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import geoenc
from benchmarks.shared import RESULTS
from benchmarks.speed import limits
from geoenc.losses import in_batch, multiclass, nce, sampled

FILE = RESULTS / "speed" / "losses.jsonl"
WIDTH, TEMPERATURE = 256, 0.07

Loss = Callable[..., Tensor]


def open_clip(anchor: Tensor, candidate: Tensor) -> Tensor:
    """Mean of the cross-entropies of two matrices of logits, one the transpose of the other."""
    anchor, candidate = F.normalize(anchor, dim=-1), F.normalize(candidate, dim=-1)
    there = anchor @ candidate.T / TEMPERATURE
    back = candidate @ anchor.T / TEMPERATURE
    own = torch.arange(len(anchor))
    return (F.cross_entropy(there, own) + F.cross_entropy(back, own)) / 2


def lightly(anchor: Tensor, candidate: Tensor) -> Tensor:
    """Cross-entropy of each of 2 B views against the 2 B - 1 others; four blocks of logits."""
    anchor, candidate = F.normalize(anchor, dim=-1), F.normalize(candidate, dim=-1)
    views = torch.cat([anchor, candidate])
    logits = views @ views.T / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(views)).roll(len(anchor)))


def plain_csp(criterion: str) -> Loss:
    """L_B + L_L + L_D of whole matrices."""
    judge: Any = {"multiclass": multiclass, "nce": nce}[criterion]

    def loss(location: Tensor, image: Tensor, random: Tensor, again: Tensor) -> Tensor:
        logits, first = sampled(image, None if criterion == "nce" else location, random)
        of_random = judge(logits, None if criterion == "nce" else first)
        return judge(*in_batch(location, image)) + of_random + judge(*in_batch(location, again))

    return loss


WAYS: dict[str, dict[str, Loss]] = {
    "symmetric InfoNCE": {
        "geoenc": geoenc.InfoNCELoss(TEMPERATURE),
        "geoenc, temperature learnt": geoenc.InfoNCELoss(TEMPERATURE, learnable=True),
        "open_clip's way": open_clip,
        "lightly's way (more logits)": lightly,
    },
    "CSP, multi-class, BLD": {
        "geoenc": geoenc.CSPLoss(),
        "plain torch": plain_csp("multiclass"),
    },
    "CSP, multi-class symmetric, BLD": {"geoenc": geoenc.CSPLoss(symmetric=True)},
    "CSP, NCE, BLD": {"geoenc": geoenc.CSPLoss("nce"), "plain torch": plain_csp("nce")},
}
BESIDE = {"symmetric InfoNCE": "open_clip's way"}


def inputs(loss: str, batch: int) -> list[Tensor]:
    """Random embeddings: pairs, or location, image, random places and second pass."""
    generator = torch.Generator().manual_seed(batch)
    pair = loss == "symmetric InfoNCE"
    shapes = [(batch, WIDTH)] * 2 if pair else [(batch, WIDTH)] * 2 + [(batch, 1, WIDTH)]
    shapes += [] if pair else [(batch, WIDTH)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def step(function: Loss, given: list[Tensor]) -> None:
    """Forward and backward, with new gradients."""
    for tensor in given:
        tensor.grad = None
    function(*given).backward()


def error(loss: str, way: str, batch: int = 512) -> float:
    """Of the gradient, against float64 in plain torch, by its largest entry."""
    if way.startswith("lightly"):
        truth = lightly
    elif loss == "symmetric InfoNCE":
        truth = open_clip
    elif "symmetric" in loss:
        reverse: Loss = geoenc.InfoNCELoss(1.0)
        one_way: Loss = geoenc.InfoNCELoss(1.0, symmetric=False)
        plain = plain_csp("multiclass")
        truth = lambda a, c, r, d: plain(a, c, r, d) + reverse(a, c) - one_way(a, c)  # noqa: E731
    else:
        truth = plain_csp("nce" if "NCE" in loss else "multiclass")
    given = inputs(loss, batch)
    wide = [tensor.detach().double().requires_grad_() for tensor in given]
    wanted = torch.autograd.grad(truth(*wide), wide)
    got = torch.autograd.grad(WAYS[loss][way](*given), given)
    return max(
        ((one - other).abs().max() / other.abs().max()).item()
        for one, other in zip(got, wanted, strict=True)
    )


def speed(loss: str, batch: int, options: argparse.Namespace) -> None:
    """Measure, print and keep one loss at one batch."""
    given = inputs(loss, batch)
    ways = {
        name: (lambda f=function: step(f, given))
        for name, function in WAYS[loss].items()
        if not (name.startswith("lightly") and batch > 4096)
    }
    repeats = options.repeats if batch < 8192 else max(3, options.repeats // 2)
    seconds = limits.in_turns(ways, repeats)
    beside = seconds.get(BESIDE.get(loss, "plain torch"))
    print(f"\n{loss}, batch {batch:,}, {WIDTH} columns, 1 thread, process time")
    for way, times in seconds.items():
        short, middle = min(times), statistics.median(times)
        record = {
            "what": "loss", **limits.machine(), "loss": loss, "implementation": way,
            "dtype": "float32", "batch": batch, "columns": WIDTH, "threads": 1,
            "clock": "process", "repeats": repeats, "seconds": short, "median": middle,
            "ratio": min(beside) / short if beside else None,
            "ratio_of_medians": statistics.median(beside) / middle if beside else None,
            "max_error": error(loss, way),
        }  # fmt: skip
        limits.append(options.out, record)
        ratios = (
            f"ratio {record['ratio']:.2f}, of medians {record['ratio_of_medians']:.2f}, "
            if beside
            else ""
        )
        print(f"  {way:30}{1e3 * short:10.1f} ms  {ratios}error {record['max_error']:.0e}")


def peak(loss: str, way: str, batch: int) -> dict[str, float]:
    """Megabytes and page faults of one step beside inputs and their gradients."""
    given = inputs(loss, batch)
    step(WAYS[loss][way], [x.detach()[:32].clone().requires_grad_() for x in given])
    before, faults = limits.reset_peak(), limits.faults()
    step(WAYS[loss][way], given)
    gradients = sum(tensor.nbytes for tensor in given) / 2**20
    extra = limits.status("VmHWM") - before - gradients
    return {"extra_mb": extra, "gradients_mb": gradients, "faults": limits.faults() - faults}


def memory(loss: str, batch: int, options: argparse.Namespace) -> None:
    """Measure, print and keep the memory of all ways of a loss at one batch."""
    print(f"\nmemory of {loss}, batch {batch:,}")
    for way in WAYS[loss]:
        if way != "geoenc" and (batch > 16384 or way.startswith("lightly")):
            continue
        found = limits.in_new_process("benchmarks.speed.losses", loss, way, batch)
        if not found:
            print(f"  {way:30}did not fit")
            continue
        record = {"what": "memory", **limits.machine(), "loss": loss, "implementation": way}
        limits.append(options.out, record | {"batch": batch, "columns": WIDTH, **found})
        print(f"  {way:30}{found['extra_mb']:8.0f} MB  {found['faults']:10,.0f} page faults")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--losses", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--batches", type=int, nargs="*", default=[512, 1024, 4096, 8192])
    parser.add_argument("--memory", type=int, nargs="*", default=[16384, 32768])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_of:
        print(json.dumps(peak(*json.loads(options.peak_of))))
        return
    for loss in options.losses:
        for batch in options.batches:
            speed(loss, batch, options)
        for batch in options.memory:
            memory(loss, batch, options)


if __name__ == "__main__":
    main()
