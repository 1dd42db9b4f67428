"""What a million places cost: each encoder on one thread, beside the unit vector."""

import json
import time
from typing import Any

import torch

from benchmarks.choose.run import FOLDER, read_settings, versions
from benchmarks.choose.tasks import Task
from benchmarks.choose.training import built
from geoenc import XYZ, PositionEncoder, sampling
from geoenc._files import write_text

PLACES = 200_000
ROUNDS = 5


def seconds(encoder: PositionEncoder, lonlat: torch.Tensor) -> float:
    """Processor time to encode the places once, block by block, in float32."""
    start = time.process_time()
    for _ in encoder.blocks(lonlat, compile=False):
        pass
    return time.process_time() - start


def example(entry: dict[str, Any], places: torch.Tensor) -> PositionEncoder:
    """The encoder of the settings; of the values to choose from, the middle one."""
    position = dict(entry["position"])
    for argument, values in entry.get("choose", {}).items():
        position[argument] = values[len(values) // 2]
    return built(position, Task(places, places[:, 0], 0), seed=0).eval()


def measure(
    entries: list[dict[str, Any]], places: int = PLACES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """The fastest of some rounds for each encoder, and for `XYZ` in the same rounds."""
    lonlat = sampling.uniform(places, generator=torch.Generator().manual_seed(0))
    records = []
    for entry in entries:
        encoder = example(entry, lonlat)
        both = [(seconds(encoder, lonlat), seconds(XYZ(), lonlat)) for _ in range(rounds)]
        own, unit = (min(times) * 1e6 / places for times in zip(*both, strict=True))
        records.append(
            {
                "encoder": entry["name"],
                "position": encoder.config,
                "columns": encoder.out_features,
                "seconds_a_million": round(own, 4),
                "times_xyz": round(own / unit, 2),
            }
        )
    return records


def keep() -> None:
    """Measure the encoders of the settings and write their costs."""
    torch.set_num_threads(1)
    records = measure(read_settings()["encoders"])
    text = {"made_with": versions(), "places": PLACES, "rounds": ROUNDS, "costs": records}
    write_text(FOLDER / "cost.json", json.dumps(text, indent=1) + "\n")
    for record in records:
        print(
            f"{record['encoder']:22}{record['columns']:6}{record['seconds_a_million']:9.3f} s"
            f"{record['times_xyz']:9.1f} times XYZ"
        )
