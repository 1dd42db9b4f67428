"""The frozen dataclasses of every recipe. Files are TOML; keys are the fields below."""

import copy
import dataclasses
import functools
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Data:
    """Which images, and which of their columns.

    Args:
        name: a published data set: "inat2017", "inat2018", "birdsnap", "nabirds", "yfcc" or
            "fmow", whose files lie in path; empty for a table of yours, or the globe.
        path: the folder of a published data set, or a table for `geoenc.data.load_geotagged`;
            empty for the embedded globe.
        label: column with the class; for the globe "landscape", "continent", "subregion" or
            "country".
        lon: column with the longitude; found by its usual names if empty, like all columns.
        lat: column with the latitude.
        image: column with image files.
        features: column, or common beginning of columns, with stored features. Of a published
            data set: which of its features, for example "pretrain" or "pretrain-NAME" of another
            image network; the first that are there if empty.
        predictions: of a published data set, P(y | image) as stored: "fewshot", "full", ...,
            "fewshot-NAME"; if empty, those of the share of labels. "probe" trains a linear probe
            on the features instead, "none" judges by the place alone.
        validation: share of the published evaluation split that is held out to choose exponents,
            priors and epochs; 0 evaluates on all of it, as published, and nothing can be chosen.
        split: column with train, val and test; the parts are drawn, as `splits` of the table
            says, if empty. Of a published data set: the split to judge, val if empty.
        min_samples: classes with fewer samples are left out.
        block_degrees: side of the blocks of the blocked split.
    """

    name: str = ""
    path: str = ""
    label: str = ""
    lon: str = ""
    lat: str = ""
    image: str = ""
    features: str = ""
    predictions: str = ""
    validation: float = 0.0
    split: str = ""
    min_samples: int = 1
    block_degrees: float = 10.0


@dataclass(frozen=True)
class Features:
    """Frozen image features.

    Args:
        name: "RandomConvFeatures", "TransformersFeatures", or "table" for stored features.
        arguments: of that class, for example num_features.
        components: rotate to so many principal components of the training part; 0 keeps the
            features as they are, standardised.
        whitening: 0 keeps the variances of the components, 1 makes them equal.
    """

    name: str = "RandomConvFeatures"
    arguments: dict[str, Any] = field(default_factory=dict)
    components: int = 0
    whitening: float = 0.5


@dataclass(frozen=True)
class Encoder:
    """The location encoder, by the names of its parts.

    Args:
        position: a position encoder: its class name and arguments.
        network: a network; in_features follows from the position encoder.
    """

    position: dict[str, Any] = field(
        default_factory=lambda: {"name": "Space2VecGrid", "min_radius": 0.1, "max_radius": 360.0}
    )
    network: dict[str, Any] = field(
        default_factory=lambda: {"name": "FFN", "out_features": 256, "activation": "leaky_relu"}
    )


@dataclass(frozen=True)
class Pretrain:
    """Contrastive pre-training on all places and features, without labels.

    Args:
        objective: "csp", "mse" (predict the features from the place) or "none".
        criterion: "multiclass" (CSP-MC) or "nce" (CSP-NCE).
        location_weight: of the random-location term; 0 leaves it out.
        dropout_weight: of the dropout term; 0 leaves it out.
        temperature: of the in-batch term.
        location_temperature: of the random-location term.
        dropout_temperature: of the dropout term.
        symmetric: average the in-batch term with its reverse.
        num_negatives: random places per image.
        negatives: where they fall: "uniform" on the sphere, on "land", within the polygons of a
            file (GeoJSON, GeoPackage), or "legacy_disc" and "legacy_quadrant" as in the published
            code.
        learning_rate: of Adam.
        decay: factor on the learning rate after each epoch; the published rate is constant.
        weight_decay: of Adam.
        epochs: passes over all places.
        batch_size: places a step, over all processes; each is a negative of all others.
        micro_batch: places that go through the network at once, to save memory; the loss of the
            batch stays the same. 0 is all.
        batches: "shuffled", or "class_balanced_leaking_labels" as in the published code, which
            draws at most max_per_class places of each class an epoch, and so looks at labels in
            what is to be free of them.
        max_per_class: of those.
        patience: stop after so many epochs without a lower loss on the validation part, and keep
            the best epoch; 0 trains all epochs and keeps the last.
    """

    objective: Literal["csp", "mse", "none"] = "csp"
    criterion: Literal["multiclass", "nce"] = "multiclass"
    location_weight: float = 1.0
    dropout_weight: float = 1.0
    temperature: float = 1.0
    location_temperature: float = 1.0
    dropout_temperature: float = 1.0
    symmetric: bool = False
    num_negatives: int = 1
    negatives: str = "uniform"
    learning_rate: float = 0.0005
    decay: float = 1.0
    weight_decay: float = 0.0
    epochs: int = 30
    batch_size: int = 1024
    micro_batch: int = 0
    batches: Literal["shuffled", "class_balanced_leaking_labels"] = "shuffled"
    max_per_class: int = 100
    patience: int = 0


@dataclass(frozen=True)
class Finetune:
    """Supervised training of the location encoder and its class head on few labels.

    Args:
        learning_rate: of Adam, for the head and, times encoder_rate, for the encoder.
        encoder_rate: learning rate of the encoder relative to the head's; 0 freezes it.
        decay: factor on the learning rate after each epoch.
        weight_decay: of Adam.
        epochs: passes over the labelled places.
        min_steps: more epochs until at least so many steps are done, for few labels.
        batch_size: places a step, over all processes.
        batches: "shuffled", or "class_balanced" as in the published code: at most max_per_class
            places of each class an epoch.
        max_per_class: of those.
        patience: as in pre-training.
        positive_weight: of the class that is present; 0 stands for the number of classes, as
            published, which favours rare classes and flattens P(y | place); 1 keeps it calibrated.
        background_weight: of random places where no class is present.
        background: where these fall, by the names of pretrain.negatives.
    """

    learning_rate: float = 0.001
    encoder_rate: float = 1.0
    decay: float = 0.98
    weight_decay: float = 0.0
    epochs: int = 30
    min_steps: int = 0
    batch_size: int = 1024
    batches: Literal["shuffled", "class_balanced"] = "shuffled"
    max_per_class: int = 100
    patience: int = 0
    positive_weight: float = 0.0
    background_weight: float = 1.0
    background: str = "uniform"


@dataclass(frozen=True)
class Joint:
    """P(y | image, place) from one linear layer on both (Tang et al. 2015), instead of a product.

    Args:
        location: how the place enters: "gps" or "discrete" cells of one degree; "none" multiplies
            P(y | image) P(y | place) as all other methods.
        hidden_features: width of the place beside the image features.
        learning_rate: of Adam.
        decay: factor on the learning rate after each epoch.
        epochs: passes over the labelled samples.
        batch_size: samples a step, over all processes.
        patience: as in pre-training; the published way keeps the best of 30 epochs, patience 30.
    """

    location: Literal["none", "gps", "discrete"] = "none"
    hidden_features: int = 256
    learning_rate: float = 0.0001
    decay: float = 0.98
    epochs: int = 30
    batch_size: int = 1024
    patience: int = 0


@dataclass(frozen=True)
class Image:
    """The linear probe that gives P(y | image).

    Args:
        penalties: candidates for the L2 penalty, the best on the validation part is kept.
        max_iterations: of L-BFGS for each candidate.
    """

    penalties: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    max_iterations: int = 60


@dataclass(frozen=True)
class Evaluate:
    """How image and place are multiplied.

    Args:
        weights: candidates for the exponent of P(y | place); the best on the validation part is
            kept. The published product is (1.0,).
        prior_weights: candidates for the exponent of 1 / P(y), with the class frequencies among
            the labels as P(y); chosen together with the weights. The published product is (0.0,).
        floors: candidates for the least P(y | place); chosen together with the weights.
        calibrated: undo the weight L that fine-tuning gave to presences, which flattens
            P(y | place): sigma(logit - log L) instead of the published sigma(logit).
        top_k: which accuracies to report.
        missing: what becomes of samples without a place, see `geoenc.metrics.geo_posterior`.
    """

    weights: tuple[float, ...] = (1.0,)
    prior_weights: tuple[float, ...] = (0.0,)
    floors: tuple[float, ...] = (1e-12,)
    calibrated: bool = False
    top_k: tuple[int, ...] = (1, 3, 5, 10)
    missing: Literal["image", "error"] = "image"


@dataclass(frozen=True)
class Hardware:
    """Where it runs, in the words of Lightning Fabric.

    Args:
        accelerator: "auto", "cpu", "cuda", ...
        devices: processes on this machine, each with a device of its own; -1 takes all devices.
            torchrun and `fabric run` overrule it.
        num_nodes: machines.
        precision: "32-true" or "bf16-mixed"; positions are encoded in float64 all the same.
        products: what multiplies float32 matrices in training on a processor: "torch" as it
            chooses, or "onednn", which on AMD can be twice as fast (torch 2.9 or newer). Where
            oneDNN would round to bfloat16, torch's choice stays.
        checkpoint_seconds: a stage is saved after every epoch, but not more often than this, and
            resumed from there.
        timeout_minutes: how long processes wait for one that does not answer.
        logger: what writes the loss of each epoch, "csv", or "tensorboard" where it is installed.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    products: Literal["torch", "onednn"] = "torch"
    checkpoint_seconds: float = 1.0
    timeout_minutes: float = 30.0
    logger: Literal["csv", "tensorboard"] = "csv"


@dataclass(frozen=True)
class Table:
    """The experiment: every method, at every share of labels, on every split, for every seed.

    Args:
        seeds: how many repetitions; each draws labels and initial weights anew.
        fractions: shares of the labels.
        splits: "random", "blocked", and "given" for the split of the table.
        map_classes: of how many classes maps are drawn.
        methods: names of the rows to run, all if empty.
        predictions: keep each test sample's rank and best classes, as Parquet.
    """

    seeds: int = 3
    fractions: tuple[float, ...] = (0.05, 0.1, 0.2, 1.0)
    splits: tuple[Literal["random", "blocked", "given"], ...] = ("random", "blocked")
    map_classes: int = 3
    methods: tuple[str, ...] = ()
    predictions: bool = False


@dataclass(frozen=True)
class Config:
    """One recipe and the experiment around it.

    Args:
        seed: of everything random.
        use_location: without it the image alone is judged, and no encoder is trained.
        data: which images.
        features: frozen image features.
        encoder: the location encoder.
        pretrain: contrastive stage.
        finetune: supervised stage.
        prior: P(y | place) from counts instead of an encoder: the name of a class of
            `geoenc.priors` and its arguments. Of lists of values the best are chosen, on the
            validation part or, without one, on a fifth of the labels.
        joint: one classifier of image and place instead of their product.
        image: linear probe for P(y | image).
        evaluate: how image and place are multiplied.
        hardware: where it runs.
        table: the experiment.
        methods: rows of the table: name, and what differs from the settings above.
        quick: what differs in a quick run.
    """

    seed: int = 0
    use_location: bool = True
    data: Data = Data()
    features: Features = Features()
    encoder: Encoder = Encoder()
    pretrain: Pretrain = Pretrain()
    finetune: Finetune = Finetune()
    prior: dict[str, Any] = field(default_factory=dict)
    joint: Joint = Joint()
    image: Image = Image()
    evaluate: Evaluate = Evaluate()
    hardware: Hardware = Hardware()
    table: Table = Table()
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)


def load_config(
    path: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    quick: bool = False,
) -> Config:
    """Read a TOML file, apply ``key=value`` overrides, and refuse what does not exist.

    A file that names another as ``base = "NAME"`` is laid over it.

    Args:
        path: a TOML file, or the name of a shipped one (see `shipped`); the settings for the
            embedded globe if None.
        overrides: for example ``["pretrain.learning_rate=1e-4"]``.
        quick: apply the file's table ``[quick]`` first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, a key that does not exist, a value of the wrong type.

    Example:
        >>> from geoenc.recipes.config import load_config
        >>> load_config(overrides=["pretrain.epochs=3"]).pretrain.epochs
        3
    """
    values = _read("csp" if path is None else path)
    if quick and not values.get("quick"):
        raise ValueError(
            f"expected a table [quick] in the settings {str(path)!r} for a quick run, got none; "
            "leave --quick out and make it smaller with key=value, for example table.seeds=1"
        )
    if quick:
        values = merged(values, values["quick"])
    config = _parsed(values, overrides)
    unknown = [name for name in config.table.methods if name not in config.methods]
    if unknown:
        raise ValueError(
            f"expected table.methods among {', '.join(config.methods)}, got {', '.join(unknown)}"
        )
    chosen = config.table.methods or config.methods
    return dataclasses.replace(config, methods={name: config.methods[name] for name in chosen})


def shipped() -> list[str]:
    """Names of the settings files that come with geoenc."""
    files = resources.files("geoenc.recipes").iterdir()
    names = [file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")]
    return sorted(names)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The values of a file, laid over those of its base."""
    if str(path) in shipped():
        inside = resources.files("geoenc.recipes").joinpath(f"{path}.toml")
        text = inside.read_text(encoding="utf-8")
    elif Path(path).is_file():
        text = Path(path).read_text(encoding="utf-8")
    else:
        raise FileNotFoundError(
            f"expected a TOML file, or one of {', '.join(shipped())}, got {str(path)!r}, which "
            "does not exist; leave it out for the settings of the embedded globe"
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML in {str(path)!r}, got a mistake: {error}") from error
    base = values.pop("base", None)
    return values if base is None else merged(_read(base), values)


def for_method(config: Config, method: str) -> Config:
    """The settings of one row of the table: the shared ones with those of the row laid over."""
    shared = dataclasses.asdict(config) | {"methods": {}, "quick": {}}
    return _parsed(merged(shared, config.methods[method]), (), where=f"methods.{method!r}")


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables, the second laid over the first; a component (with ``name``) is replaced.

    Example:
        >>> from geoenc.recipes.config import merged
        >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
        {'a': {'b': 3, 'c': 2}}
    """
    result = dict(copy.deepcopy(dict(base)))
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping) and "name" not in value:
            result[key] = merged(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def parser() -> "ArgumentParser":
    """The parser of every recipe's settings."""
    from jsonargparse import ArgumentParser

    made = ArgumentParser(exit_on_error=False, parser_mode="toml", usage="key=value ...")
    made.add_class_arguments(Config, as_group=False)
    return made


_parser = functools.cache(parser)


def _parsed(values: Mapping[str, Any], overrides: Sequence[str], *, where: str = "") -> Config:
    from jsonargparse import ArgumentError, Namespace

    reader = _parser()
    try:
        settings: Namespace = reader.parse_object(dict(values))
        arguments = [f"--{override.lstrip('-')}" for override in overrides]
        for argument in arguments:
            if "=" not in argument:
                raise ValueError(f"expected key=value, got {argument[2:]!r}")
        if arguments:
            settings = reader.parse_args(arguments, namespace=settings)
        built = reader.instantiate(settings)
    except (ArgumentError, TypeError, KeyError) as error:
        place = f" in {where}" if where else ""
        raise ValueError(
            f"expected settings that exist, with values of their type{place}, but: "
            f"{' '.join(str(error).split())}; `geoenc run csp --show-settings` explains all of them"
        ) from error
    return Config(**vars(built))
