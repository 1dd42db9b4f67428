"""Which of thousands of species: a ranking, where two observations of each are known."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geoenc.bench.files import part_of, table
from geoenc.bench.task import Task

FILE = "data/inat2018_val.parquet"
RANKS = (1, 10, 100)


@dataclass(frozen=True)
class RankJudge:
    """The share of rows whose class is among the first k, for several k.

    Of classes with the same score those before the right one count half.

    Args:
        target: ``(N,)`` of all rows.
    """

    target: Tensor

    def __call__(self, output: Tensor, rows: Tensor) -> Mapping[str, float]:
        """``{"top1", "top10", "top100", "reciprocal_rank"}``; see `geoenc.bench.Task`."""
        own = output.gather(1, self.target[rows][:, None])
        equal = (output == own).sum(1) - 1
        rank = 1 + (output > own).sum(1) + equal.double() / 2
        found = {f"top{k}": (rank <= k).double().mean().item() for k in RANKS}
        return {**found, "reciprocal_rank": (1 / rank).mean().item()}


def inat_species(*, data: str | os.PathLike[str] | None = None) -> Task:
    """Which of 8,142 species of iNat2018 was photographed at a place: three photographs of each.

    Args:
        data: folder that holds ``data/inat2018_val.parquet``.

    Reference:
        Van Horn et al., The iNaturalist species classification and detection dataset, CVPR 2018.
    """
    frame = table(data, FILE)
    frame = frame[frame["lon"].notna() & frame["lat"].notna()]
    target = torch.from_numpy(frame["label"].to_numpy(dtype="int64", copy=True))
    parts = {"random": part_of(frame["split"]), "blocked": part_of(frame["split_block"])}
    return Task(
        name="inat-species",
        lonlat=torch.from_numpy(frame[["lon", "lat"]].to_numpy(dtype="float64", copy=True)),
        target=target,
        classes=int(target.max()) + 1,
        metric="top1",
        fixed=parts,
        judge=RankJudge(target),
        about="Which of 8,142 species was photographed, from two other places of each or fewer",
        source={"file": FILE},
    )
