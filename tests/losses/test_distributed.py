"""Two processes with half a batch each against one with the whole: losses and gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

import geoenc
from geoenc import distributed

WORLD = 2
LOSSES: dict[str, nn.Module] = {
    "multiclass": geoenc.CSPLoss(temperature=0.2, gather=True),
    "nce": geoenc.CSPLoss("nce", gather=True),
    "symmetric": geoenc.CSPLoss(symmetric=True, temperature=0.5, gather=True),
    "infonce": geoenc.InfoNCELoss(0.3, gather=True),
    "infonce-one-way": geoenc.InfoNCELoss(0.3, symmetric=False, gather=True),
}


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    location, image, again = torch.randn(3, 6, 5, generator=generator).double().unbind()
    sampled = torch.randn(6, 2, 5, generator=generator).double()
    return {"location": location, "image": image, "sampled": sampled, "dropout": again}


def outcome(name: str, given: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {key: value.clone().requires_grad_() for key, value in given.items()}
    loss = LOSSES[name]
    if isinstance(loss, geoenc.InfoNCELoss):
        value = loss(leaves["location"], leaves["image"])
    else:
        value = loss(**leaves)
    value.backward()
    gradients = {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    return {"loss": value.detach(), **gradients}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=WORLD)
    try:
        assert (distributed.rank(), distributed.world_size()) == (rank, WORLD)
        given = {key: value.chunk(WORLD)[rank] for key, value in batch().items()}
        rows = torch.full((2, 3), float(rank))
        result: dict[str, Any] = {name: outcome(name, given) for name in LOSSES}
        result["rows"] = distributed.all_gather(rows)
        torch.save(result, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_halves_are_the_whole(name: str, two_processes: list[dict[str, Any]]) -> None:
    """As data-parallel training sees it: losses and gradients averaged over processes."""
    whole = outcome(name, batch())
    halves = [result[name] for result in two_processes]
    value = sum(half["loss"] for half in halves) / WORLD
    assert value.item() == pytest.approx(whole["loss"].item(), rel=1e-9)
    for key in whole.keys() - {"loss"}:
        gradient = torch.cat([half[key] for half in halves]) / WORLD
        assert torch.allclose(gradient, whole[key], atol=1e-12), key


def test_rows_arrive_in_the_order_of_the_ranks(two_processes: list[dict[str, Any]]) -> None:
    for result in two_processes:
        assert result["rows"][:, 0].tolist() == [0, 0, 1, 1]


def test_one_process_needs_no_group() -> None:
    tensor = torch.zeros(3)
    assert distributed.all_gather(tensor) is tensor
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert not distributed.is_distributed()


@pytest.mark.parametrize("name", LOSSES)
def test_gather_changes_nothing_on_one_process(name: str) -> None:
    gathered = outcome(name, batch())["loss"]
    loss = LOSSES[name]
    loss.gather = False
    try:
        assert outcome(name, batch())["loss"].equal(gathered)
    finally:
        loss.gather = True
