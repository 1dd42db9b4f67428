"""LocBench's tables: released results scored, released weights judged, the rest trained.

    python -m benchmarks.locbench released                    every released file of results
    python -m benchmarks.locbench classes ENCODER --data DIR  a row of Table 1, on all seven sets
    python -m benchmarks.locbench values ENCODER --data DIR   a row of Table 3, on all ten sets

ENCODER is a name of TorchSpatial, such as Space2Vec-theory, or no_prior. DIR is the folder of
LocBench's download (docs/how-to/get-the-datasets.md). `released` reads eval_results/ of the
checkout of github.com/seai-lab/TorchSpatial that the environment variable GEOENC_TORCHSPATIAL
names.

`classes` multiplies P(y | image) of the download by P(y | place) of the released weights, which
`geoenc.from_pretrained` fetches and converts. Where none were released, and with --train, the model
is trained with the settings that the name of the released file, or the published script, states.
Numbers go to benchmarks/results/published/.
"""

import argparse
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import geoenc
from benchmarks.shared import RESULTS
from geoenc import catalogue
from geoenc._files import write_text
from geoenc.bench.hardware import hardware, versions
from geoenc.data import (
    DatasetNotFoundError,
    load_locbench,
    load_locbench_values,
    score_locbench,
)
from geoenc.data.published import read_samples
from geoenc.data.sources import folder_of
from geoenc.models import LocationClassifier
from geoenc.recipes import csp
from geoenc.recipes.config import Config, Encoder, Evaluate, Finetune

SETTINGS = Path(__file__).resolve().parent / "locbench.toml"
FOLDER = RESULTS / "published"
STATED = re.compile(
    r"_(?P<rate>\d\.\d+)_(?P<scales>\d+)_(?P<radius>\d+\.\d+)(_\d+\.\d+)?_(?P<depth>\d)_(?P<width>\d+)"
    r"(_(?P<anchors>\d+))?(_(?P<kernel>\d+\.\d))?(_BATCH(?P<batch>\d+))?(_(?P<activation>[a-z]+))?"
    r"\.pth\.tar$"
)
"""What the name of a released file states, in the order in which TorchSpatial writes it."""
_ROWS = 4096

Table = dict[str, Any]


def read_settings() -> Table:
    """Sets, encoders, and how they are trained."""
    with SETTINGS.open("rb") as file:
        return tomllib.load(file)


# --- released files of results ------------------------------------------------------------------


def released(settings: Table, results: Path) -> Iterator[tuple[str, str, str, dict[str, float]]]:
    """Kind, set, encoder and scores of every file of results that is there and not empty."""
    for kind, folder in (("classes", "classification"), ("values", "regression")):
        for key, one in settings[kind].items():
            start = f"eval_{one.get('file', one['name'] + '__test')}_"
            for encoder in ("no_prior", *settings["encoders"]):
                # some names end in "_regress", and in " copy"
                found = (
                    results / folder / f"{start}{encoder}{end}{copy}.csv"
                    for end in ("", "_regress")
                    for copy in ("", " copy")
                )
                path = next((file for file in found if file.is_file()), None)
                if path is not None and path.stat().st_size > 1:
                    yield kind, key, encoder, score_locbench(path)


def score_released(settings: Table, checkout: Path) -> Table:
    """All scores of a checkout of TorchSpatial, by kind, encoder and set."""
    results = checkout / "eval_results"
    if not results.is_dir():
        raise DatasetNotFoundError(
            f"expected released results in {results}, got no such folder; set GEOENC_TORCHSPATIAL "
            "to a checkout of github.com/seai-lab/TorchSpatial"
        )
    found: Table = {"classes": {}, "values": {}}
    for kind, key, encoder, scores in released(settings, results):
        rounded = {name: round(value, 4) for name, value in scores.items()}
        found[kind].setdefault(encoder, {})[key] = rounded
    return found


# --- Table 1 ------------------------------------------------------------------------------------


def weights(settings: Table, encoder: str, key: str) -> catalogue.Pretrained | None:
    """The released weights of an encoder on a set; None: there are none."""
    slug = settings["encoders"][encoder]["weights"]
    name = f"torchspatial-{slug}-{settings['classes'][key]['weights']}"
    return catalogue.entries().get(name)


def training(settings: Table, encoder: str, key: str, seed: int = 0) -> Config:
    """How a row was trained: from the name of its released file, else the trainer's defaults."""
    usual, own = settings["training"], settings["encoders"][encoder]
    position = dict(own["position"])
    depth, width, rate, epochs = (usual[name] for name in ("depth", "width", "rate", "epochs"))
    batch, activation = usual["batch"], "relu"
    if encoder == "spherical_harmonics":
        script = settings["spherical_harmonics"][key]
        depth, rate, epochs = usual["harmonics_depth"], script["rate"], script["epochs"]
    entry = weights(settings, encoder, key)
    stated = STATED.search(entry.file) if entry is not None else None
    if stated is not None:
        depth, width, rate = int(stated["depth"]), int(stated["width"]), float(stated["rate"])
        batch = int(stated["batch"] or batch)
        activation = {"leakyrelu": "leaky_relu"}.get(
            stated["activation"], stated["activation"] or activation
        )
        if "scales" in own:
            position[own["scales"]] = int(stated["scales"])
        if "radius" in own:
            position[own["radius"]] = float(stated["radius"])
        if encoder == "rbf":
            position |= {
                "num_anchors": int(stated["anchors"]),
                "bandwidth": float(stated["kernel"]),
            }
        if encoder == "rff":
            position["scale"] = float(stated["kernel"]) ** 0.5 / (2 * np.pi)
    network: Table = {"name": own.get("network", "FFN"), "out_features": 256}
    if network["name"] == "FFN":
        network |= {
            "hidden_features": width,
            "depth": depth,
            "activation": activation,
            "dropout": usual["dropout"],
        }
    return Config(
        seed=seed,
        encoder=Encoder(position, network),
        finetune=Finetune(
            learning_rate=rate,
            decay=usual["decay"],
            epochs=epochs,
            batch_size=batch,
            batches="class_balanced",
        ),
        evaluate=Evaluate(top_k=(1, 3)),
    )


def classifier(
    settings: Table,
    encoder: str,
    key: str,
    data: Path,
    classes: int,
    *,
    train: bool = False,
    models: Path | None = None,
) -> tuple[LocationClassifier, str]:
    """P(y | place) of a row, and where it comes from."""
    one, entry = settings["classes"][key], weights(settings, encoder, key)
    if entry is None or train:
        config = training(settings, encoder, key)
        places = load_locbench(data, one["name"], "train", features="", predictions="")
        start = geoenc.LocationEncoder.from_config(vars(config.encoder))
        if encoder == "rbf":
            generator = torch.Generator().manual_seed(config.seed)
            start.position.fit(places.with_location().lonlat, generator=generator)
        return csp.finetune(config, start, places, num_classes=classes), "trained"
    if encoder != "rbf":
        return geoenc.from_pretrained(entry.name, cache_dir=models), entry.name
    metadata = None  # the file has only the row numbers of its anchors
    if one["source"] in ("birdsnap", "nabirds"):
        metadata = one["name"].removeprefix(f"{one['source']}_")
    folder = folder_of(one["source"], data)
    samples = read_samples(one["source"], folder, "train", metadata)
    path = catalogue.fetch(entry, cache_dir=models)
    known = torch.from_numpy(samples.lonlat[samples.trained_on])
    return geoenc.convert.torchspatial(path, training_places=known), entry.name


def judge_classes(settings: Table, encoder: str, key: str, data: Path, **options: Any) -> Table:
    """One number of Table 1: accuracies in % of the product, the place alone, the image alone."""
    one = settings["classes"][key]
    samples = load_locbench(data, one["name"], one["split"], features="")
    if samples.image_probs is None:
        raise DatasetNotFoundError(
            f"expected P(y | image) of {one['title']} '{one['split']}' below {data}, got none; see "
            "docs/how-to/get-the-datasets.md"
        )
    model, origin = None, "the image alone"
    if encoder != "no_prior":
        classes = samples.image_probs.shape[1]
        model, origin = classifier(settings, encoder, key, data, classes, **options)
    found = csp.evaluate(Config(evaluate=Evaluate(top_k=(1, 3))), model, samples)
    names = ("top1", "top3", "mrr", "location_top1", "image_top1")
    scores = {name: round(100 * found[name], 4) for name in names if name in found}
    return {"rows": int((samples.target >= 0).sum()), **scores, "model": origin}


# --- Table 3 ------------------------------------------------------------------------------------


def two_layers(inputs: int, outputs: int, width: int, dropout: float) -> nn.Sequential:
    """W2 Dropout(LeakyReLU(W1 x + b1)) + b2."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
    )


class PlaceAndImage(nn.Module):
    """f([place, image]) with 64 numbers of each; without an encoder, of the image alone."""

    def __init__(self, encoder: nn.Module | None, features: int, settings: Mapping[str, Any]):
        super().__init__()
        joined, width, dropout = (settings[name] for name in ("joined", "width", "dropout"))
        self.encoder, count = encoder, 1 if encoder is None else 2
        self.place = None if encoder is None else nn.Linear(encoder.out_features, joined)
        self.image = two_layers(features, joined, width, dropout)
        self.value = two_layers(count * joined, 1, width, dropout)

    def forward(self, lonlat: Tensor, features: Tensor) -> Tensor:
        """Values ``(N,)``."""
        parts = [self.image(features)]
        if self.encoder is not None and self.place is not None:
            parts.append(self.place(self.encoder(lonlat)))
        return self.value(torch.cat(parts, 1))[:, 0]


def _read_values(one: Table, data: Path, split: str) -> tuple[Tensor, Tensor, Tensor]:
    samples, values = load_locbench_values(data, one["name"], split)
    if samples.features is None:
        raise DatasetNotFoundError(
            f"expected features of {one['title']} beside its table below {data}, got none; see "
            "docs/how-to/get-the-datasets.md"
        )
    known = ~samples.lonlat.isnan().any(1)
    return samples.lonlat[known], samples[:].features.float()[known], values[known]


def judge_values(settings: Table, encoder: str, key: str, data: Path, seed: int = 0) -> Table:
    """One number of Table 3: R squared on all rows of the test part, and errors."""
    one, how = settings["values"][key], settings["regression"]
    (lonlat, features, values), test = (_read_values(one, data, s) for s in ("train", "test"))
    centre, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    mean, deviation = values.mean(), values.std()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        location = None
        if encoder != "no_prior":
            config = training(settings, encoder, "fmow", seed)
            location = geoenc.LocationEncoder.from_config(vars(config.encoder))
            if encoder == "rbf":
                location.position.fit(lonlat)
        model = PlaceAndImage(location, features.shape[1], how)
        optimizer = torch.optim.Adam(model.parameters(), lr=how["rate"])
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, how["decay"])
        for _ in range(how["epochs"]):
            for rows in torch.randperm(len(values)).split(how["batch"]):
                optimizer.zero_grad()
                said = model(lonlat[rows], (features[rows] - centre) / spread)
                wanted = ((values[rows] - mean) / deviation).float()
                nn.functional.mse_loss(said, wanted).backward()
                optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        said = torch.cat(
            [
                model(test[0][rows], (test[1][rows] - centre) / spread)
                for rows in torch.arange(len(test[2])).split(_ROWS)
            ]
        )
    error = said.double() * deviation + mean - test[2]
    r2 = 1 - error.square().mean() / test[2].var(correction=0)
    numbers = {"r2": r2, "rmse": error.square().mean().sqrt(), "mae": error.abs().mean()}
    scores = {name: round(float(value), 4) for name, value in numbers.items()}
    return {"rows": len(test[2]), **scores, "model": "trained"}


# --- what is kept -------------------------------------------------------------------------------


def keep(path: Path, sets: Table) -> None:
    """Add numbers by set to those that are kept."""
    before = json.loads(path.read_text(encoding="utf-8"))["sets"] if path.is_file() else {}
    document = {"versions": versions(), "hardware": hardware(), "sets": {**before, **sets}}
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def kept(kind: str, folder: Path = FOLDER) -> dict[str, dict[str, Table]]:
    """Numbers by encoder and set: kind "classes" or "values", or of released files."""
    found = {}
    for path in sorted((folder / f"locbench-{kind}").glob("*.json")):
        found[path.stem] = json.loads(path.read_text(encoding="utf-8"))["sets"]
    return found


def released_scores(kind: str, folder: Path = FOLDER) -> dict[str, dict[str, Table]]:
    """What the released files were found to be worth, by encoder and set."""
    path = folder / "locbench-released.json"
    if not path.is_file():
        return {}
    scores: dict[str, dict[str, Table]] = json.loads(path.read_text(encoding="utf-8"))[kind]
    return scores


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.locbench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("what", choices=("released", "classes", "values"))
    made.add_argument("encoder", nargs="?", choices=("no_prior", *read_settings()["encoders"]))
    made.add_argument("--data", type=Path, help="folder of the download")
    made.add_argument("--sets", nargs="+", help="only these")
    made.add_argument("--train", action="store_true", help="even where weights were released")
    made.add_argument("--models", type=Path, help="cache of released weights (GEOENC_CACHE)")
    made.add_argument("--out", type=Path, default=FOLDER, help="(benchmarks/results/published)")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 where the files of a set are missing, after all others are done."""
    options = parser().parse_args(arguments)
    settings = read_settings()
    if options.what == "released":
        checkout = Path(os.environ.get("GEOENC_TORCHSPATIAL", "TorchSpatial"))
        found = score_released(settings, checkout)
        path = options.out / "locbench-released.json"
        write_text(path, json.dumps({"versions": versions(), **found}, indent=1) + "\n")
        print(f"{sum(map(len, found['classes'].values()))} files of classes, "
              f"{sum(map(len, found['values'].values()))} of values: {path}")  # fmt: skip
        return 0
    if options.encoder is None or options.data is None:
        raise SystemExit("expected ENCODER and --data DIR, got one of them at most; give both")
    missing = 0
    for key in options.sets or settings[options.what]:
        if key not in settings[options.what]:
            raise SystemExit(f"expected sets of {', '.join(settings[options.what])}, got {key!r}")
        try:
            if options.what == "classes":
                how = {"train": options.train, "models": options.models}
                number = judge_classes(settings, options.encoder, key, options.data, **how)
            else:
                number = judge_values(settings, options.encoder, key, options.data)
        except DatasetNotFoundError as error:
            missing += 1
            print(f"{key}: {error}", file=sys.stderr)
            continue
        keep(options.out / f"locbench-{options.what}" / f"{options.encoder}.json", {key: number})
        print(f"{key}: {number}", flush=True)
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
