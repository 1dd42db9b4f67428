"""The criteria over all pairs of a batch, with few rows of logits in memory at a time.

Embeddings come as they are. Each function normalises them and leads the gradient back through
that by itself: unit vectors and their gradients would take more memory than the logits do.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoenc.distributed import is_distributed
from geoenc.losses.criteria import chunks, inverse_length, once, through_unit, unit, wide
from geoenc.losses.logits import in_batch_columns

_ROWS = {"cpu": 256}  # of logits at a time; fewer would slow down the products of matrices
_ROWS_ELSEWHERE = 1024
_FEW_LOGITS = 2**19  # 2 MB, which stay in the cache: at a time, however many rows that are
_KEPT_LOGITS = 2**24  # 64 MB: `symmetric_in_batch` makes more than these twice
_BOUNDED = 1 / 64  # the least temperature at which sums of exp(cosine / temperature) are safe


def multiclass_of_pairs(
    anchor: Tensor,
    candidate: Tensor,
    temperature: float | Tensor,
    *,
    extra: Tensor | None = None,
    symmetric: bool = False,
    gather: bool = False,
) -> Tensor:
    """`multiclass` of `in_batch`; ``symmetric`` averages with the same from candidate to anchor."""
    columns, first = in_batch_columns(anchor, candidate, extra, gather=gather)
    if symmetric and not (gather and is_distributed()):
        return symmetric_in_batch(anchor, columns, temperature)
    loss = multiclass_in_batch(anchor, columns, first, temperature)
    if symmetric:
        columns, first = in_batch_columns(candidate, anchor, gather=gather)
        loss = (loss + multiclass_in_batch(candidate, columns, first, temperature)) / 2
    return loss


def multiclass_in_batch(
    anchor: Tensor, columns: Tensor, first: int, temperature: float | Tensor
) -> Tensor:
    """`multiclass` of cos(anchor_i, column_j), where row i belongs to column first + i.

    The gradient is made on the way, so that no logits outlive the rows that they belong to. It
    is differentiated once.

    Shape:
        anchor ``(B, D)``, columns ``(K, D)``; a scalar.
    """
    criterion = "bounded" if _is_at_least(_BOUNDED, temperature) else "multiclass"
    grad = torch.is_grad_enabled()
    return _OneWay.apply(anchor, columns, 1 / temperature, first, criterion, grad)[0]


def nce_in_batch(
    anchor: Tensor, columns: Tensor, first: int, temperature: float | Tensor
) -> Tensor:
    """`nce` of the same cosines, in the same way.

    It judges pairs one by one: if rows and columns are equally many, it is its own reverse.
    """
    grad = torch.is_grad_enabled()
    return _OneWay.apply(anchor, columns, 1 / temperature, first, "nce", grad)[0]


def symmetric_in_batch(anchor: Tensor, columns: Tensor, temperature: float | Tensor) -> Tensor:
    """Mean of `multiclass` over the rows and over the first B columns of cos(anchor_i, column_j).

    Row i belongs to column i; columns beyond the rows ask no question. Forward sums exponentials
    by row and by column; backward makes the logits again, unless they are few: four products of
    matrices where two directions take six. It is differentiated once.

    Shape:
        anchor ``(B, D)``, columns ``(K, D)`` with K at least B; a scalar.
    """
    bounded = _is_at_least(_BOUNDED, temperature)
    return _Symmetric.apply(anchor, columns, 1 / temperature, bounded, torch.is_grad_enabled())[0]


def _is_at_least(bound: float, temperature: float | Tensor) -> bool:
    """False also where the answer would make a device or the compiler wait."""
    if isinstance(temperature, Tensor):
        if temperature.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        temperature = temperature.detach()
    return float(temperature) >= bound


def _rows_at_once(anchor: Tensor, columns: Tensor) -> int:
    few = _FEW_LOGITS // max(len(columns), 1)
    return min(len(anchor), max(few, _ROWS.get(anchor.device.type, _ROWS_ELSEWHERE)))


def _scaled(anchor: Tensor, scale: float | Tensor) -> Tensor:
    own = wide(anchor)
    return own * (inverse_length(own) * scale)


class _OneWay(torch.autograd.Function):
    """The loss, and its gradients by anchor, unit columns and scale, the inverse temperature."""

    @staticmethod
    def forward(
        anchor: Tensor,
        columns: Tensor,
        scale: float | Tensor,
        first: int,
        criterion: str,
        with_gradient: bool,
    ) -> tuple[Tensor, ...]:
        candidates, size = unit(columns), _rows_at_once(anchor, columns)
        buffer = candidates.new_empty(size, len(columns))
        to_anchor = candidates.new_empty(anchor.shape if with_gradient else 0)
        to_columns = candidates.new_zeros(columns.shape if with_gradient else 0)
        losses, to_scale = candidates.new_empty(len(anchor)), candidates.new_zeros(())
        for rows in chunks(len(anchor), size):
            scaled = _scaled(anchor[rows], scale)
            logits = torch.mm(scaled, candidates.mT, out=buffer[: len(scaled)])
            own = logits.diagonal(first + rows.start)[: len(scaled)]
            losses[rows], slope, factor = _CRITERIA[criterion](logits, own)
            if with_gradient:
                grad = torch.mm(slope, candidates, out=to_anchor[rows]).mul_(factor)
                if isinstance(scale, Tensor):
                    to_scale += torch.linalg.vecdot(scaled, grad).sum()
                to_columns.addmm_(slope.mT, scaled.mul_(factor))
                through_unit(grad, anchor[rows], scale, out=grad)
        return losses.mean(), to_anchor, to_columns, to_scale / scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2], *output[1:])

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        anchor, columns, to_anchor, to_columns, to_scale = ctx.saved_tensors
        factor, needed = grad / max(len(anchor), 1), ctx.needs_input_grad
        made: list[Tensor | None] = [None] * len(needed)
        if needed[0]:
            made[0] = to_anchor * factor
        if needed[1]:
            made[1] = through_unit(to_columns, columns, factor, torch.empty_like(to_columns))
        if needed[2]:
            made[2] = to_scale * factor
        return tuple(made)


def _multiclass_rows(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-log softmax of each row's own column; its gradient, written over the logits, and a factor.

    The factor is what each row of the gradient must still be multiplied by.
    """
    return _bounded_rows(logits.sub_(logits.amax(1, keepdim=True)), own)


def _bounded_rows(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same where no logit is so large that its exponential needs a shift."""
    right = own.clone()
    total = logits.exp_().sum(1, keepdim=True)
    own.sub_(total.squeeze(1))
    return total.log().squeeze(1) - right, logits, total.reciprocal()


def _nce_rows(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor, float]:
    """-log sigma of the own column and mean of -log(1 - sigma) of the others; gradient, factor."""
    right, others = own.clone(), max(logits.shape[1] - 1, 1)
    own.fill_(-torch.inf)
    absent = torch.cat([F.softplus(few).sum(1) for few in logits.split(16)]) / others
    slope = logits.sigmoid_()
    own.copy_(right.neg().sigmoid_().mul_(-others))
    return F.softplus(-right) + absent, slope, 1 / others


_Criterion = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, float | Tensor]]
_CRITERIA: dict[str, _Criterion] = {
    "multiclass": _multiclass_rows,
    "bounded": _bounded_rows,
    "nce": _nce_rows,
}


class _Symmetric(torch.autograd.Function):
    """The loss; sums of exponentials over rows and columns, or their logarithms, for backward.

    If ``bounded``, exp(logits) serves both directions; else each is shifted by its own maximum.
    """

    @staticmethod
    def forward(
        anchor: Tensor, columns: Tensor, scale: float | Tensor, bounded: bool, with_gradient: bool
    ) -> tuple[Tensor, ...]:
        candidates = unit(columns)
        batch, size = len(anchor), _rows_at_once(anchor, columns)
        keep = with_gradient and batch * len(columns) <= _KEPT_LOGITS
        kept = candidates.new_empty(batch if keep else 0, len(columns))
        buffer = candidates.new_empty(0 if keep else size, len(columns))
        work = candidates.new_empty(0 if bounded else size, len(columns))
        of_rows, right = candidates.new_empty(2, batch, 1).unbind()
        of_columns = candidates.new_zeros(batch)
        top = candidates.new_full((batch,), -torch.inf)
        for rows in chunks(batch, size):
            scaled = _scaled(anchor[rows], scale)
            into = kept[rows] if keep else buffer[: len(scaled)]
            logits = torch.mm(scaled, candidates.mT, out=into)
            square = logits[:, :batch]
            right[rows, 0] = square.diagonal(rows.start)
            if bounded:
                torch.sum(logits.exp_(), 1, keepdim=True, out=of_rows[rows])
                of_columns += square.sum(0)
                continue
            highest, higher = logits.amax(1, keepdim=True), torch.maximum(top, square.amax(0))
            shifted = torch.sub(logits, highest, out=work[: len(scaled)]).exp_()
            of_rows[rows] = highest + shifted.sum(1, keepdim=True).log()
            shifted = torch.sub(square, higher, out=shifted[:, :batch]).exp_()
            of_columns = of_columns * (top - higher).exp() + shifted.sum(0)
            top = higher
        rows_lse = of_rows.log() if bounded else of_rows
        columns_lse = of_columns.log() if bounded else top + of_columns.log()
        loss = ((rows_lse.squeeze(1) + columns_lse) / 2 - right.squeeze(1)).mean()
        return loss, of_rows, of_columns if bounded else columns_lse, kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        anchor, columns, scale, ctx.bounded, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        fixed = not isinstance(scale, Tensor)
        ctx.scale = scale if fixed else None
        ctx.save_for_backward(anchor, columns, *output[1:], *([] if fixed else [scale]))

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 5
        anchor, columns, of_rows, of_columns, kept, *given = ctx.saved_tensors
        scale = given[0] if given else ctx.scale
        candidates = unit(columns)
        batch, size = len(anchor), _rows_at_once(anchor, columns)
        buffer, work = candidates.new_empty(2, size, len(columns)).unbind()
        to_anchor, to_columns = candidates.new_empty(anchor.shape), torch.zeros_like(candidates)
        to_scale = candidates.new_zeros(())
        if ctx.bounded:
            of_rows = of_rows.reciprocal()
            of_columns = F.pad(of_columns.reciprocal(), (0, len(columns) - batch))
        for rows in chunks(batch, size):
            scaled = _scaled(anchor[rows], scale)
            spare, slope = buffer[: len(scaled)], work[: len(scaled)]
            logits = kept[rows] if len(kept) else torch.mm(scaled, candidates.mT, out=spare)
            if ctx.bounded:
                exponential = logits if len(kept) else logits.exp_()
                torch.add(of_rows[rows], of_columns, out=slope).mul_(exponential)
            else:
                torch.sub(logits, of_rows[rows], out=slope).exp_()
                reverse = torch.sub(logits[:, :batch], of_columns, out=spare[:, :batch])
                slope[:, :batch].add_(reverse.exp_())
            slope.diagonal(rows.start)[: len(scaled)].sub_(2)
            made = torch.mm(slope, candidates, out=to_anchor[rows])
            to_columns.addmm_(slope.mT, scaled)
            if given:
                to_scale += torch.linalg.vecdot(scaled, made).sum()
        factor = grad / (2 * batch)
        through_unit(to_anchor, anchor, scale * factor, out=to_anchor)
        through_unit(to_columns, columns, factor, out=to_columns)
        to_scale = to_scale * factor / scale
        return to_anchor, to_columns, to_scale if given else None, None, None
