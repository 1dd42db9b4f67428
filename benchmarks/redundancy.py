"""Does the place repeat the mistakes of the image? With and without contrastive pre-training.

    python -m benchmarks.redundancy runs/globe-chips-random runs/globe-chips-blocked

For the classifiers that a finished run of `benchmarks.globe_chips` kept (first seed, smallest
share of labels): among test chips that the image classifier gets wrong, how often the place alone
is right, and how often it gives the same wrong class. Writes results/redundancy/table.md.
"""

import argparse
import json
from pathlib import Path

from torch import Generator

from benchmarks.globe_chips import CONFIGS, load
from benchmarks.shared import RESULTS
from geoenc import LocationClassifier
from geoenc._files import write_text
from geoenc.recipes import study
from geoenc.recipes.config import load_config
from geoenc.recipes.sources import TableSource

METHODS = ("Sup. Only (grid)", "MSE", "CSP-NCE-BLD", "CSP-MC-BLD")


def measure(run: Path, split: str) -> list[dict]:
    """One row for each method: accuracies and shared mistakes on the test part."""
    config = load_config(CONFIGS / f"globe-chips-{split}.toml")
    images, splits = load()
    source = TableSource(config, images, splits[split], run / "features" / split)
    fraction = min(config.table.fractions)
    rows = source.labelled(fraction, Generator().manual_seed(config.seed))
    _, test = source.judged(fraction, source.train.subset(rows))
    image = test.image_probs.argmax(1)
    wrong = image != test.target
    rows = []
    for method in METHODS:
        folder = run / "classifiers" / split / study.file_name(method)
        place = LocationClassifier.from_pretrained(folder)(test.lonlat).argmax(1)
        rows.append(
            {
                "split": split,
                "method": method,
                "fraction": fraction,
                "place_right": (place == test.target).double().mean().item(),
                "right_where_image_wrong": (place == test.target)[wrong].double().mean().item(),
                "same_mistake": (place == image)[wrong].double().mean().item(),
            }
        )
    return rows


def main() -> None:
    """Measure both splits and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("random", type=Path, help="folder of the finished run")
    parser.add_argument("blocked", type=Path, help="folder of the finished run")
    options = parser.parse_args()
    rows = measure(options.random, "random") + measure(options.blocked, "blocked")
    lines = [
        f"Test chips, {rows[0]['fraction']:.0%} of the labels, first seed, in %:",
        "",
        "| split | method | place right | place right where image wrong | same wrong class |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['split']} | {row['method']} | {100 * row['place_right']:.1f} | "
        f"{100 * row['right_where_image_wrong']:.1f} | {100 * row['same_mistake']:.1f} |"
        for row in rows
    ]
    write_text(RESULTS / "redundancy" / "results.json", json.dumps(rows, indent=1) + "\n")
    write_text(RESULTS / "redundancy" / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
