"""RANGE and RANGE+ as folders that `geoenc bench --encoder` takes.

    python -m benchmarks.range_database models/range
    python -m benchmarks.range_database models/range-plus --plus

SatCLIP and the authors' database are fetched, unless --encoder and --database name them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import geoenc

ARRAYS = ("locs", "satclip_embeddings", "image_embeddings")


def build(database: Path, encoder: str, *, plus: bool) -> geoenc.RetrievalAugmented:
    """The published temperatures: 1/15, and with places 1/12, with half of the weight on places."""
    with np.load(database) as file:
        places, keys, features = (file[name] for name in ARRAYS)
    found = geoenc.RetrievalDatabase.of(places, torch.from_numpy(keys), torch.from_numpy(features))
    model = geoenc.from_pretrained(encoder)
    if plus:
        return geoenc.RetrievalAugmented(model, found, temperature=1 / 12, place_weight=0.5)
    return geoenc.RetrievalAugmented(model, found)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.range_database")
    made.add_argument("out", type=Path, help="folder to write")
    made.add_argument("--plus", action="store_true", help="RANGE+")
    made.add_argument("--database", type=Path, help="range_db_large.npz")
    made.add_argument("--encoder", default="satclip-vit16-l40", help="folder or name")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Write the folder."""
    options = parser().parse_args(arguments)
    entry = geoenc.catalogue.entries()["range-database-large"]
    database = options.database or geoenc.catalogue.fetch(entry)
    build(database, options.encoder, plus=options.plus).save_pretrained(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
