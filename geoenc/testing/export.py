"""Does it leave Python? torch.compile, torch.export and ONNX, with a batch of any size."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from geoenc._optional import require
from geoenc.testing.shared import Inputs, attempt, expect, expect_close, kind, leaves

OPSET = 18


def check_portable(module: nn.Module, inputs: Inputs, *, compile: bool | str, export: bool) -> None:
    """What the two arguments of every check ask for, on a module in evaluation mode."""
    if compile:
        check_compiled(module, inputs, compile)
    if export:
        check_onnx(module, check_exported(module, inputs), inputs)


def check_compiled(module: nn.Module, inputs: Inputs, backend: bool | str, **named: Tensor) -> None:
    """One graph, with the result of the module; True means ``aot_eager``."""
    torch.compiler.reset()
    backend = backend if isinstance(backend, str) else "aot_eager"
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    what = f"{kind(module)} to compile in one graph"
    result = attempt(what, lambda: compiled(*inputs, **named))
    _expect_all_close(result, module(*inputs, **named), 1e-6, "compiled")


def check_exported(module: nn.Module, inputs: Inputs) -> Any:
    """``torch.export`` with a batch of any size; returns the program."""
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    what = f"{kind(module)} to be exported with a batch of any size"
    program = attempt(what, lambda: torch.export.export(module, inputs, dynamic_shapes=shapes))
    again = program.module()
    for other in _other_batches(inputs):
        result = attempt(what, functools.partial(again, *other))
        _expect_all_close(result, module(*other), 1e-6, "exported")
    return program


def check_onnx(module: nn.Module, program: Any, inputs: Inputs) -> None:
    """ONNX, run by onnxruntime on the CPU: the same dtype, and the same result to 1e-5."""
    require("onnxscript", extra="onnx")
    onnxruntime = require("onnxruntime", extra="onnx")

    def session() -> Any:
        written: Any = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        return onnxruntime.InferenceSession(
            written.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    running = attempt(f"{kind(module)} to run in onnxruntime from ONNX of opset {OPSET}", session)
    names = [one.name for one in running.get_inputs()]
    module = copy.deepcopy(module).cpu()
    for other in _other_batches(tuple(x.cpu() for x in inputs)):
        given = {key: x.numpy() for key, x in zip(names, other, strict=True)}
        result = [torch.from_numpy(one) for one in running.run(None, given)]
        _expect_all_close(result, module(*other), 1e-5, "ONNX")


def _other_batches(inputs: Inputs) -> list[Inputs]:
    """Batches of other sizes than ``inputs``, the first with a row of NaN."""
    longer = tuple(torch.cat([x, x.flip(0)]) for x in inputs)
    for x in longer:
        x[1] = torch.nan
    return [longer, tuple(x[:1] for x in inputs)]


def _expect_all_close(result: Any, wanted: Any, tolerance: float, what: str) -> None:
    for got, one in zip(leaves(result), leaves(wanted), strict=True):
        expect(got.dtype == one.dtype, f"{what} to give {one.dtype}", got.dtype, "narrow it")
        expect_close(got, one, tolerance, what, "the direct result")
