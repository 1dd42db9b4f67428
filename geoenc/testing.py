"""Does my class keep the contract? Checks for position encoders, networks and losses of anyone.

Each check raises AssertionError with what was expected, what was found, and what to do. pytest
is not needed; a test of a class of your own is one line.
"""

import copy
import inspect
import json
import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from geoenc.component import Component
from geoenc.network import Network
from geoenc.position import PositionEncoder

_PLACES = (
    (-122.27, 37.87),
    (2.35, 48.86),
    (139.69, 35.68),
    (-70.67, -33.45),
    (0.0, 0.0),
    (179.99, -16.5),
    (-179.99, 66.1),
    (25.3, 89.9),
    (-3.7, -89.9),
)
_LONGITUDES = (-180.0, -120.5, -33.0, 0.0, 10.25, 77.0, 179.0)
_LATITUDES = (-80.5, -45.0, -1.25, 0.0, 33.3, 60.0, 89.0)


def check_position_encoder(encoder: PositionEncoder, *, compile: bool = False) -> None:
    """Check everything that `geoenc.PositionEncoder` promises, on a copy.

    Shapes, widths and dtypes; arithmetic that ``.half()`` leaves alone; gradients, at the poles
    too; NaN; determinism; both wrapping properties, which must hold if declared and fail if not;
    rebuilding from configuration and weights; ``torch.func``.

    Args:
        encoder: on the device where it is to be checked.
        compile: also compile it, in one graph; takes seconds.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> geoenc.testing.check_position_encoder(geoenc.Space2VecGrid(4))
    """
    encoder = copy.deepcopy(encoder).float()
    exact = copy.deepcopy(encoder).double()
    lonlat = torch.tensor(_PLACES, dtype=torch.float64, device=_device(encoder))
    _check_shapes(encoder, 2, encoder.out_features, ValueError)
    _check_repeatable(encoder, lonlat)
    _check_output_dtype(encoder, exact, lonlat)
    _check_buffers(encoder)
    _check_rebuilt(encoder, lonlat)
    _check_missing_places(encoder, lonlat)
    _check_wraps(exact, "wraps_antimeridian", _edges(lonlat.device))
    _check_wraps(exact, "wraps_poles", _poles(lonlat.device))
    _check_vmap(exact, lonlat)
    _check_steepness(exact)
    _check_gradients(exact, lonlat[:6], 1e-3 * _finest(exact), 1 / _finest(exact))
    _check_pole_gradients(exact, lonlat)
    if compile:
        _check_compiled(encoder, lonlat)


def check_network(network: Network, *, compile: bool = False) -> None:
    """Check everything that `geoenc.Network` promises, on a copy.

    Shapes, widths and dtypes; rows that do not see each other; gradients of the argument and of
    every parameter; evaluation mode without chance; rebuilding from configuration and weights.

    Args:
        network: on the device where it is to be checked.
        compile: also compile it, in one graph; takes seconds.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> geoenc.testing.check_network(geoenc.FFN(6, 3, hidden_features=8))
    """
    network = copy.deepcopy(network).float().eval()
    exact = copy.deepcopy(network).double()
    x = _numbers(5, network.in_features, device=_device(network))
    _check_shapes(network, network.in_features, network.out_features, (ValueError, RuntimeError))
    _check_follows_dtype(network, x)
    _check_repeatable(network, x.float())
    _check_rebuilt(network, x.float())
    _check_missing_rows(network, x.float())
    _check_vmap(exact, x)
    _check_gradients(exact, x, 1e-6, 1.0)
    _check_training(network, x.float())
    if compile:
        _check_compiled(network, x.float())


def check_loss(loss: nn.Module, *, compile: bool = False, **arguments: Tensor) -> None:
    """Check what every loss promises, on a copy: a finite scalar with usable gradients.

    The arguments are made up from the names in the signature of ``forward``: ``anchor``,
    ``candidate``, ``positive``, ``location``, ``image``, ``dropout`` ``(B, D)``; ``extra``
    ``(Q, D)``; ``sampled``, ``negative`` ``(B, C, D)``; ``logits``, ``background_logits``
    ``(B, Q)``; ``target`` ``(B,)``.

    Args:
        loss: the module.
        compile: also compile it, in one graph; takes seconds.
        arguments: float64 tensors for arguments with other names.

    Raises:
        AssertionError: a promise that is not kept.

    Example:
        >>> import geoenc, geoenc.testing
        >>> geoenc.testing.check_loss(geoenc.CSPLoss())
    """
    loss = copy.deepcopy(loss)
    for batch in (4, 1):
        given = _loss_arguments(loss, batch, arguments)
        _check_scalar(loss, given)
        _check_loss_gradients(loss, given)
        if not arguments:
            _check_order(loss, given)
            _check_normalised(loss, given)
            _check_zero_embeddings(loss, given)
    if compile:
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        _expect_close(compiled(**given), loss(**given), 1e-6, "compiled", "the loss")


# --- what components share ----------------------------------------------------------------------


def _check_shapes(module: Any, width: int, out: int, error: Any) -> None:
    parameter = next(chain(module.parameters(), module.buffers()), None)
    for shape in ((width,), (5, width), (0, width), (3, 4, width)):
        x = torch.zeros(shape, device=None if parameter is None else parameter.device)
        got = tuple(module(x).shape)
        _expect(
            got == (*shape[:-1], out),
            f"{_name(module)} to map {shape} to {(*shape[:-1], out)}",
            got,
            "keep the leading dimensions and make out_features the last",
        )
    for shape in ((5, width + 1), (width + 1,)):
        try:
            module(torch.zeros(shape, device=None if parameter is None else parameter.device))
        except error:
            continue
        _expect(False, f"{_name(module)} to refuse shape {shape}", "a result", "check shapes")


def _check_repeatable(module: nn.Module, x: Tensor) -> None:
    before = x.clone()
    first, second = module(x), module(x)
    _expect(_same(x, before), f"{_name(module)} to leave its argument alone", "a change", "copy it")
    _expect(
        _same(first, second),
        f"{_name(module)} to repeat itself",
        "another result for the same argument",
        "draw numbers in the constructor and keep them as buffers",
    )


def _check_rebuilt(module: Component, x: Tensor) -> None:
    written = json.dumps(module.config, allow_nan=False)
    again: Any = Component.from_config(json.loads(written))
    _expect(
        json.dumps(again.config) == written,
        f"the configuration {written} after rebuilding",
        json.dumps(again.config),
        "store every constructor argument unchanged as an attribute of the same name",
    )
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    again.load_state_dict(load(save(state)))
    again.to(x.device).train(module.training)
    _expect(
        _same(again(x), module(x)),
        f"{_name(module)} to give the same result after saving and loading",
        "another one",
        "register what the result depends on as parameter or persistent buffer",
    )


def _check_vmap(module: nn.Module, x: Tensor) -> None:
    _expect_close(
        torch.func.vmap(module)(x), module(x), 1e-9, "torch.func.vmap", "the direct result"
    )


def _check_gradients(module: Any, x: Tensor, step: float, slope: float) -> None:
    """Reverse and forward mode against finite differences of ``step`` where slopes are large."""
    x = x.clone().requires_grad_()
    if not module(x).requires_grad:
        return
    try:
        torch.autograd.gradcheck(
            module, x, eps=step, atol=1e-4 * slope, rtol=1e-4, check_forward_ad=True, fast_mode=True
        )
    except RuntimeError as error:
        message = str(error).partition("\n")[0]
        _expect(False, f"{_name(module)} to have right gradients", message, "use torch operations")


def _check_compiled(module: nn.Module, x: Tensor) -> None:
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    _expect_close(compiled(x), module(x), 1e-6, "compiled", "the direct result")


# --- position encoders --------------------------------------------------------------------------


def _check_output_dtype(encoder: PositionEncoder, exact: PositionEncoder, lonlat: Tensor) -> None:
    wanted = exact(lonlat)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        got = copy.deepcopy(encoder).to(dtype)(lonlat)
        _expect(
            got.dtype == dtype,
            f"{_name(encoder)} to return {dtype} after .to({dtype})",
            got.dtype,
            "leave narrowing to PositionEncoder.forward",
        )
        parameters = any(True for _ in encoder.parameters())
        rounding = torch.finfo(dtype).eps * (1 if parameters else 0.51)
        worst = ((got.double() - wanted).abs() - rounding * wanted.abs()).max().item()
        _expect(
            worst < 2e-6,
            f"{_name(encoder)}.to({dtype}) to compute as in float64 and round once",
            f"an error of {worst:.1g} beyond rounding",
            "keep scales as float64 buffers or Python numbers",
        )


def _check_buffers(encoder: PositionEncoder) -> None:
    def dtypes(module: nn.Module) -> dict[str, torch.dtype]:
        return {
            name: buffer.dtype
            for name, buffer in module.named_buffers()
            if name != "_dtype_of_module"
        }

    for dtype in (torch.float16, torch.float64):
        changed = copy.deepcopy(encoder).to(dtype)
        _expect(
            dtypes(changed) == dtypes(encoder),
            f"buffers to keep their dtypes {dtypes(encoder)}",
            dtypes(changed),
            "do not override _apply",
        )


def _check_missing_places(encoder: PositionEncoder, lonlat: Tensor) -> None:
    missing = lonlat.clone()
    missing[[1, 3]] = torch.nan
    code, whole = encoder(missing), encoder(lonlat)
    unknown = code[[1, 3]].isnan()
    known = [0, 2, 4, 5, 6, 7, 8]
    _expect(
        bool(unknown.all()),
        f"{_name(encoder)} to give NaN where the place is NaN",
        f"numbers in {int((~unknown[0]).sum())} of {encoder.out_features} columns",
        "do not replace NaN, and take care with comparisons and indices",
    )
    _expect(
        _same(code[known], whole[known]),
        "other rows untouched by a missing place", "a change", "do not mix rows",
    )  # fmt: skip


def _edges(device: torch.device) -> tuple[Tensor, Tensor]:
    lat = torch.tensor(_LATITUDES, dtype=torch.float64, device=device)
    west = torch.stack([torch.full_like(lat, -180), lat], -1)
    return west, west * torch.tensor([-1.0, 1.0], dtype=torch.float64, device=device)


def _poles(device: torch.device) -> tuple[Tensor, Tensor]:
    lon = torch.tensor(_LONGITUDES, dtype=torch.float64, device=device).repeat(2)
    lat = torch.tensor((90.0, -90.0), dtype=torch.float64, device=device)
    lat = lat.repeat_interleave(len(_LONGITUDES))
    return torch.stack([lon, lat], -1), torch.stack([torch.full_like(lon, 25.0), lat], -1)


def _check_wraps(encoder: PositionEncoder, name: str, places: tuple[Tensor, Tensor]) -> None:
    declared = getattr(encoder, name)
    jump = (encoder(places[0]) - encoder(places[1])).abs().max().item()
    holds = jump < 1e-7
    _expect(
        declared is holds,
        f"{_name(encoder)}.{name} = {holds}, since the code jumps by {jump:.1g}",
        declared,
        "declare what holds; if it holds for these settings alone, check others",
    )


def _finest(encoder: PositionEncoder) -> float:
    """Smallest wavelength over 2 pi, in degrees, of an encoder that has wavelengths."""
    wavelengths = getattr(encoder, "wavelengths", None)
    return 1.0 if wavelengths is None else min(1.0, wavelengths.min().item() / (2 * math.pi))


def _check_steepness(encoder: PositionEncoder) -> None:
    wavelengths = getattr(encoder, "wavelengths", None)
    _expect(
        wavelengths is None or (wavelengths.ndim == 1 and bool((wavelengths > 0).all())),
        f"{_name(encoder)}.wavelengths of shape (F,), positive degrees",
        wavelengths,
        "leave the attribute out if there are no waves",
    )


def _check_pole_gradients(encoder: PositionEncoder, lonlat: Tensor) -> None:
    places = torch.cat([_poles(lonlat.device)[0], torch.zeros_like(lonlat[:1])])
    if not encoder(places.clone().requires_grad_()).requires_grad:
        return
    slopes = torch.func.vmap(torch.func.jacrev(encoder))(places)
    _expect(
        bool(slopes.isfinite().all()),
        f"{_name(encoder)} to have finite gradients at the poles and at (0, 0)",
        f"{int((~slopes.isfinite()).sum())} that are not",
        "avoid square roots and arcsines that reach the end of their range",
    )


# --- networks -----------------------------------------------------------------------------------


def _check_follows_dtype(network: Network, x: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        got = copy.deepcopy(network).to(dtype)(x.to(dtype)).dtype
        _expect(got == dtype, f"{_name(network)} to follow {dtype}", got, "make no new tensors")


def _check_missing_rows(network: Network, x: Tensor) -> None:
    missing = x.clone()
    missing[1] = torch.nan
    result, whole = network(missing), network(x)
    others = [0, *range(2, len(x))]
    _expect(
        bool(result[1].isnan().all()) and bool(result[others].isfinite().all()),
        f"{_name(network)} to give NaN for rows of NaN and for no others",
        f"{int(result.isnan().any(-1).sum())} rows with NaN for one",
        "let rows not see each other: no batch normalisation",
    )
    _expect_close(result[others], whole[others], 1e-6, "other rows", "the result without NaN")


def _check_training(network: Network, x: Tensor) -> None:
    network = copy.deepcopy(network).train()
    network(x.clone().requires_grad_()).square().sum().backward()
    unused = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    _expect(
        not unused, f"every parameter of {_name(network)} in use", f"none for {unused}", "remove it"
    )
    wrong = [
        name
        for name, p in network.named_parameters()
        if p.grad is not None and not bool(p.grad.isfinite().all())
    ]
    _expect(not wrong, "finite gradients in training", f"others for {wrong}", "look for 0 / 0")


# --- losses -------------------------------------------------------------------------------------

_WIDTH = 6
_SHAPES: dict[str, Callable[[int], tuple[int, ...]]] = {
    **dict.fromkeys(
        ("anchor", "candidate", "positive", "location", "image", "dropout"), lambda b: (b, _WIDTH)
    ),
    "extra": lambda b: (3, _WIDTH),
    "sampled": lambda b: (b, 2, _WIDTH),
    "negative": lambda b: (b, 2, _WIDTH),
    "logits": lambda b: (b, 5),
    "background_logits": lambda b: (b, 5),
    "target": lambda b: (b,),
}
_NOT_EMBEDDINGS = ("target", "logits", "background_logits")


def _loss_arguments(loss: nn.Module, batch: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, parameter in inspect.signature(loss.forward).parameters.items():
        if name in given:
            result[name] = given[name]
        elif name == "target":
            result[name] = torch.arange(batch, device=_device(loss)) % 5
        elif name in _SHAPES:
            result[name] = _numbers(*_SHAPES[name](batch), device=_device(loss), start=len(result))
        else:
            _expect(
                parameter.default is not parameter.empty,
                f"arguments of {_name(loss)}.forward to be of {', '.join(_SHAPES)}",
                name,
                f"pass a tensor: check_loss(loss, {name}=...)",
            )
    return result


def _floating(given: dict[str, Tensor]) -> list[str]:
    return [name for name, value in given.items() if value.is_floating_point()]


def _check_scalar(loss: nn.Module, given: dict[str, Tensor]) -> None:
    before = {name: value.clone() for name, value in given.items()}
    first, second = loss(**given), loss(**given)
    _expect(
        first.shape == () and bool(first.isfinite()), f"{_name(loss)} to be a finite scalar",
        first, "average over the batch",
    )  # fmt: skip
    _expect(_same(first, second), "the same loss for the same batch", second, "draw nothing")
    changed = [name for name in given if not _same(given[name], before[name])]
    _expect(not changed, "arguments left alone", f"a change of {changed}", "copy first")
    narrow = {
        name: given[name].float() if name in _floating(given) else given[name] for name in given
    }
    got = loss(**narrow)
    _expect(got.dtype == torch.float32, "float32 for float32", got.dtype, "make no new tensors")
    _expect_close(got, first, 1e-5, "the loss in float32", "that in float64")


def _check_loss_gradients(loss: nn.Module, given: dict[str, Tensor]) -> None:
    names = _floating(given)

    def of(*values: Tensor) -> Tensor:
        return loss(**{**given, **dict(zip(names, values, strict=True))})

    leaves = [given[name].clone().requires_grad_() for name in names]
    try:
        torch.autograd.gradcheck(of, leaves, eps=1e-6, atol=1e-6)
    except RuntimeError as error:
        message = str(error).partition("\n")[0]
        _expect(False, f"{_name(loss)} to have right gradients", message, "use torch operations")


def _check_order(loss: nn.Module, given: dict[str, Tensor]) -> None:
    turned = {name: value if name == "extra" else value.roll(1, 0) for name, value in given.items()}
    _expect_close(
        loss(**turned), loss(**given), 1e-9, "the loss of a batch in another order", "the loss"
    )


def _check_normalised(loss: nn.Module, given: dict[str, Tensor]) -> None:
    longer = {
        name: value if name in _NOT_EMBEDDINGS else 3.7 * value for name, value in given.items()
    }
    _expect_close(loss(**longer), loss(**given), 1e-9, "the loss of longer embeddings", "the loss")


def _check_zero_embeddings(loss: nn.Module, given: dict[str, Tensor]) -> None:
    for name in given:
        if name in _NOT_EMBEDDINGS:
            continue
        leaves = {key: value.clone() for key, value in given.items()}
        leaves[name][0] = 0
        for key in _floating(leaves):
            leaves[key].requires_grad_()
        value = loss(**leaves)
        value.backward()
        slopes = [leaves[key].grad for key in _floating(leaves)]
        steepest = max(s.abs().max().item() for s in slopes if s is not None)
        _expect(
            bool(value.isfinite()) and steepest < 1e6,
            f"{_name(loss)} to be finite, with usable gradients, if an embedding of {name} is zero",
            f"the loss {value.item():.3g} and a gradient of {steepest:.1g}",
            "normalise with geoenc.losses.criteria.unit",
        )


# --- words and numbers --------------------------------------------------------------------------


def _numbers(*shape: int, device: torch.device, start: int = 0) -> Tensor:
    """Made-up numbers around zero, the same at every call, float64."""
    generator = torch.Generator().manual_seed(start)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


def _device(module: nn.Module) -> torch.device:
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _name(module: nn.Module) -> str:
    return type(module).__name__


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _expect_close(got: Tensor, wanted: Tensor, tolerance: float, what: str, like: str) -> None:
    worst = (got.double() - wanted.double()).abs().max().item() if got.numel() else 0.0
    limit = tolerance * max(1.0, wanted.abs().max().item() if wanted.numel() else 0.0)
    _expect(worst <= limit, f"{what} to equal {like}", f"a difference of {worst:.1g}", "look there")


def _expect(holds: bool, expected: str, got: Any, do: str) -> None:
    if not holds:
        raise AssertionError(f"expected {expected}, got {got}; {do}")
