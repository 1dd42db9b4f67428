"""Losses whose rows do not meet: few rows in memory at a time, and again for the gradient."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoenc.losses.criteria import chunks, once, through_unit_, unit, wide
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
    return _Sampled.apply(anchor, positive, negative, 1 / temperature)


def nce_of_sampled(anchor: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """`nce` of `sampled` without a positive, in the same way."""
    check_sampled(anchor, None, negative)
    return _Sampled.apply(anchor, None, negative, 1 / temperature)


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(anchor: Tensor, positive: Tensor | None, negative: Tensor, scale: float) -> Tensor:
        losses = wide(anchor).new_empty(len(anchor))
        for rows in chunks(len(anchor), _rows_at_once(negative)):
            logits, _, _ = _sampled_logits(anchor, positive, negative, scale, rows)
            if positive is None:
                losses[rows] = F.softplus(logits).sum(1) / max(logits.shape[1], 1)
            else:
                losses[rows] = logits.logsumexp(1) - logits[:, 0]
        return losses.mean()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        anchor, positive, negative, ctx.scale = inputs
        ctx.save_for_backward(anchor, positive, negative)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        anchor, positive, negative = ctx.saved_tensors
        to_anchor, to_negative = torch.empty_like(wide(anchor)), torch.empty_like(wide(negative))
        to_positive = None if positive is None else torch.empty_like(to_anchor)
        for rows in chunks(len(anchor), _rows_at_once(negative)):
            logits, units, columns = _sampled_logits(anchor, positive, negative, ctx.scale, rows)
            if positive is None:
                slope = logits.sigmoid() / max(logits.shape[1], 1)
            else:
                slope = logits.softmax(1)
                slope[:, 0] -= 1
            slope = slope * (ctx.scale / len(anchor) * grad)
            to_anchor[rows] = (slope[:, None] @ columns).squeeze(1)
            to_columns = slope[..., None] * units[:, None]
            if to_positive is not None:
                to_positive[rows] = to_columns[:, 0]
            to_negative[rows] = to_columns if positive is None else to_columns[:, 1:]
        if to_positive is not None:
            through_unit_(to_positive, positive)
        through_unit_(to_anchor, anchor)
        through_unit_(to_negative, negative)
        return to_anchor, to_positive, to_negative, None


def _rows_at_once(wide_rows: Tensor) -> int:
    return max(_NUMBERS_AT_ONCE // max(wide_rows[:1].numel(), 1), 1)


def _sampled_logits(
    anchor: Tensor, positive: Tensor | None, negative: Tensor, scale: float, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    units, columns = unit(anchor[rows]), unit(negative[rows])
    if positive is not None:
        columns = torch.cat([unit(positive[rows])[:, None], columns], 1)
    return torch.linalg.vecdot(units[:, None], columns) * scale, units, columns


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
