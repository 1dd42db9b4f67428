"""Splits: the rule, exactly; nothing shared between parts; and what each promises."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoenc import sampling
from geoenc.bench import Task, parts_of, split_of
from geoenc.bench.parts import (
    BUFFER,
    KM_PER_DEGREE,
    SPLITS,
    Part,
    area_under_curve,
    block_parts,
    blocks,
    place_parts,
)
from geoenc.coordinates import great_circle_km
from geoenc.data.regions import region_of


def made(rows: int = 3000, *, seed: int = 0, **more) -> Task:
    generator = torch.Generator().manual_seed(seed)
    lonlat = sampling.uniform(rows, generator=generator)
    return Task("made", lonlat, (lonlat[:, 1] > 0).long(), 2, "top1", **more)


def rule(text: str) -> int:
    number = zlib.crc32(text.encode()) % 100
    return 0 if number < 70 else 1 if number < 80 else 2


@given(seed=st.integers(0, 10_000), degrees=st.sampled_from([0.05, 0.5, 1, 5, 30]))
def test_parts_are_those_of_the_written_rule(seed: int, degrees: float) -> None:
    task = made(60, seed=seed, block_degrees=degrees)
    narrow = [(float(np.float32(lon)), float(np.float32(lat))) for lon, lat in task.lonlat.tolist()]
    by_place = [rule(f"{lon:.4f},{lat:.4f}") for lon, lat in narrow]
    assert split_of(task, "random").folds[0].tolist() == by_place if whole(by_place) else True
    assert place_parts(task).tolist() == by_place
    cell = [
        (math.floor((lon + 180) / degrees), math.floor((lat + 90) / degrees)) for lon, lat in narrow
    ]
    by_block = [rule(f"block{degrees:g}:{i}:{j}") for i, j in cell]
    assert block_parts(task.lonlat, degrees).tolist() == by_block
    same = blocks(task.lonlat, degrees)
    assert (same[:, None] == same).tolist() == [[a == b for b in cell] for a in cell]


def whole(parts: list[int]) -> bool:
    return set(parts) == {0, 1, 2}


def test_rows_of_one_place_go_where_its_first_row_goes() -> None:
    task = made(400)
    place = torch.arange(400) // 4
    together = place_parts(Task(**{**vars(task), "place": place}))
    assert torch.equal(together, place_parts(task)[::4].repeat_interleave(4))


@pytest.mark.parametrize("name", SPLITS)
def test_no_group_is_in_two_parts_and_three_parts_have_rows(name: str) -> None:
    task = made(place=torch.arange(3000) // 2)
    split = split_of(task, name)
    for fold in split.folds:
        parts = parts_of(task, split, fold)
        rows = torch.cat([part.rows for part in parts.values()])
        assert len(rows.unique()) == len(rows) == int((fold >= 0).sum())
        groups = [set(part.group.tolist()) for part in parts.values()]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        assert all(len(part.target) for part in parts.values())
        for part in parts.values():
            assert torch.equal(part.lonlat, task.lonlat[part.rows])
            assert torch.equal(part.target, task.target[part.rows])


def test_the_buffer_is_as_wide_as_it_says() -> None:
    task = made(block_degrees=10.0)
    split = split_of(task, "buffered")
    parts = parts_of(task, split, split.folds[0])
    test = parts["test"].lonlat
    width = BUFFER * 10 * KM_PER_DEGREE
    for name in ("train", "validation"):
        distance = great_circle_km(parts[name].lonlat[:, None], test[None])
        assert float(distance.min()) >= width
    blocked = split_of(task, "blocked").folds[0]
    assert torch.equal(split.folds[0] == 2, blocked == 2)
    left_out = (split.folds[0] == -1).nonzero()[:, 0]
    assert len(left_out) > 0
    near = great_circle_km(task.lonlat[left_out][:, None], test[None]).amin(1)
    assert float(near.max()) < width


def test_each_continent_is_the_test_once() -> None:
    task = made()
    region, _ = region_of(task.lonlat, "continent")
    split = split_of(task, "region")
    tested = [set(region[fold == 2].tolist()) for fold in split.folds]
    assert all(len(one) == 1 for one in tested)
    assert len(set.union(*tested)) == len(split.folds) > 4
    for fold in split.folds:
        assert not set(region[fold == 2].tolist()) & set(region[fold < 2].tolist())


def test_the_hash_is_of_parts_and_places() -> None:
    task = made()
    assert split_of(task, "random").hash == split_of(made(), "random").hash
    assert split_of(task, "random").hash != split_of(task, "blocked").hash
    moved = task.lonlat.clone()
    moved[0, 0] += 1e-9
    fixed = {"random": split_of(task, "random").folds[0]}
    other = Task("made", moved, task.target, 2, "top1", fixed=fixed)
    assert split_of(other, "random").hash != split_of(task, "random").hash


def test_splits_that_come_with_the_data_are_taken() -> None:
    part = torch.arange(300) % 3
    task = made(300, fixed={"random": part})
    assert torch.equal(split_of(task, "random").folds[0], part)
    assert not torch.equal(split_of(task, "blocked").folds[0], part)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="block_degrees"):
        split_of(made(200, block_degrees=180.0), "blocked")
    with pytest.raises(ValueError, match="use one"):
        split_of(made(200), "by-hand")
    with pytest.raises(ValueError, match="both classes"):
        area_under_curve(torch.ones(3), torch.ones(3, dtype=torch.bool))


def test_area_under_curve_counts_pairs() -> None:
    scores = torch.randint(0, 4, (40,)).double()
    positive = torch.rand(40) < 0.4
    pairs = scores[positive][:, None] - scores[~positive][None]
    expected = float(((pairs > 0).double() + (pairs == 0).double() / 2).mean())
    assert area_under_curve(scores, positive) == pytest.approx(expected)


def test_scores_of_a_part() -> None:
    part = Part(torch.zeros(4, 2), torch.tensor([0, 1, 1, 5]), 6)
    output = torch.eye(6)[[0, 1, 2, 3]] + torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    assert part.scores(output) == {"top1": 0.5, "top5": 0.75}
    numbers = Part(torch.zeros(3, 2), torch.tensor([1.0, 2.0, 3.0]), 0)
    assert numbers.scores(torch.tensor([1.0, 2.0, 2.0])) == {
        "r2": pytest.approx(0.5),
        "mae": pytest.approx(1 / 3),
    }
    assert numbers.each(torch.tensor([1.0, 2.0, 1.0]))["error"].tolist() == [0, 0, 4]


def test_fewer_training_rows_are_the_same_ones_every_time() -> None:
    task = made()
    split = split_of(task, "random")
    parts = parts_of(task, split, split.folds[0])
    few = parts.fewer(100)
    assert len(few["train"].rows) == 100
    assert set(few["train"].rows.tolist()) <= set(parts["train"].rows.tolist())
    again = parts_of(task, split, split.folds[0]).fewer(100)
    assert torch.equal(few["train"].rows, again["train"].rows)
    assert parts.fewer(0) is parts
    assert torch.equal(few["test"].rows, parts["test"].rows)


@pytest.mark.real_data
def test_the_rule_gives_the_stored_columns(shared: Path) -> None:
    from geoenc.bench import list_tasks, load_task

    tables = {file.file: file for file in list_tasks() if file.split}
    seen = 0
    for file in tables.values():
        path = file.path(shared)
        if path is None or (path.stat().st_size > 600_000 and not file.name.startswith("fmow")):
            continue
        task = load_task(file.name, shared)
        exact = file.file != "data/fmow_val.parquet"  # grouped within 25 m, of which some are lost
        same = (place_parts(task) == task.fixed["random"]).double().mean()
        assert same == 1 if exact else same > 0.99, file.name
        assert torch.equal(block_parts(task.lonlat, task.block_degrees), task.fixed["blocked"])
        seen += 1
    assert seen > 8
