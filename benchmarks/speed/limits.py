"""What this machine can do at most: write bandwidth, sine, and products of matrices.

    python -m benchmarks.speed.limits [--threads 1 2] [--out FILE]

The products are those of one CSP step at batch 1,024, each into existing memory, best of ten.
Their rate is the limit that `csp_epoch` measures shares of.
"""

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared import RESULTS, ROOT
from geoenc.native import has_products

FILE = RESULTS / "speed" / "limits.jsonl"
RATIOS = ("ratio", "ratio_of_medians")
REGISTERS = Path(__file__).with_name("registers.c")
FEATURES, CODE, HIDDEN, OUT, VIEWS = 2048, 128, 512, 256, 3


def clock(threads: int, device: str = "cpu") -> float:
    """Seconds: of this process for one thread, which other users disturb less; else of the wall."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.process_time() if threads == 1 and device == "cpu" else time.perf_counter()


def faults() -> int:
    """Minor page faults of this process so far: pages of fresh memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def reset_peak() -> float:
    """Resident megabytes now, from which the peak counts anew; Linux only."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def status(name: str) -> float:
    """Megabytes, from what Linux knows of this process: ``VmRSS`` now, ``VmHWM`` at the peak."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise OSError(f"expected {name} in /proc/self/status; memory is measured on Linux only")


def in_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way, one thread: all ways in turns, the first rounds not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-warm, repeats):
        for name, function in ways.items():
            start = clock(1)
            function()
            if repeat >= 0:
                seconds[name].append(clock(1) - start)
    return seconds


def compared(seconds: Mapping[str, list[float]], peer: str) -> dict[str, dict[str, float | None]]:
    """Shortest and median seconds of each way, and how often they go into the peer's, if it ran."""
    beside = seconds.get(peer)
    return {
        way: {
            "seconds": min(times),
            "median": statistics.median(times),
            "ratio": min(beside) / min(times) if beside else None,
            "ratio_of_medians": (
                statistics.median(beside) / statistics.median(times) if beside else None
            ),
        }
        for way, times in seconds.items()
    }


def shown(times: Mapping[str, float | None]) -> str:
    """Both ratios of `compared` as two columns of a printed table; empty where no peer ran."""
    texts = ["" if times[key] is None else f"{times[key]:.1f}" for key in RATIOS]
    return f"{texts[0]:>8}{texts[1]:>9}"


def in_new_process(module: str, *arguments: Any) -> dict[str, float]:
    """What ``python -m module --peak-of [arguments]`` prints; nothing if it fails."""
    command = [sys.executable, "-m", module, "--peak-of", json.dumps(arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else {}


def products(batch: int) -> dict[str, tuple[int, int, int, str, int]]:
    """The matrix products of one CSP step: rows, inner width, columns, transposed, how often.

    Three views pass through 128 -> 512 -> 256; the position code needs no gradient; two of the
    three terms of the loss compare the whole batch.
    """
    rows = VIEWS * batch
    return {
        "projection": (batch, FEATURES, OUT, "nt", 1),
        "projection, weights": (OUT, batch, FEATURES, "tn", 1),
        "hidden layer": (rows, CODE, HIDDEN, "nt", 1),
        "hidden layer, weights": (HIDDEN, rows, CODE, "tn", 1),
        "output layer": (rows, HIDDEN, OUT, "nt", 1),
        "output layer, input": (rows, OUT, HIDDEN, "nn", 1),
        "output layer, weights": (OUT, rows, HIDDEN, "tn", 1),
        "logits": (batch, OUT, batch, "nt", 2),
        "logits, anchors": (batch, batch, OUT, "nn", 2),
        "logits, candidates": (batch, batch, OUT, "tn", 2),
    }


def flop(batch: int) -> int:
    """Multiplications and additions of these products: 2 m k n each; 8.4 M a sample at 1,024."""
    return sum(2 * m * k * n * times for m, k, n, _, times in products(batch).values())


def best(
    function: Callable[[], Any], threads: int, device: str = "cpu", repeats: int = 10
) -> float:
    """The shortest of several runs, in seconds."""
    function()
    shortest = float("inf")
    for _ in range(repeats):
        start = clock(threads, device)
        function()
        shortest = min(shortest, clock(threads, device) - start)
    return shortest


def gemm(
    threads: int, dtype: torch.dtype = torch.float32, batch: int = 1024, device: str = "cpu"
) -> tuple[float, dict[str, float]]:
    """FLOP a second over all products of a step, and of each of them."""
    torch.set_num_threads(threads)
    rates = {}
    for name, (m, k, n, transposed, _) in products(batch).items():
        left = _matrix(m, k, transposed[0] == "t", dtype, device)
        right = _matrix(k, n, transposed[1] == "t", dtype, device)
        out = torch.empty(m, n, dtype=dtype, device=device)
        took = best(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), threads, device)
        rates[name] = 2 * m * k * n / took
    return overall(batch, rates), rates


def overall(batch: int, rates: dict[str, float]) -> float:
    """FLOP a second over all products of a step, from the rate of each."""
    seconds = sum(
        2 * m * k * n * times / rates[name] for name, (m, k, n, _, times) in products(batch).items()
    )
    return flop(batch) / seconds


def _matrix(rows: int, columns: int, transposed: bool, dtype: torch.dtype, device: str) -> Tensor:
    shape = (columns, rows) if transposed else (rows, columns)
    made = torch.randn(shape, device=device).to(dtype)
    return made.mT if transposed else made


def registers() -> float | None:
    """FLOP a second of one thread in float32, with all numbers in registers; None if not built."""
    flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=fast"]
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "registers.so"
        command = [os.environ.get("CC", "cc"), *flags, "-shared", "-fPIC", "-o", str(built)]
        try:
            subprocess.run([*command, str(REGISTERS)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        loaded = ctypes.CDLL(str(built))
    loaded.run.argtypes, loaded.run.restype = [ctypes.c_long, ctypes.c_float], ctypes.c_float
    steps = 10**6
    return steps * loaded.per_step() / best(lambda: loaded.run(steps, 0.5), 1, repeats=50)


def percent(share: float | None) -> str:
    """A share of a limit, if there is one."""
    return "" if share is None else f"{share:.0%}"


def write_bandwidth(threads: int, megabytes: int = 256) -> tuple[float, float]:
    """Bytes a second written into memory that exists, and into memory that is new."""
    torch.set_num_threads(threads)
    size = megabytes * 2**20
    existing = torch.empty(size, dtype=torch.uint8).fill_(1)
    old = size / best(lambda: existing.fill_(2), threads)
    new = size / best(lambda: torch.empty(size, dtype=torch.uint8).fill_(1), threads, repeats=5)
    return old, new


def sine(threads: int, dtype: torch.dtype) -> float:
    """Sines a second, of angles in [-pi, pi], in memory that stays in the cache."""
    torch.set_num_threads(threads)
    x = torch.empty(2**16, dtype=dtype).uniform_(-3.14, 3.14)
    out = torch.empty_like(x)
    return len(x) / best(lambda: torch.sin(x, out=out), threads, repeats=100)


def native_bfloat16(device: str = "cpu") -> bool:
    """Whether the processor multiplies bfloat16 faster than float32, rather than emulating it."""
    if device != "cpu":
        return torch.cuda.is_bf16_supported()
    return has_products(torch.bfloat16)


def machine(device: str = "cpu") -> dict[str, Any]:
    """What a record says of the machine and of the libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = {line.partition(":")[2].strip() for line in lines if "model name" in line}
        processor = ", ".join(sorted(models)) or platform.processor()
    except OSError:
        processor = platform.processor()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if device != "cpu" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gemm_library": gemm_library(),
    }


def gemm_library() -> str:
    """Which library torch gives float32 products to."""
    configuration = torch.__config__.show()
    for line in configuration.replace(",", "\n").splitlines():
        if "BLAS_INFO=" in line:
            return line.partition("BLAS_INFO=")[2].strip()
    return "unknown"


def append(path: Path, record: dict[str, Any]) -> None:
    """One more line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def options_for_encoders(description: str | None, file: Path) -> argparse.Namespace:
    """What the command line says of encoders to measure, on one thread."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these encoders")
    parser.add_argument("--places", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=file)
    torch.set_num_threads(1)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    about = machine()
    for threads in options.threads:
        old, new = write_bandwidth(threads)
        dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        products_of = {name: gemm(threads, dtype) for name, dtype in dtypes.items()}
        record = {
            "what": "limits",
            **about,
            "threads": threads,
            "clock": "process" if threads == 1 else "wall",
            "write_existing": old,
            "write_fresh": new,
            "sin_float32": sine(threads, torch.float32),
            "sin_float64": sine(threads, torch.float64),
            "registers": registers() if threads == 1 else None,
            "native_bfloat16": native_bfloat16(),
            "gemm": {name: rate for name, (rate, _) in products_of.items()},
            "gemm_each": {name: each for name, (_, each) in products_of.items()},
        }
        append(options.out, record)
        print(f"{threads} thread{'s' * (threads > 1)}")
        print(f"  write, existing memory  {old / 1e9:8.1f} GB/s")
        print(f"  write, fresh memory     {new / 1e9:8.1f} GB/s")
        for name in ("float32", "float64"):
            print(f"  sin, {name}            {record[f'sin_{name}'] / 1e9:8.2f} G/s")
        if record["registers"] is not None:
            print(f"  products, registers     {record['registers'] / 1e9:8.0f} GFLOP/s")
        for name, (rate, each) in products_of.items():
            emulated = name == "bfloat16" and not native_bfloat16()
            print(f"  products, {name:9}     {rate / 1e9:8.0f} GFLOP/s{' (emulated)' * emulated}")
            for product, one in each.items():
                print(f"    {product:22}{one / 1e9:8.0f}")


if __name__ == "__main__":
    main()
