"""Kernels in C for the processor, built once by the machine's own compiler.

`load_kernels` builds what is in ``kernels`` with ``cc``, or what the variable ``CC`` names, when
they are first asked for, in about a second, and keeps the result in ``geoenc`` of the user's cache
folder. Where there is no compiler, or what it makes does not compute as it should, it gives None
and callers use plain torch, which is what the kernels are tested against. ``CC=false`` turns them
off.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from geoenc._files import atomic_path

SINE = (6.28318527, -16.20895564, 16.76918967, -9.624604698, 3.516376009, -0.7983429494)
COSINE = (0.9999999881, -3.739204624, 5.111852464, -3.660740908, 1.597943186, -0.4087506353)
"""sin(2 pi r) = r (1 - 4 r^2) P(r^2) and cos(2 pi r) = (1 - 16 r^2) Q(r^2) for |r| <= 1/2, with
exact zeros: P and Q by `benchmarks.speed.fit_sine`."""
_TAYLOR = [
    [(-1) ** k * math.radians(1) ** n / math.factorial(n) for k, n in enumerate(powers)]
    for powers in (range(1, 25, 2), range(0, 24, 2))
]

WORTH_BUILDING = 2**17
"""Numbers in a result for which the kernels are used."""
GROUP = 16
"""Places side by side in the registers of a kernel, at most."""
_STEP = 64
"""A part of the work has a multiple of so many places, except the last."""
_PAST_CACHE = 2**22
"""Bytes of a result that is written past the cache."""
_A_PART = 2**20
"""Numbers that keep a thread busy."""

_ONE_AT_A_TIME = threading.Lock()
_SOURCES = sorted((Path(__file__).parent / "kernels").glob("*.[ch]"))
_WIDEST: tuple[list[str], ...] = (
    ["-march=native", "-mprefer-vector-width=512"],
    ["-mcpu=native"],
    [],
)
_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-shared"]

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_SIGNATURES = {
    "geoenc_waves": [
        _POINTER, _LONG, _INT, ctypes.c_double, _POINTER, _POINTER, _INT, _POINTER, _POINTER, _INT,
        ctypes.c_float, _POINTER, _LONG, _LONG, _INT,
    ],
    "geoenc_layers": [_POINTER, _LONG, _LONG, _LONG, _POINTER, _INT, _POINTER, _LONG, _INT],
    "geoenc_harmonics": [
        _POINTER, _INT, _LONG, _LONG, _LONG, _INT, _POINTER, _POINTER, _LONG, _INT, _INT,
    ],
    "geoenc_harmonics_slopes": [
        _POINTER, _LONG, _LONG, _LONG, _INT, _POINTER, _POINTER, _LONG, _INT, _POINTER, _LONG,
    ],
}  # fmt: skip


class Layer(ctypes.Structure):
    """y = norm(act(W x + b) + skip), as ``geoenc_layers`` of the kernels reads it."""

    _fields_ = (
        ("weight", _POINTER), ("bias", _POINTER), ("scale", _POINTER), ("shift", _POINTER),
        ("inputs", _LONG), ("outputs", _LONG), ("skip", ctypes.c_int32),
        ("slope", ctypes.c_float), ("epsilon", ctypes.c_float), ("turns", ctypes.c_double),
    )  # fmt: skip


def load_kernels() -> ctypes.CDLL | None:
    """The kernels, built now if this machine has not built them before; None without them."""
    with _ONE_AT_A_TIME:
        return _loaded()


@functools.cache
def _loaded() -> ctypes.CDLL | None:
    try:
        with contextlib.ExitStack() as stack:
            folder = _cache() or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            loaded = ctypes.CDLL(str(_built(folder)))
        for name, arguments in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.argtypes, function.errcheck = arguments, _finished
        _check(loaded)
    except Exception as error:  # a compiler, a loader, a file system: all may fail in their way
        logging.getLogger(__name__).info("no kernels, plain torch is used: %s", error)
        return None
    return loaded


def _finished(failed: int, function: Any, arguments: Any) -> None:
    if failed:
        raise MemoryError(f"expected memory for the lines of {function.__name__}, got none")


def _cache() -> Path | None:
    """``geoenc`` of the user's cache folder, or None where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoenc"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _built(folder: Path) -> Path:
    """The file of the kernels, compiled unless it is there."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    found = shutil.which(compiler[0])
    if found is None:
        raise FileNotFoundError(f"expected a C compiler, got no {compiler[0]}; install one")
    names = ("SINE", "COSINE", "WIDE_SINE", "WIDE_COSINE")
    constants = [
        f"-D{name}_COEFFICIENTS={','.join(map(repr, values))}"
        for name, values in zip(names, (SINE, COSINE, *_TAYLOR), strict=True)
    ]
    sources = [str(one) for one in _SOURCES if one.suffix == ".c"]
    command = [*compiler, *_FLAGS, *constants, *sources]
    texts = [one.read_text(encoding="utf-8") for one in _SOURCES]
    made_of = (texts, command, _WIDEST, os.stat(found).st_mtime_ns)
    machine = platform.platform(), platform.machine(), _processor()
    digest = hashlib.sha256(repr((made_of, machine)).encode()).hexdigest()
    target = folder / f"kernels-{digest[:16]}.so"
    if target.is_file():
        return target
    with atomic_path(target) as temporary:
        for widest in _WIDEST:
            done = subprocess.run(
                [*command, *widest, "-o", str(temporary), "-lm"],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if done.returncode == 0:
                return target
        raise OSError(f"{shlex.join(compiler)} failed: {done.stderr[-500:]}")


def _processor() -> str:
    """What the processor can do: a cache folder may be seen by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.node()
    return next((one for one in lines if one.startswith(("flags", "Features"))), platform.node())


def has_products(dtype: torch.dtype) -> bool:
    """Whether the processor multiplies numbers of half precision, rather than emulating it."""
    known = {
        torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"},
        torch.float16: {"avx512_fp16", "amx_fp16", "asimdhp"},
    }
    if dtype not in known or platform.machine() == "arm64":
        return True
    return not known[dtype].isdisjoint(_processor().split())


def _check(loaded: ctypes.CDLL) -> None:
    """Compare with plain torch at some places."""
    turns = torch.linspace(-3, 3, 45, dtype=torch.float64)
    phases = torch.cat([torch.arange(1, 20)[:, None], torch.full((19, 1), 0.1)], 1).double()
    first = torch.arange(0, 38, 2) * loaded.geoenc_group()
    counts, got = torch.tensor([19, 0]), torch.empty(45, 19)
    loaded.geoenc_waves(
        turns.data_ptr(), 45, 1, 2.0, phases.data_ptr(), counts.data_ptr(), 19,
        first.data_ptr(), None, 19, 1.0, got.data_ptr(), 19, 1, 0,
    )  # fmt: skip
    wanted = torch.sin(2 * torch.pi * (turns[:, None] * phases[:, 0] + phases[:, 1]))
    if not (got - wanted).abs().max() < 1e-6:
        raise ArithmeticError("expected sines from the kernels, got other numbers")


def is_plain(x: Tensor) -> bool:
    """Whether no compiler, exporter or transform has to see what is done with ``x``."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(x) is not Tensor
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad.unpack_dual(x).tangent is not None
    )


def fits(out: Tensor) -> bool:
    """Whether the kernels can write ``out``: rows on the processor whose numbers touch."""
    return out.device.type == "cpu" and out.stride(1) == 1


def past_cache(out: Tensor) -> bool:
    """Whether ``out`` is, or is part of, a result too large for the cache."""
    return out.untyped_storage().nbytes() > _PAST_CACHE


def in_parts(rows: int, numbers: int, work: Callable[[int, int], None]) -> None:
    """``work(start, count)`` on all rows, in as many threads of torch as ``numbers`` keep busy."""
    parts = min(torch.get_num_threads(), numbers // _A_PART)
    if parts < 2:
        work(0, rows)
        return
    step = math.ceil(rows / parts / _STEP) * _STEP
    starts = range(0, rows, step)
    list(_threads(parts).map(work, starts, [min(step, rows - start) for start in starts]))


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


if hasattr(os, "register_at_fork"):  # a new process has none of the threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
