"""Two criteria over ``(logits, target)``: which column is the right one?"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOGITS_AT_ONCE = 2**22


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
    absent = F.softplus(scaled)
    if target is None:
        return absent.sum() / max(absent.numel(), 1)
    right = scaled.gather(1, target[:, None])
    others = absent.sum() - F.softplus(right).sum()
    return F.softplus(-right).mean() + others / max(absent.numel() - len(absent), 1)


def multiclass_in_batch(anchor: Tensor, columns: Tensor, first: int, temperature: float) -> Tensor:
    """`multiclass` of anchor @ columns.T, where row i belongs to column first + i.

    The gradient is made on the way, so that neither the logits nor their softmax outlive the rows
    that they belong to. It cannot be differentiated again.

    Shape:
        anchor ``(B, D)``, columns ``(K, D)``; a scalar.
    """
    return _MulticlassInBatch.apply(anchor, columns, first, temperature)[0]


class _MulticlassInBatch(torch.autograd.Function):
    @staticmethod
    def forward(
        anchor: Tensor, columns: Tensor, first: int, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = max(_LOGITS_AT_ONCE // len(columns), 1)
        scale = 1 / temperature / len(anchor)
        losses, to_anchor, to_columns = [], [], torch.zeros_like(columns)
        own = slice(first, first + len(anchor))
        to_columns[own].sub_(anchor, alpha=scale)
        for rows, positive in zip(anchor.split(size), columns[own].split(size), strict=True):
            logits = (rows / temperature) @ columns.mT
            top = logits.amax(1)
            softmax = logits.sub_(top[:, None]).exp_()
            total = softmax.sum(1)
            softmax.div_(total[:, None])
            losses.append(top + total.log() - torch.linalg.vecdot(rows, positive) / temperature)
            to_anchor.append(torch.addmm(positive, softmax, columns, beta=-scale, alpha=scale))
            to_columns.addmm_(softmax.mT, rows, alpha=scale)
        return torch.cat(losses).mean(), torch.cat(to_anchor), to_columns

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, None, None]:
        to_anchor, to_columns = ctx.saved_tensors
        return grad * to_anchor, grad * to_columns, None, None


CRITERIA = {"multiclass": multiclass, "nce": nce}


def unit(embedding: Tensor) -> Tensor:
    """x / |x| in float32 or wider; zero stays zero, with a gradient of order 1 instead of 1e12."""
    return _Unit.apply(wide(embedding))


class _Unit(torch.autograd.Function):
    """Autograd would take twice as long for the gradient (g - y (y . g)) / |x|, y = x / |x|."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * _inverse_length(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        inverse = _inverse_length(x)
        along = torch.linalg.vecdot(x, grad)[..., None] * inverse**2
        return torch.addcmul(grad, x, along, value=-1) * inverse


def _inverse_length(x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.where(length > 0, 1).reciprocal()


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
