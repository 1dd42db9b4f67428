"""Dropout whose masks cost little on a CPU."""

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
        mask = drawn.ge_(round(threshold)).to(input.dtype).mul_(1 / (1 - self.p))
        return input.mul_(mask) if self.inplace else input * mask
