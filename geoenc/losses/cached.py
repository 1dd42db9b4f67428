"""Gradient accumulation that does not change a contrastive loss."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoenc.losses.criteria import wide

Embed = Callable[..., dict[str, Tensor]]


def cached_backward(
    embed: Embed,
    loss: Callable[..., Tensor],
    parts: Iterable[Sequence[Any]],
    *,
    generators: Sequence[Generator] = (),
    backward: Callable[[Tensor], Any] = Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Tensor:
    """The loss of all parts as one batch, and its gradient, with the graph of one part at a time.

    Embeddings e_p of each part p are made without a graph; dL/de_p comes from the loss of them
    all; then each part is embedded again, with the same random numbers, and e_p . dL/de_p is
    differentiated. Negatives thus span the whole batch, and the result is that of one large
    batch, at the price of a second forward pass.

    Args:
        embed: from the items of a part to embeddings by name, rows first. It runs twice: beyond
            random numbers it must not depend on how often it ran (as running statistics do).
        loss: takes all embeddings by these names; gives a scalar. Parameters of a module get
            their gradient too.
        parts: arguments of ``embed``, part by part.
        generators: what ``embed`` draws from, besides torch's own generators.
        backward: instead of ``Tensor.backward``: ``fabric.backward``.
        no_sync: entered for all parts but the last: ``ddp.no_sync``.

    Returns:
        The loss, detached. Gradients are added to those of the parameters.

    Raises:
        ValueError: no parts.

    Example:
        >>> import torch, geoenc
        >>> from geoenc.losses import cached_backward
        >>> encoder, images = torch.nn.Linear(3, 8), torch.nn.Linear(5, 8)
        >>> def embed(places, features):
        ...     return {"anchor": encoder(places), "candidate": images(features)}
        >>> batch = torch.randn(64, 3), torch.randn(64, 5)
        >>> parts = list(zip(*(x.split(16) for x in batch)))
        >>> value = cached_backward(embed, geoenc.InfoNCELoss(), parts)
        >>> encoder.weight.grad.shape
        torch.Size([8, 3])

    Reference:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
        RepL4NLP 2021.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("expected at least one part of a batch, got none; split the batch")
    states, embedded = [], []
    for part in parts:
        states.append(_random_state(generators))
        with torch.no_grad():
            embedded.append({name: wide(e) for name, e in embed(*part).items()})
    leaves = {
        name: torch.cat([one[name] for one in embedded]).requires_grad_() for name in embedded[0]
    }
    rows = {name: [len(one[name]) for one in embedded] for name in leaves}
    del embedded
    value = loss(**leaves)
    own = [p for p in loss.parameters() if p.requires_grad] if isinstance(loss, nn.Module) else []
    gradients = torch.autograd.grad(value, [*leaves.values(), *own], allow_unused=True)
    slopes = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=False)
    }
    split = {name: slope.split(rows[name]) for name, slope in slopes.items()}
    for number, (part, state) in enumerate(zip(parts, states, strict=True)):
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last else no_sync():
            with _replayed(state, generators):
                again = embed(*part)
            surrogate = sum((wide(e) * split[name][number]).sum() for name, e in again.items())
            if last:
                for parameter, gradient in zip(own, gradients[len(leaves) :], strict=True):
                    if gradient is not None:
                        surrogate = surrogate + (parameter * gradient).sum()
            backward(surrogate)
    return value.detach()


def _random_state(generators: Sequence[Generator]) -> list[Tensor]:
    own = [generator.get_state() for generator in generators]
    device = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [*own, torch.get_rng_state(), *device]


@contextlib.contextmanager
def _replayed(state: list[Tensor], generators: Sequence[Generator]) -> Iterator[None]:
    now = _random_state(generators)
    _set_random_state(state, generators)
    try:
        yield
    finally:
        _set_random_state(now, generators)


def _set_random_state(state: list[Tensor], generators: Sequence[Generator]) -> None:
    for generator, one in zip(generators, state, strict=False):
        generator.set_state(one)
    cpu, *device = state[len(generators) :]
    torch.set_rng_state(cpu)
    for one in device:
        torch.cuda.set_rng_state(one)
