"""Losses whose rows do not meet: few rows in memory at a time, and again for the gradient."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoenc.losses.criteria import chunks, inverse_length, once, wide
from geoenc.losses.logits import check_sampled

_NUMBERS_AT_ONCE = 2**17  # 512 KB, which stay in the cache


def multiclass_of_sampled(
    anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float
) -> Tensor:
    """`multiclass` of `sampled`, differentiated once.

    Shape:
        anchor and positive ``(B, D)``, negative ``(B, C, D)``; a scalar.
    """
    check_sampled(anchor, positive, negative)
    return _Sampled.apply(anchor, positive, negative, 1 / temperature)[0]


def nce_of_sampled(anchor: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """`nce` of `sampled` without a positive, in the same way."""
    check_sampled(anchor, None, negative)
    return _Sampled.apply(anchor, None, negative, 1 / temperature)[0]


class _Sampled(torch.autograd.Function):
    """Only cosines are kept, as d cos(a, c) / dc = (a / |a| - cos(a, c) c / |c|) / |c|."""

    @staticmethod
    def forward(
        anchor: Tensor, positive: Tensor | None, negative: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        sources = _sources(positive, negative)
        cosines = wide(anchor).new_empty(len(anchor), sum(part.shape[1] for part in sources))
        for rows in chunks(len(anchor), _rows_at_once(negative)):
            own, start = wide(anchor[rows])[:, None], 0
            inverse = inverse_length(own)
            for source in sources:
                columns = wide(source[rows])
                part = slice(start, start + columns.shape[1])
                lengths = (inverse * inverse_length(columns)).squeeze(2)
                cosines[rows, part] = torch.linalg.vecdot(own, columns) * lengths
                start = part.stop
        logits = cosines * scale
        if positive is None:
            losses = F.softplus(logits).sum(1) / max(logits.shape[1], 1)
        else:
            losses = logits.logsumexp(1) - logits[:, 0]
        return losses.mean(), cosines

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        anchor, positive, negative, ctx.scale = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(anchor, positive, negative, output[1])

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 4
        anchor, positive, negative, cosines = ctx.saved_tensors
        if positive is None:
            slope = (cosines * ctx.scale).sigmoid_() / max(cosines.shape[1], 1)
        else:
            slope = (cosines * ctx.scale).softmax(1)
            slope[:, 0] -= 1
        slope *= ctx.scale / max(len(anchor), 1) * grad
        along = (slope * cosines)[..., None]
        slope = slope[..., None]
        sources = _sources(positive, negative)
        to_anchor, *made = (torch.empty_like(wide(x)) for x in (anchor, *sources))
        for rows in chunks(len(anchor), _rows_at_once(negative)):
            own, start = wide(anchor[rows])[:, None], 0
            inverse = inverse_length(own)
            to_own = to_anchor[rows]
            torch.mul(own[:, 0], -along[rows].sum(1) * inverse[:, 0] ** 2, out=to_own)
            for source, to_source in zip(sources, made, strict=True):
                columns, part = wide(source[rows]), slice(start, start + source.shape[1])
                of_columns = inverse_length(columns)
                weight = slope[rows, part] * inverse * of_columns
                to_own += (columns * weight).sum(1)
                torch.mul(own, weight, out=to_source[rows]).addcmul_(
                    columns, along[rows, part] * of_columns**2, value=-1
                )
                start = part.stop
        *to_positive, to_negative = made
        return to_anchor, to_positive[0].squeeze(1) if to_positive else None, to_negative, None


def _sources(positive: Tensor | None, negative: Tensor) -> list[Tensor]:
    return [negative] if positive is None else [positive[:, None], negative]


def _rows_at_once(wide_rows: Tensor) -> int:
    return max(_NUMBERS_AT_ONCE // max(wide_rows[:1].numel(), 1), 1)


def presence_absence(logits: Tensor, target: Tensor | None, positive_weight: float) -> Tensor:
    """Sum of -log(1 - sigma) of all logits, but positive_weight * -log sigma of the targets.

    Shape:
        logits ``(B, Q)``, target ``(B,)`` or None; a scalar.
    """
    return _PresenceAbsence.apply(logits, target, positive_weight)


class _PresenceAbsence(torch.autograd.Function):
    @staticmethod
    def forward(logits: Tensor, target: Tensor | None, positive_weight: float) -> Tensor:
        total = wide(logits[:0]).new_zeros(())
        for rows in chunks(len(logits), _rows_at_once(logits)):
            few = wide(logits[rows])
            loss = F.softplus(few)
            if target is not None:
                own = target[rows, None]
                present = F.softplus(-few.gather(1, own)) * positive_weight
                loss.scatter_(1, own, present)
            total += loss.sum()
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, target, ctx.positive_weight = inputs
        ctx.save_for_backward(logits, target)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, target = ctx.saved_tensors
        slope = torch.empty_like(logits)
        for rows in chunks(len(logits), _rows_at_once(logits)):
            few = wide(logits[rows])
            part = few.sigmoid()
            if target is not None:
                own = target[rows, None]
                part.scatter_(1, own, -ctx.positive_weight * (-few.gather(1, own)).sigmoid())
            slope[rows] = part.mul_(grad)
        return slope, None, None
