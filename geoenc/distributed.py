"""Contrast across processes: rank, world size, and a gather that gradients pass through."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether a process group of more than one process is running."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def all_gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, concatenated in rank order, with gradient; identity on one process.

    Backward sums the gradients that all processes have for this process's rows, so that the
    gradient, averaged over processes as data-parallel training does, equals that of one process
    holding the whole batch.

    Shape:
        ``(B, ...)`` to ``(W * B, ...)`` for W processes.

    Raises:
        ValueError: on every process, if they do not all have the same number of rows.
    """
    if not is_distributed():
        return tensor
    rows = rows_of_all(tensor)
    if len(set(rows)) > 1:
        raise ValueError(
            f"expected the same number of rows on all {len(rows)} processes, got {rows}; drop the "
            "last, uneven batch of an epoch, or fill it up"
        )
    return _AllGather.apply(tensor)


def rows_of_all(tensor: Tensor) -> list[int]:
    """How many rows the tensor of each process has, in rank order."""
    own = torch.tensor([len(tensor)], device=tensor.device)
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own)
    return torch.cat(parts).tolist()


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = tensor.shape[0]
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.narrow(0, rank() * ctx.rows, ctx.rows)
