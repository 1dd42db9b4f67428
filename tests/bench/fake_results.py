"""A folder of results as `geoenc bench` leaves it, made without training anything."""

import json
from pathlib import Path

import numpy as np
import torch

from geoenc.bench.paired import auc_parts
from geoenc.data.splits import spatial_blocks
from geoenc.sampling import uniform

FLOORS = (("majority", "majority", 0.0), ("sine-cosine", "probe", 0.4), ("k-NN", "neighbours", 1.0))
ENCODERS = (("Space2VecGrid", 1.05), ("Sphere2VecC <x>", 1.3), ("XYZ", 0.8), ("Herglotz", 1.6))
METRICS = {"classes": "top1", "numbers": "r2", "presence": "auc", "quakes": "top1"}


def write_results(
    folder: Path, *, tasks=tuple(METRICS), splits=("random", "blocked"), seeds=3, samples=600
) -> Path:
    """Rows with known skill: floors 0, 0.4 and 1, encoders around 1; blocks err together."""
    rng = np.random.default_rng(5)
    for task in tasks:
        for split in splits:
            lonlat = uniform(samples, generator=torch.Generator().manual_seed(len(task)))
            block = spatial_blocks(lonlat, degrees=20.0).numpy()
            numbers = np.unique(block, return_inverse=True)[1]
            field = rng.normal(size=numbers.max() + 1)[numbers]
            target = (field + rng.normal(size=samples) > 0).astype(np.int64)
            rows = [(n, "floor", p, s) for n, p, s in FLOORS]
            rows += [(n, "encoder", p, s) for n, s in ENCODERS for p in ("probe", "trained")]
            for name, kind, protocol, skill in rows:
                skill += 0.2 * (protocol == "trained") - 0.5 * (split == "blocked")
                many = 1 if kind == "floor" else seeds
                noise = rng.normal(size=(many, samples)) + 0.3 * rng.normal(size=(many, 1))
                arrays, test = outcomes(METRICS[task], skill, field, noise, target)
                save(folder, task, split, (name, kind, protocol), test, arrays, lonlat, block)
    return folder


def outcomes(metric, skill, field, noise, target):
    if metric == "top1":
        correct = skill + 0.5 * field + noise > 0.8
        return {"correct": correct}, correct.mean(1)
    if metric == "r2":
        error = (noise * np.exp(0.3 * field) / (1 + max(skill, 0.0))) ** 2
        return {"error": error}, 1 - error.mean(1) / 1.7
    score = (2 * target - 1) * max(skill, 0.0) + 1.5 * noise
    return {"score": score, "target": target}, np.array(
        [auc_parts(one, target).mean() for one in score]
    )


def save(folder, task, split, key, test, arrays, lonlat, block):
    name, kind, protocol = key
    stem = "".join(c if c.isalnum() else "-" for c in f"{name}-{protocol}".lower())
    path = folder / "results" / task / split / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    tried = [
        {"settings": {"rate": rate, "width": 256}, "validation": 0.5 + rate, "seconds": 2.5}
        for rate in (1e-3, 1e-2)
    ]
    result = {
        "task": task,
        "split": split,
        "row": name,
        "kind": kind,
        "protocol": protocol,
        "encoder": None if kind == "floor" else {"name": name},
        "metric": METRICS[task],
        "higher_is_better": True,
        "seeds": list(range(len(test))),
        "test": test.tolist(),
        "validation": (test + 0.01).tolist(),
        "more": {},
        "chosen": {} if kind == "floor" else tried[1]["settings"],
        "search": [] if kind == "floor" else tried,
        "seconds": 12.5,
        "num_train": 4800,
        "num_validation": 600,
        "num_test": len(lonlat),
        "split_hash": f"{split}-of-{task}",
        "data_hash": f"data-of-{task}",
        "versions": {"geoenc": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpu": "some", "threads": 1, "gpu": None},
        "settings_hash": "0",
        "about": {
            "about": f"What of {task}",
            "classes": 2 if METRICS[task] == "top1" else 0,
            "licence": "CC0",
            "url": None,
            "control": task == "quakes",
            "block_degrees": 20.0,
        },
        "error": None,
    }
    path.write_text(json.dumps(result))
    np.savez_compressed(
        path.with_suffix(".npz"),
        row=np.arange(len(lonlat)),
        lonlat=lonlat.numpy(),
        block=block,
        **arrays,
    )
