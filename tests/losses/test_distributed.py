"""Two and four processes with shares of a batch against one with the whole: loss and gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import geoenc
from geoenc import distributed
from geoenc.losses import cached_backward

LOSSES: dict[str, nn.Module] = {
    "multiclass": geoenc.CSPLoss(
        temperature=0.2, location_temperature=0.5, dropout_temperature=0.7, gather=True
    ),
    "multiclass-b": geoenc.CSPLoss(location_weight=0, dropout_weight=0, gather=True),
    "multiclass-bl": geoenc.CSPLoss(dropout_weight=0, location_weight=0.3, gather=True),
    "multiclass-bd": geoenc.CSPLoss(location_weight=0, dropout_weight=0.1, gather=True),
    "multiclass-symmetric": geoenc.CSPLoss(symmetric=True, temperature=0.5, gather=True),
    "nce": geoenc.CSPLoss("nce", temperature=0.4, location_weight=0.5, gather=True),
    "nce-symmetric": geoenc.CSPLoss("nce", symmetric=True, temperature=0.3, gather=True),
    "infonce": geoenc.InfoNCELoss(0.3, gather=True),
    "infonce-sharp": geoenc.InfoNCELoss(0.01, gather=True),
    "infonce-one-way": geoenc.InfoNCELoss(0.3, symmetric=False, gather=True),
    "infonce-learnable": geoenc.InfoNCELoss(0.3, learnable=True, gather=True),
    "infonce-queue": geoenc.InfoNCELoss(0.3, gather=True),
}
SAME_ON_ALL = ("extra", "log_temperature")


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    location, image, again = torch.randn(3, 8, 5, generator=generator).double().unbind()
    sampled = torch.randn(8, 2, 5, generator=generator).double()
    extra = torch.randn(3, 5, generator=generator).double()
    views = {"location": location, "image": image, "sampled": sampled, "dropout": again}
    return {**views, "extra": extra}


def share(given: dict[str, Tensor], rank: int, world: int) -> dict[str, Tensor]:
    return {k: v if k in SAME_ON_ALL else v.chunk(world)[rank] for k, v in given.items()}


def outcome(name: str, given: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {key: value.clone().requires_grad_() for key, value in given.items()}
    loss = LOSSES[name]
    extra = leaves.pop("extra")
    if isinstance(loss, geoenc.InfoNCELoss):
        if name == "infonce-queue":
            leaves["extra"] = extra
        value = loss(leaves["location"], leaves["image"], leaves.get("extra"))
        leaves.update(loss.named_parameters())
    else:
        value = loss(**leaves)
    loss.zero_grad()
    value.backward()
    gradients = {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    return {"loss": value.detach(), **gradients}


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.place, self.image = nn.Linear(5, 4).double(), nn.Linear(5, 4).double()

    def forward(self, location: Tensor, image: Tensor) -> dict[str, Tensor]:
        return {"location": self.place(location), "image": self.image(image)}


def cached(given: dict[str, Tensor], wrapped: bool) -> dict[str, Tensor]:
    """Weights and their gradients after parts of two rows."""
    torch.manual_seed(0)
    model = Views()
    loss = geoenc.CSPLoss(location_weight=0, dropout_weight=0, temperature=0.3, gather=True)
    parts = list(zip(given["location"].split(2), given["image"].split(2), strict=True))
    if wrapped:
        ddp = DistributedDataParallel(model)
        value = cached_backward(ddp, loss, parts, no_sync=ddp.no_sync)
    else:
        value = cached_backward(model, loss, parts)
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return {"loss": value, **gradients}


def refusal(rank: int, loss: nn.Module) -> str:
    """What a process with another number of rows, or beside one, is told."""
    rows = 3 if rank == 1 else 2
    try:
        loss(torch.randn(rows, 5), torch.randn(rows, 5))
    except ValueError as error:
        return str(error)
    return "nothing"


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        assert (distributed.rank(), distributed.world_size()) == (rank, world)
        given = share(batch(), rank, world)
        result: dict[str, Any] = {name: outcome(name, given) for name in LOSSES}
        result["cached"] = cached(given, wrapped=True)
        result["rows"] = distributed.all_gather(torch.full((2, 3), float(rank)))
        result["uneven"] = [refusal(rank, LOSSES[name]) for name in ("infonce", "multiclass-b")]
        torch.save(result, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4], ids=["two", "four"])
def processes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    world = request.param
    torch.multiprocessing.spawn(work, (world, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.mark.parametrize("name", LOSSES)
def test_shares_are_the_whole(name: str, processes: list[dict[str, Any]]) -> None:
    """As data-parallel training sees it: losses and gradients averaged over processes."""
    whole = outcome(name, batch())
    shares = [result[name] for result in processes]
    value = sum(one["loss"] for one in shares) / len(shares)
    assert value.item() == pytest.approx(whole["loss"].item(), rel=1e-9)
    assert whole.keys() == shares[0].keys()
    assert len(whole) > 2
    for key in whole.keys() - {"loss"}:
        join = torch.stack if key in SAME_ON_ALL else torch.cat
        gradient = join([one[key] for one in shares]) / len(shares)
        gradient = gradient.sum(0) if key in SAME_ON_ALL else gradient
        assert torch.allclose(gradient, whole[key], rtol=1e-6, atol=1e-12), key


def test_cached_gradients_are_those_of_the_whole(processes: list[dict[str, Any]]) -> None:
    """The embeddings of all parts and all processes are one batch."""
    whole = cached(batch(), wrapped=False)
    value = sum(result["cached"]["loss"] for result in processes) / len(processes)
    assert value.item() == pytest.approx(whole["loss"].item(), rel=1e-9)
    for result in processes:
        assert result["cached"].keys() == whole.keys()
        for key in whole.keys() - {"loss"}:
            assert torch.allclose(result["cached"][key], whole[key], atol=1e-12), key


def test_uneven_batches_are_refused_by_all(processes: list[dict[str, Any]]) -> None:
    """Not by hanging; and what comes after still works, as the other tests see."""
    rows = [3 if rank == 1 else 2 for rank in range(len(processes))]
    for result in processes:
        for message in result["uneven"]:
            wanted = f"same number of rows on all {len(rows)} processes, got {rows}; drop the last"
            assert wanted in message


def test_rows_arrive_in_the_order_of_the_ranks(processes: list[dict[str, Any]]) -> None:
    for result in processes:
        wanted = [rank for rank in range(len(processes)) for _ in range(2)]
        assert result["rows"][:, 0].tolist() == wanted


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
