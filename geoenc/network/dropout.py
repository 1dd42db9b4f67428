"""Dropout whose masks cost little on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """y = x m / (1 - p) with m ~ Bernoulli(1 - p), as ``nn.Dropout``.

    On a CPU, where p is a multiple of 1/256, the mask is drawn as random bytes, eight to a word:
    several times faster than one Bernoulli draw an element, and reproducible from torch's global
    generator all the same. Elsewhere, and inside torch.compile or export, it is ``nn.Dropout``.

    Args:
        p: probability of a zero.
        inplace: write over the input, where nothing else needs it.

    Shape:
        any, kept.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        threshold = self.p * 256
        if (
            not self.training
            or self.p == 0
            or input.device.type != "cpu"
            or threshold != round(threshold)
            or torch.compiler.is_compiling()
            or torch._C._functorch.peek_interpreter_stack() is not None
        ):
            return F.dropout(input, self.p, self.training, self.inplace)
        words = torch.empty((input.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: input.numel()].view(input.shape)
        return _Masked.apply(input, drawn.ge_(round(threshold)), 1 / (1 - self.p), self.inplace)


class _Masked(torch.autograd.Function):
    """x m / (1 - p), where the mask takes a byte an element until the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float, inplace: bool) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        mask = kept.to(x.dtype).mul_(scale)
        if not inplace:
            return x * mask
        ctx.mark_dirty(x)
        return x.mul_(mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (kept,) = ctx.saved_tensors
        return kept.to(grad.dtype).mul_(ctx.scale).mul_(grad), None, None, None
