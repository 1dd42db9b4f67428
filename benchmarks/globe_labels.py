"""Which label of the embedded globe needs both the image and the place?

For each candidate label, split and labelled fraction: the accuracy of the image alone, of the
place alone, and of their product.

    image   64 principal components of colour statistics and of 128 random convolution filters
            (whitened 5 x 5 patches of the chips, both signs, averaged); logistic regression,
            C of 0.03, 0.3, 3 by validation
    place   k nearest neighbours on the sphere, smoothed by the prior: (count + a prior) / (k + a);
            k of 1 to 200 and a of 0.1 to 3 by validation
    both    P(y given image) P(y given place) / P(y)

Random convolutions and principal components see all chips, no label. Classes with fewer than 30
places are left out. All choices are made by validation likelihood; each number is the mean over
three seeds, which draw the split and the labelled part.

    python benchmarks/globe_labels.py            # measures (15 minutes on one core), writes both:
        benchmarks/results/globe_labels.json
        docs/explanation/globe-data.md           # the table between its two markers
    python benchmarks/globe_labels.py --table    # only the table, from the file
"""

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from geoenc.coordinates import to_xyz
from geoenc.data import few_shot
from geoenc.data.globe import countries, load_globe
from geoenc.data.splits import block_split, random_split

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "globe_labels.json"
PAGE = ROOT / "docs" / "explanation" / "globe-data.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

SEEDS = (0, 1, 2)
FRACTIONS = (0.05, 0.1, 0.2, 1.0)
SPLITS = ("random", "blocks of 10°", "blocks of 20°")
MODELS = ("majority", "image", "place", "both")
SMALLEST_CLASS = 30


def labels() -> dict[str, NDArray[np.int64]]:
    """Candidate labels of the places; -1 for classes that are too small."""
    landscape = load_globe()
    named = {
        "landscape": np.array(landscape.classes)[landscape.target.numpy()],
        **{name: _names(name) for name in ("continent", "subregion", "country")},
    }
    named["colour"] = np.array([name.split(", ")[1] for name in named["landscape"]])
    table = countries().set_index("name").loc[named["country"]]
    income = (table["gdp_md_est"] / table["pop_est"]).fillna(0).rank(method="first")
    named["income"] = pandas.qcut(income, 4, labels=False).to_numpy().astype(str)
    return {name: _codes(values) for name, values in named.items()}


def _names(label: str) -> NDArray[np.str_]:
    globe = load_globe(label=label, chip_size=1)
    return np.array(globe.classes)[globe.target.numpy()]


def _codes(names: NDArray[np.str_]) -> NDArray[np.int64]:
    _, code, count = np.unique(names, return_inverse=True, return_counts=True)
    large = count >= SMALLEST_CLASS
    return np.where(large, large.cumsum() - 1, -1)[code]


def image_features(images: torch.Tensor) -> NDArray[np.float64]:
    """64 columns per chip that no label has seen."""
    generator = torch.Generator().manual_seed(0)
    images = images.double() / 255
    patches = images.unfold(2, 5, 1).unfold(3, 5, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
    patches = patches.flatten(1, 2)
    rows = torch.randint(len(patches), (20_000,), generator=generator)
    where = torch.randint(patches.shape[1], (20_000,), generator=generator)
    sample = patches[rows, where]
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh((sample - mean).T.cov())
    whiten = vectors * (values + 1e-3).rsqrt() @ vectors.T
    filters = torch.nn.functional.normalize((sample[:128] - mean) @ whiten, dim=1)
    pooled = []
    for block in patches.split(500):
        response = (block - mean) @ whiten @ filters.T
        pooled.append(torch.cat([response.relu().mean(1), (-response).relu().mean(1)], 1))
    pixels = images.flatten(2)
    quantiles = pixels.quantile(torch.tensor([0.1, 0.5, 0.9]).double(), dim=2).movedim(0, 1)
    columns = torch.cat([torch.cat(pooled), pixels.mean(2), pixels.std(2), quantiles.flatten(1)], 1)
    columns = (columns - columns.mean(0)) / columns.std(0).clamp(min=1e-6)
    left, scale, _ = torch.linalg.svd(columns, full_matrices=False)
    return (left[:, :64] * scale[:64] / scale[0] * len(left) ** 0.5).numpy()


def scores(
    target: NDArray[np.int64],
    split: NDArray[np.int64],
    fraction: float,
    features: NDArray[np.float64],
    xyz: NDArray[np.float64],
    generator: torch.Generator,
) -> dict[str, float]:
    """Test accuracy in per cent of the four models."""
    parts = [np.flatnonzero((split == part) & (target >= 0)) for part in range(3)]
    labelled = torch.from_numpy(target[parts[0]])
    train = parts[0][few_shot(labelled, fraction, generator=generator).numpy()]
    prior = np.bincount(target[train], minlength=target.max() + 1) + 0.5
    prior = prior / prior.sum()
    image = _best(image_candidates(features, target, train, parts, prior), target[parts[1]])
    place = _best(place_candidates(xyz, target, train, parts, prior), target[parts[1]])
    guesses = {
        "majority": np.tile(prior, (len(parts[2]), 1)),
        "image": image,
        "place": place,
        "both": image * place / prior,
    }
    truth = target[parts[2]]
    return {name: 100 * float((p.argmax(1) == truth).mean()) for name, p in guesses.items()}


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def image_candidates(features, target, train, parts, prior) -> Iterator[Pair]:  # type: ignore[no-untyped-def]
    """Probabilities on validation and test from logistic regressions."""
    for strength in (0.03, 0.3, 3.0):
        model = LogisticRegression(C=strength, max_iter=300).fit(features[train], target[train])
        pair = []
        for part in parts[1:]:
            probs = np.tile(0.01 * prior, (len(part), 1))
            probs[:, model.classes_] += 0.99 * model.predict_proba(features[part])
            pair.append(probs)
        yield pair[0], pair[1]


def place_candidates(xyz, target, train, parts, prior) -> Iterator[Pair]:  # type: ignore[no-untyped-def]
    """Probabilities on validation and test from the nearest labelled places."""
    most = min(200, len(train))
    index = NearestNeighbors(n_neighbors=most).fit(xyz[train])
    near = [target[train[index.kneighbors(xyz[part], most, False)]] for part in parts[1:]]
    for k in (1, 3, 5, 10, 20, 50, 100, 200):
        counts = [np.eye(len(prior))[classes[:, :k]].sum(1) for classes in near]
        for weight in (0.1, 0.3, 1.0, 3.0):
            pair = [(count + weight * prior) / (min(k, most) + weight) for count in counts]
            yield pair[0], pair[1]


def _best(candidates: Iterator[Pair], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Test probabilities of the candidate with the highest validation likelihood."""
    rows = np.arange(len(truth))
    return max(candidates, key=lambda pair: np.log(pair[0][rows, truth]).mean())[1]


def measure() -> dict[str, object]:
    globe = load_globe()
    features = image_features(globe.images)
    xyz = to_xyz(globe.lonlat).numpy()
    rows = []
    for name, target in labels().items():
        for kind in SPLITS:
            for fraction in FRACTIONS:
                runs = []
                for seed in SEEDS:
                    generator = torch.Generator().manual_seed(seed)
                    split = _split(kind, globe.lonlat, generator).numpy()
                    runs.append(scores(target, split, fraction, features, xyz, generator))
                row = {
                    "label": name,
                    "classes": int(target.max()) + 1,
                    "split": kind,
                    "fraction": fraction,
                    **{model: [round(run[model], 2) for run in runs] for model in MODELS},
                }
                rows.append(row)
                print(row, flush=True)
    return {
        "what": "test accuracy in per cent, one number per seed",
        "seeds": list(SEEDS),
        "places": len(globe),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        },
        "rows": rows,
    }


def _split(kind: str, lonlat: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if kind == "random":
        return random_split(len(lonlat), generator=generator)
    degrees = float(kind.split()[-1].rstrip("°"))
    return block_split(lonlat, degrees=degrees, generator=generator)


def table(result: dict) -> str:
    """The rows with 5 and 100 % of the labels, as Markdown: means, and the gain of both."""
    lines = [
        "| label | classes | split | labelled | majority | image | place | both | both − best |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        if row["fraction"] not in (0.05, 1.0):
            continue
        means = " | ".join(f"{np.mean(row[model]):.1f}" for model in MODELS)
        gain = np.array(row["both"]) - np.maximum(row["image"], row["place"])
        lines.append(
            f"| {row['label']} | {row['classes']} | {row['split']} | {row['fraction']:.0%} "
            f"| {means} | {gain.mean():+.1f} ± {gain.std(ddof=1):.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only rewrite the table of the page")
    if not parser.parse_args().table:
        torch.set_num_threads(1)
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(measure(), indent=1, ensure_ascii=False)
        RESULT.write_text(text + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(head + BEGIN + table(result) + END + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
