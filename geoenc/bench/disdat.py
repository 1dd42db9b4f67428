"""Species distribution: presences and background to learn from, surveys to be judged by."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.bench.files import part_of, table
from geoenc.bench.parts import area_under_curve
from geoenc.bench.task import Task

REGIONS = ("AWT", "CAN", "NSW", "NZ", "SA")
TRAIN_FILE = "data/disdat_presence_background.parquet"
TEST_FILE = "data/disdat_presence_absence_test.parquet"


@dataclass(frozen=True)
class SpeciesJudge:
    """Mean over species of the area under the ROC curve of presence against absence.

    The score of species s at a place is log P(s) - log P(background): the difference of logits,
    or, of votes (outputs without a negative number), log (v_s + f_s) - log (v_b + f_b) with f the
    share of the class among the training rows. A species counts where both are there.

    Args:
        surveyed: ``(N, S)`` bool: whether the answer for a species is known.
        present: ``(N, S)`` bool.
        frequency: ``(S + 1,)``, the background last.
    """

    surveyed: Tensor
    present: Tensor
    frequency: Tensor

    def __call__(self, output: Tensor, rows: Tensor) -> Mapping[str, float]:
        """``{"auc": mean, "species": how many were judged}``; see `geoenc.bench.Task`."""
        logits = output.double()
        if not (logits < 0).any():
            logits = (logits + self.frequency).log()
        ratio = logits[:, :-1] - logits[:, -1:]
        surveyed, present = self.surveyed[rows], self.present[rows]
        found = []
        for species in range(ratio.shape[1]):
            known = surveyed[:, species]
            positive = present[known, species]
            if positive.any() and not positive.all():
                found.append(area_under_curve(ratio[known, species], positive))
        if not found:
            raise ValueError(
                "expected a species with presences and absences among the rows to be judged, got "
                "none; choose another split"
            )
        return {"auc": float(np.mean(found)), "species": float(len(found))}


def disdat(*, region: str = "AWT", data: str | os.PathLike[str] | None = None) -> Task:
    """Where the species of a region live: one class for each, and the background.

    Learned from places where a species was seen and 10,000 places drawn from the region; judged
    on surveys, where presence and absence are known, by the mean area under the ROC curve over
    species.

    Split "random": the rows of presence and background that the hash rule puts into validation
    are for validation, all others for training, and every survey is a test row. "blocked": blocks
    of a quarter of a degree, each with its presences, background and surveys in one part.

    Args:
        region: "AWT" (Australian wet tropics), "CAN" (Ontario), "NSW", "NZ" or "SA" (South
            America).
        data: folder that holds ``data/disdat_*.parquet``.

    Reference:
        Elith et al., Presence-only and presence-absence data for comparing species distribution
        modeling methods, Biodiversity Informatics 2020.
    """
    if region not in REGIONS:
        raise ValueError(f"expected region of {', '.join(REGIONS)}, got {region!r}; use one")
    seen, survey = (_read(data, name, region) for name in (TRAIN_FILE, TEST_FILE))
    names = sorted({*seen["species"].dropna().astype(str)} - {""})
    number = {name: index for index, name in enumerate(names)}
    target = seen["species"].astype(str).map(number).fillna(len(names)).to_numpy(dtype="int64")
    target[(seen["kind"] == "background").to_numpy()] = len(names)
    surveyed, present = (_marks(survey[column], number) for column in ("surveyed", "present"))
    own = torch.nn.functional.one_hot(torch.from_numpy(target), len(names) + 1).bool()
    background = own[:, -1:]
    lonlat = np.concatenate(
        [frame[["lon", "lat"]].to_numpy(dtype="f8") for frame in (seen, survey)]
    )
    first = present.double().argmax(1)  # of a survey any species stands for all of them
    return Task(
        name=f"disdat-{region.lower()}",
        lonlat=torch.from_numpy(lonlat),
        target=torch.cat([torch.from_numpy(target), first]),
        classes=len(names) + 1,
        metric="auc",
        class_names=(*names, "background"),
        block_degrees=0.25,
        fixed={
            "random": torch.cat([_seen_parts(seen["split"]), torch.full((len(survey),), 2)]),
            "blocked": torch.cat(
                [
                    part_of(seen["split_block"], ("train", "val")),
                    part_of(survey["split_block"], ("test",)),
                ]
            ),
        },
        judge=SpeciesJudge(
            surveyed=torch.cat([own[:, :-1] | background, surveyed]),
            present=torch.cat([own[:, :-1], present & surveyed]),
            frequency=own.double().mean(0),
        ),
        about=f"Where {len(names)} species of the region {region} live",
        source={"files": [TRAIN_FILE, TEST_FILE], "region": region},
    )


def _read(data: str | os.PathLike[str] | None, name: str, region: str) -> Any:
    frame = table(data, name)
    return frame[frame["region"] == region].reset_index(drop=True)


def _marks(column: Any, number: Mapping[str, int]) -> Tensor:
    """``(N, S)`` bool from lists of species that commas separate."""
    marks = torch.zeros(len(column), len(number), dtype=torch.bool)
    for row, text in enumerate(column.astype(object).fillna("")):
        known = [number[name] for name in str(text).split(",") if name in number]
        marks[row, known] = True
    return marks


def _seen_parts(split: Any) -> Tensor:
    return torch.from_numpy((split.astype(str) == "val").to_numpy(dtype="int64"))
