"""Where negatives come from: each source makes columns of ``(logits, target)``."""

import torch
from torch import Tensor

from geoenc.distributed import all_gather, rank
from geoenc.losses.criteria import check_pairs, full_precision, unit


def in_batch(
    anchor: Tensor, candidate: Tensor, extra: Tensor | None = None, *, gather: bool = False
) -> tuple[Tensor, Tensor]:
    """s_ij = cos(anchor_i, candidate_j): the other rows of the batch are the negatives.

    Args:
        anchor: one question per row.
        candidate: row i answers question i.
        extra: more negatives, for example a queue.
        gather: let the candidates of all processes answer; the target moves along.

    Shape:
        anchor and candidate ``(B, D)``, extra ``(Q, D)``; logits ``(B, W * B + Q)`` for W
        processes, target ``(B,)``.

    Raises:
        ValueError: shapes that do not agree.

    Example:
        >>> import torch
        >>> from geoenc.losses import in_batch
        >>> logits, target = in_batch(torch.eye(3), 2 * torch.eye(3))
        >>> logits, target
        (tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]]), tensor([0, 1, 2]))
    """
    with full_precision(anchor):
        rows = unit(anchor)
        more = None if extra is None else unit(extra)
        columns, first = in_batch_columns(rows, unit(candidate), more, gather=gather)
        return rows @ columns.mT, first + torch.arange(len(anchor), device=anchor.device)


def in_batch_columns(
    anchor: Tensor, candidate: Tensor, extra: Tensor | None = None, *, gather: bool
) -> tuple[Tensor, int]:
    """Candidates of all processes and extra ones, and the number of the first that is ours."""
    check_pairs("candidate", anchor, candidate)
    columns = all_gather(candidate) if gather else candidate
    if extra is not None:
        if extra.ndim != 2 or extra.shape[1] != anchor.shape[1]:
            raise ValueError(
                f"expected extra of shape (Q, {anchor.shape[1]}), got {tuple(extra.shape)}"
            )
        columns = torch.cat([columns, extra])
    return columns, rank() * len(candidate) if gather else 0


def sampled(anchor: Tensor, positive: Tensor | None, negative: Tensor) -> tuple[Tensor, Tensor]:
    """[cos(anchor_i, positive_i), cos(anchor_i, negative_i1), ...]: negatives drawn per row.

    Args:
        anchor: one question per row.
        positive: its answer, which becomes column 0; None leaves the column out.
        negative: C wrong answers per row.

    Shape:
        anchor and positive ``(B, D)``, negative ``(B, C, D)``; logits ``(B, 1 + C)``, target
        ``(B,)`` of zeros.

    Raises:
        ValueError: shapes that do not agree.

    Example:
        >>> import torch
        >>> from geoenc.losses import sampled
        >>> anchor = torch.eye(2)
        >>> sampled(anchor, anchor, -anchor[:, None])[0]
        tensor([[ 1., -1.],
                [ 1., -1.]])
    """
    check_sampled(anchor, positive, negative)
    with full_precision(anchor):
        rows, columns = unit(anchor), unit(negative)
        if positive is not None:
            columns = torch.cat([unit(positive)[:, None], columns], 1)
        logits = torch.linalg.vecdot(rows[:, None], columns)
        return logits, torch.zeros(len(anchor), dtype=torch.long, device=anchor.device)


def check_sampled(anchor: Tensor, positive: Tensor | None, negative: Tensor) -> None:
    """Refuse embeddings that `sampled` cannot take."""
    if anchor.ndim != 2 or negative.ndim != 3 or negative.shape[::2] != anchor.shape:
        raise ValueError(
            f"expected anchor (B, D) and negative (B, C, D), got {tuple(anchor.shape)} and "
            f"{tuple(negative.shape)}"
        )
    if positive is not None:
        check_pairs("positive", anchor, positive)
