"""Two criteria over ``(logits, target)``: which column is the right one?"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def multiclass(logits: Tensor, target: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """mean_i -log softmax(s_i / temperature)[target_i]: one right column among K.

    Args:
        logits: similarities, divided by the temperature here.
        target: index of the right column.
        temperature: small values make the comparison sharp.

    Shape:
        logits ``(B, K)``, target ``(B,)``; a scalar.

    Example:
        >>> import torch
        >>> from geoenc.losses import multiclass
        >>> round(multiclass(torch.eye(4), torch.arange(4)).item(), 6)
        0.743668

    Reference:
        Mai et al., CSP, ICML 2023, equation 2 (with the minus and the logarithm that it omits).
    """
    return F.cross_entropy(logits / temperature, target)


def nce(logits: Tensor, target: Tensor | None, temperature: float | Tensor = 1.0) -> Tensor:
    """mean_i -log sigma(s_i+) + mean_ij -log(1 - sigma(s_ij)) over the other columns.

    Each column is judged by itself, with s the logits over the temperature. With ``target=None``
    every column is a negative.

    Shape:
        logits ``(B, K)``, target ``(B,)`` or None; a scalar.

    Example:
        >>> import torch
        >>> from geoenc.losses import nce
        >>> round(nce(torch.eye(4), torch.arange(4)).item(), 4)
        1.0064

    Reference:
        Mai et al., CSP, ICML 2023, equations 1 and 3; Mnih and Kavukcuoglu, NeurIPS 2013.

    Differs:
        The published code takes log(p + 1e-5) and so stops at 11.5; here the logarithm is exact.
        Values differ by less than 1e-4 where both are small.
    """
    scaled = wide(logits) / temperature
    if target is None:
        return F.softplus(scaled).sum() / max(scaled.numel(), 1)
    own = target[:, None]
    others = F.softplus(scaled.scatter(1, own, -torch.inf)).sum()
    return F.softplus(-scaled.gather(1, own)).mean() + others / max(scaled.numel() - len(own), 1)


CRITERIA = {"multiclass": multiclass, "nce": nce}


def unit(embedding: Tensor) -> Tensor:
    """x / |x| in float32 or wider; zero stays zero, with a gradient of order 1 instead of 1e12."""
    return _Unit.apply(wide(embedding))


class _Unit(torch.autograd.Function):
    """Autograd would take twice as long for the gradient (g - y (y . g)) / |x|, y = x / |x|."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * inverse_length(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        inverse = inverse_length(x)
        along = torch.linalg.vecdot(x, grad)[..., None] * inverse**2
        return torch.addcmul(grad, x, along, value=-1) * inverse


def inverse_length(x: Tensor) -> Tensor:
    """1 / |x|, and 1 where x is zero."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.where(length > 0, 1).reciprocal()


def through_unit(grad: Tensor, x: Tensor, factor: float | Tensor, out: Tensor) -> Tensor:
    """``factor`` times the gradient by x of what has this gradient by x / |x|; out may be grad."""
    for rows in chunks(len(x), 256):  # which stay in the cache
        own = wide(x[rows])
        inverse = inverse_length(own)
        along = torch.linalg.vecdot(own, grad[rows])[..., None] * inverse**2
        torch.addcmul(grad[rows], own, along, value=-1, out=out[rows]).mul_(inverse * factor)
    return out


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Of a Function: its gradients have no gradient, and say so where one is asked for."""

    @functools.wraps(backward)
    def derivative(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            made = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return made
        saved = [x for x in ctx.saved_tensors if x is not None and x.requires_grad]
        return tuple(None if one is None else _Last.apply(one, *saved) for one in made)

    return derivative


class _Last(torch.autograd.Function):
    @staticmethod
    def forward(gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise RuntimeError(
            "expected to differentiate this loss once, got a second derivative; make it from "
            "geoenc.losses.in_batch or sampled, and multiclass or nce, which autograd can follow"
        )


def chunks(rows: int, size: int) -> Iterator[slice]:
    """Slices of so many rows, the last one shorter."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, max(size, 1)))


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 or wider: sums over a batch overflow float16 and drown in bfloat16."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which mixed precision rests: logits in bfloat16 would change the loss."""
    return torch.autocast(tensor.device.type, enabled=False)


def check_temperature(**temperatures: float) -> None:
    """Refuse temperatures that are not positive."""
    for name, value in temperatures.items():
        if not value > 0:
            raise ValueError(f"expected {name} above 0, got {value}")


def check_pairs(name: str, anchor: Tensor, candidate: Tensor) -> None:
    """Refuse embeddings that do not come in pairs."""
    if anchor.ndim != 2 or anchor.shape != candidate.shape:
        raise ValueError(
            f"expected anchor and {name} of one shape (B, D), got {tuple(anchor.shape)} and "
            f"{tuple(candidate.shape)}"
        )


def zero_like(reference: Tensor) -> Tensor:
    """A scalar zero on the device and in the dtype of a tensor."""
    return torch.zeros((), dtype=reference.dtype, device=reference.device)
