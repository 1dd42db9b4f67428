"""cached_backward against the graph of the whole batch: losses, gradients, random numbers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import geoenc
from geoenc.losses import cached_backward

SIZES = [5, 5, 2]


class Views(nn.Module):
    """CSP's three passes: places, random places and places under a second dropout mask."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        self.location = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.5), nn.Linear(16, 6))
        self.image = nn.Linear(4, 6)
        self.generator = Generator().manual_seed(seed)

    def forward(self, places: Tensor, features: Tensor) -> dict[str, Tensor]:
        random = torch.randn(2 * len(places), 2, generator=self.generator, dtype=places.dtype)
        return {
            "location": self.location(places),
            "dropout": self.location(places),
            "sampled": self.location(random).unflatten(0, (-1, 2)),
            "image": self.image(features),
        }


def batch(dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, ...]]:
    generator = Generator().manual_seed(8)
    rows = sum(SIZES)
    whole = [torch.randn(rows, width, generator=generator).to(dtype) for width in (2, 4)]
    return list(zip(*(x.split(SIZES) for x in whole), strict=True))


def uncached(model: Views, loss: nn.Module, parts: list[tuple[Tensor, ...]]) -> Tensor:
    views = [model(*part) for part in parts]
    value = loss(**{name: torch.cat([view[name] for view in views]) for name in views[0]})
    value.backward()
    return value.detach()


def gradients(module: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None for gradient in found)
    return [gradient for gradient in found if gradient is not None]


def both(
    loss: nn.Module, dtype: torch.dtype, **settings: Any
) -> tuple[tuple[Views, Tensor, Tensor], tuple[Views, Tensor, Tensor]]:
    outcomes = []
    for cached in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = Views().to(dtype)
            if cached:
                value = cached_backward(
                    model, loss, batch(dtype), generators=[model.generator], **settings
                )
            else:
                value = uncached(model, loss, batch(dtype))
            after = torch.cat([torch.rand(3), torch.rand(3, generator=model.generator)])
        outcomes.append((model, value, after))
    return outcomes[0], outcomes[1]


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_gradient_is_that_of_the_whole_batch(
    criterion: str, dtype: torch.dtype, tolerance: float
) -> None:
    """With dropout and random places, drawn again exactly; parts need not be equal."""
    loss = geoenc.CSPLoss(criterion, symmetric=True, temperature=0.5, dropout_temperature=0.2)
    (whole, wanted, _), (model, value, _) = both(loss, dtype)
    assert value.item() == pytest.approx(wanted.item(), rel=tolerance)
    assert not value.requires_grad
    for got, gradient in zip(gradients(model), gradients(whole), strict=True):
        assert (got - gradient).abs().max() <= tolerance * max(1.0, gradient.abs().max().item())
        assert gradient.abs().max() > 100 * tolerance


def test_random_numbers_go_on_where_the_first_pass_ended() -> None:
    (_, _, wanted), (_, _, after) = both(geoenc.CSPLoss(), torch.float64)
    assert after.equal(wanted)


def test_forgotten_generator_changes_the_gradient() -> None:
    """Random places that are not drawn again get the gradient of others."""
    whole, model = Views().double(), Views().double()
    model.load_state_dict(whole.state_dict())
    for each in (whole, model):
        each.location[1] = nn.Identity()
    uncached(whole, geoenc.CSPLoss(), batch())
    cached_backward(model, geoenc.CSPLoss(), batch())
    pairs = zip(gradients(model), gradients(whole), strict=True)
    assert not all(torch.allclose(got, wanted, atol=1e-6) for got, wanted in pairs)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loss = geoenc.InfoNCELoss(0.3, learnable=True)

    def forward(self, location: Tensor, image: Tensor, **_: Tensor) -> Tensor:
        return self.loss(location, image)


def test_parameters_of_the_loss_learn_and_unused_embeddings_do_not_matter() -> None:
    first, second = Pair().double(), Pair().double()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        whole = Views().double()
        uncached(whole, first, batch())
        torch.manual_seed(1)
        model = Views().double()
        cached_backward(model, second, batch(), generators=[model.generator])
    assert gradients(second)[0].item() == pytest.approx(gradients(first)[0].item(), rel=1e-12)
    for got, wanted in zip(gradients(model), gradients(whole), strict=True):
        assert torch.allclose(got, wanted, atol=1e-13)


def test_gradients_are_added() -> None:
    model = nn.Linear(2, 3).double()
    parts = [(torch.randn(4, 2, dtype=torch.float64),) for _ in range(2)]

    def embed(x: Tensor) -> dict[str, Tensor]:
        return {"anchor": model(x), "candidate": x @ torch.eye(2, 3, dtype=x.dtype)}

    cached_backward(embed, geoenc.InfoNCELoss(), parts)
    once = gradients(model)[0].clone()
    cached_backward(embed, geoenc.InfoNCELoss(), parts)
    assert torch.allclose(gradients(model)[0], 2 * once)


def test_processes_synchronise_at_the_last_part_only() -> None:
    model, events = Views().double(), []

    @contextlib.contextmanager
    def no_sync() -> Iterator[None]:
        events.append("quiet")
        yield
        events.append("end")

    def backward(value: Tensor) -> None:
        events.append("backward")
        value.backward()

    cached_backward(model, geoenc.CSPLoss(), batch(), backward=backward, no_sync=no_sync)
    assert events == ["quiet", "backward", "end"] * 2 + ["backward"]


def test_graph_of_one_part_at_a_time() -> None:
    """What autograd keeps for backward does not grow with the number of parts."""
    model, kept, most = Views().double(), 0, 0

    class Keep:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal kept, most
            self.tensor = tensor
            kept += tensor.numel()
            most = max(most, kept)

        def __del__(self) -> None:
            nonlocal kept
            kept -= self.tensor.numel()

    def size(parts: list[tuple[Tensor, ...]]) -> int:
        nonlocal most
        most = 0
        with torch.autograd.graph.saved_tensors_hooks(Keep, lambda held: held.tensor):
            cached_backward(model, lambda location, **_: location.sum(), parts)
        return most

    parts = batch()[:1]
    assert size(parts * 10) < 2 * size(parts)


def test_refuses_no_parts() -> None:
    with pytest.raises(ValueError, match="at least one part of a batch, got none; split"):
        cached_backward(Views(), geoenc.CSPLoss(), [])
