"""The contract of losses."""

import copy
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from geoenc.testing.export import check_compiled
from geoenc.testing.shared import device_of, expect, expect_close, gradcheck, kind, numbers, same

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


def check_loss(loss: nn.Module, *, compile: bool | str = False, **arguments: Tensor) -> None:
    """Check what every loss promises, on a copy: a finite scalar with usable gradients.

    The arguments are made up from the names in the signature of ``forward``: ``anchor``,
    ``candidate``, ``positive``, ``location``, ``image``, ``dropout`` ``(B, D)``; ``extra``
    ``(Q, D)``; ``sampled``, ``negative`` ``(B, C, D)``; ``logits``, ``background_logits``
    ``(B, Q)``; ``target`` ``(B,)``.

    Args:
        loss: the module.
        compile: also compile it, in one graph: True, or the name of a backend. Takes seconds.
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
        check_compiled(loss, (), compile, **given)


def _loss_arguments(loss: nn.Module, batch: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, parameter in inspect.signature(loss.forward).parameters.items():
        if name in given:
            result[name] = given[name]
        elif name == "target":
            result[name] = torch.arange(batch, device=device_of(loss)) % 5
        elif name in _SHAPES:
            result[name] = numbers(*_SHAPES[name](batch), device=device_of(loss), start=len(result))
        else:
            expect(
                parameter.default is not parameter.empty,
                f"arguments of {kind(loss)}.forward to be of {', '.join(_SHAPES)}",
                name,
                f"pass a tensor: check_loss(loss, {name}=...)",
            )
    return result


def _floating(given: dict[str, Tensor]) -> list[str]:
    return [name for name, value in given.items() if value.is_floating_point()]


def _check_scalar(loss: nn.Module, given: dict[str, Tensor]) -> None:
    before = {name: value.clone() for name, value in given.items()}
    first, second = loss(**given), loss(**given)
    expect(
        first.shape == () and bool(first.isfinite()), f"{kind(loss)} to be a finite scalar",
        first, "average over the batch",
    )  # fmt: skip
    expect(same(first, second), "the same loss for the same batch", second, "draw nothing")
    changed = [name for name in given if not same(given[name], before[name])]
    expect(not changed, "arguments left alone", f"a change of {changed}", "copy first")
    narrow = {
        name: given[name].float() if name in _floating(given) else given[name] for name in given
    }
    got = loss(**narrow)
    expect(got.dtype == torch.float32, "float32 for float32", got.dtype, "make no new tensors")
    expect_close(got, first, 1e-5, "the loss in float32", "that in float64")


def _check_loss_gradients(loss: nn.Module, given: dict[str, Tensor]) -> None:
    """Of the embeddings and of the parameters of the loss."""
    parameters = dict(loss.named_parameters())
    names = [*_floating(given), *parameters]

    def of(*values: Tensor) -> Tensor:
        new = dict(zip(names, values, strict=True))
        own = {key: new.pop(key) for key in parameters}
        return torch.func.functional_call(loss, own, kwargs={**given, **new})

    values = {**given, **parameters}
    leaves = tuple(values[key].detach().double().requires_grad_() for key in names)
    gradcheck(loss, of, leaves, eps=1e-6, atol=1e-6)


def _check_order(loss: nn.Module, given: dict[str, Tensor]) -> None:
    turned = {name: value if name == "extra" else value.roll(1, 0) for name, value in given.items()}
    expect_close(
        loss(**turned), loss(**given), 1e-9, "the loss of a batch in another order", "the loss"
    )


def _check_normalised(loss: nn.Module, given: dict[str, Tensor]) -> None:
    longer = {
        name: value if name in _NOT_EMBEDDINGS else 3.7 * value for name, value in given.items()
    }
    expect_close(loss(**longer), loss(**given), 1e-9, "the loss of longer embeddings", "the loss")


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
        expect(
            bool(value.isfinite()) and steepest < 1e6,
            f"{kind(loss)} to be finite, with usable gradients, if an embedding of {name} is zero",
            f"the loss {value.item():.3g} and a gradient of {steepest:.1g}",
            "normalise with geoenc.losses.criteria.unit",
        )
