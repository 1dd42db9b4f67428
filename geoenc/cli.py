"""The command line: each command calls the library and says what it did."""

import inspect
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  geoenc run csp                                   the whole recipe on the embedded globe
  geoenc run csp --quick                           a small part of it, in under 90 seconds
  geoenc run csp mine.toml --out runs/mine         with your settings
  geoenc run csp --config csp-paper-inat2018 data.path=DIR     a table of the paper
  geoenc run csp data.path=birds.csv data.label=species pretrain.epochs=100
  geoenc list position                             what can be named in a settings file
  geoenc list pretrained                           trained models that load by name
  geoenc compare runs/a runs/b                     is b better? paired tests over seeds
  geoenc convert satclip satclip-vit16-l40.ckpt models/satclip     a released model as ours
  geoenc embed points.parquet --model models/satclip --out emb.parquet     millions of places
  geoenc bias predictions.parquet --map bias.png   is it right everywhere? scores and a map
  geoenc data check downloads                      which published files are there and sound
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 an error that was explained, 2 usage."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command != "run" or any(item.startswith("-") for item in rest):
        parser.parse_args(arguments)
    options.settings = [*getattr(options, "settings", []), *rest]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        status = COMMANDS[options.command](options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads the output has seen enough, as in ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"geoenc: {error}", file=sys.stderr)
        return 1


def run(options: Any) -> int:
    """``geoenc run csp``: the table of the paper, with maps and curves."""
    from geoenc.recipes.config import load_config, parser

    if options.show_settings:
        print(parser().format_help())
        return 0
    from geoenc.recipes import study

    settings = list(options.settings)
    path = settings.pop(0) if settings and "=" not in settings[0] else options.config
    config = load_config(path, settings, quick=options.quick)
    folder = options.out or f"runs/{_run_name(path)}{'-quick' if options.quick else ''}"
    if options.dry_run:
        from geoenc.recipes.plan import plan

        if text := plan(config):
            print(text)
        return 0
    if not study.run(config, folder, force=options.force):
        return 0  # one of several processes, of which the first reports
    with open(f"{folder}/table.md", encoding="utf-8") as file:
        print(file.read())
    print(f"scores: {folder}/results.json   figures: {folder}/figures/")
    return 0


def data(options: Any) -> int:
    """``geoenc data check`` and ``generate``: published files, and small ones of the same form."""
    import json

    import torch

    from geoenc.data import check, make_published

    if options.action == "check":
        report = check(options.path)
        print(json.dumps(report.as_dict(), indent=1) if options.json else report)
        return 0 if report.ok else 1
    generator = torch.Generator().manual_seed(options.seed)
    sizes = {"num_samples": options.samples, "num_classes": options.classes}
    folder = make_published(options.name, options.path, generator=generator, **sizes)
    print(f"invented files in the form of {options.name}: {folder}")
    return 0


def compare(options: Any) -> int:
    """``geoenc compare``: paired tests of two files of predictions, or of two results."""
    from geoenc.compare import as_json, as_text, compare_files

    if options.second is None and options.methods is None:
        raise ValueError(
            "expected two files, or one with --methods A B, got one file; name the second one"
        )
    methods = None if options.methods is None else tuple(options.methods)
    second = options.first if options.second is None else options.second
    result = compare_files(options.first, second, methods=methods, metric=options.metric)
    print(as_json(result) if options.json else as_text(result))
    return 0


def bias(options: Any) -> int:
    """``geoenc bias``: where a model is right, from one file of predictions."""
    from geoenc.bias import as_json, as_text, bias_figure, bias_report, read_predictions, save_map

    lonlat, correct = read_predictions(options.file)
    report = bias_report(lonlat, correct, radius_km=options.radius_km)
    print(as_json(report) if options.json else as_text(report))
    if options.map:
        save_map(bias_figure(lonlat, correct, report), options.map)
        print(f"map: {options.map}", file=sys.stderr)
    return 0


def convert(options: Any) -> int:
    """``geoenc convert``: a released model of another project as a folder of ours."""
    from geoenc.convert import FORMATS

    folder = Path(options.out)
    if folder.exists() and not options.force:
        raise ValueError(
            f"expected a new folder, got {options.out!r}, which exists; pass --force to write "
            "the model into it"
        )
    read, given = FORMATS[options.format], dict(map(_given, options.given))
    try:
        inspect.signature(read).bind(options.file, **given)
    except TypeError as error:
        known = ", ".join(list(inspect.signature(read).parameters)[1:]) or "nothing"
        raise ValueError(
            f"expected {known} after the folder, for {options.format}, {error}; leave it out"
        ) from error
    model = read(options.file, **given)
    model.save_pretrained(folder)
    facts = "".join(f"  {key}: {str(value)[:90]}\n" for key, value in model.metadata.items())
    count = sum(one.numel() for one in model.parameters())
    print(f"{type(model).__name__} with {count:,} parameters: {folder}\n{facts}", end="")
    return 0


def embed(options: Any) -> int:
    """``geoenc embed``: one embedding per row of a table, in fixed memory."""
    from geoenc.streaming import embed_table

    columns = {"lon": options.lon, "lat": options.lat, "time": options.time}
    sizes = {"dtype": options.dtype, "block_rows": options.block_rows, "workers": options.workers}
    done = embed_table(
        options.model,
        options.table,
        options.out,
        **columns,
        **sizes,
        device=options.device,
        force=options.force,
    )
    print(f"{done.rows:,} rows: {done.path}")
    if done.report:
        print(f"{done.failed:,} rows without an embedding, numbered from 0: {done.report}")
    return 0


def _given(text: str) -> tuple[str, Any]:
    """``key=value``: a number, true, false, a word, or the array in a .npy file."""
    import json

    import numpy as np

    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise ValueError(f"expected key=value, got {text!r}")
    if value.endswith(".npy"):
        if not Path(value).is_file():
            raise FileNotFoundError(f"expected an array in {value!r}, got no file; check the path")
        return key, np.load(value, allow_pickle=False)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _run_name(path: str | None) -> str:
    return "csp" if path is None else Path(path).stem


def list_components(options: Any) -> int:
    """``geoenc list``: the components that a settings file can name."""
    import geoenc
    from geoenc.component import Component

    families = {
        "position": geoenc.PositionEncoder,
        "network": geoenc.Network,
        "time": geoenc.TimeEncoder,
    }
    if options.family == "pretrained":
        return _list_pretrained()
    for family in [options.family] if options.family else families:
        print(f"{family}:")
        found = sorted(Component.registry.items())
        classes = {name: cls for name, cls in found if issubclass(cls, families[family])}
        if family == "position":
            _list_position(classes)
            continue
        for name, cls in classes.items():
            print(f"  {name:18}{_formula(cls)}")
    return 0


def _list_pretrained() -> int:
    """What `from_pretrained` takes by name, and what is known of it."""
    from geoenc.catalogue import list_pretrained

    for model in list_pretrained():
        size = model.size / 1e6 if model.size else model.megabytes
        shown = "? MB" if size is None else f"{size:.1f} MB"
        print(f"{model.name:44}{shown:>10}  licence: {model.licence or 'none stated'}")
        print(f"    {model.paper}; {model.training_data}")
        if model.format is None:
            print("    known only: geoenc does not convert it")
    print("\ngeoenc.from_pretrained(NAME) fetches, checks, keeps and converts one of them")
    return 0


def _list_position(classes: dict[str, Any]) -> None:
    """The properties of each position encoder with its defaults, and its formula below."""
    heads = ("columns", "parameters", "shortest wave", "180°", "poles")
    print(f"  {'':18}{heads[0]:>8}{heads[1]:>12}   {heads[2]:22}{heads[3]:6}{heads[4]}")
    for name, cls in classes.items():
        missing = required(cls)
        if missing:
            print(f"  {name:18}needs {', '.join(missing)}")
        else:
            it = properties(example(cls))
            wave = it["shortest_wave"]
            shown = "–" if wave is None else f"{wave:.3g}° ({it['shortest_km']:,.0f} km)"
            edges = ["joins" if it[key] else "jumps" for key in ("antimeridian", "poles")]
            print(
                f"  {name:18}{it['columns']:8,}{it['parameters']:12,}   {shown:22}"
                f"{edges[0]:6}{edges[1]}"
            )
        print(f"      {_formula(cls)}")
    print("\n  with the defaults of each; joins: one code on both sides of 180°, one for a pole")


def required(cls: Any) -> list[str]:
    """Arguments without a default: what only the user knows."""
    given = inspect.signature(cls).parameters.values()
    return [one.name for one in given if one.default is one.empty]


def example(cls: Any) -> Any:
    """A position encoder with its defaults; what it draws is the same each time."""
    import torch

    if "generator" in inspect.signature(cls).parameters:
        return cls(generator=torch.Generator().manual_seed(0))
    return cls()


def properties(encoder: Any) -> dict[str, Any]:
    """What tells position encoders apart: size, finest scale in degrees, continuity."""
    from geoenc.coordinates import EARTH_RADIUS_KM

    waves = getattr(encoder, "wavelengths", None)
    shortest = None if waves is None else waves.min().item()
    return {
        "columns": encoder.out_features,
        "parameters": sum(one.numel() for one in encoder.parameters() if one.requires_grad),
        "shortest_wave": shortest,
        "shortest_km": None if shortest is None else shortest * math.radians(EARTH_RADIUS_KM),
        "longest_wave": None if waves is None else waves.max().item(),
        "antimeridian": encoder.wraps_antimeridian,
        "poles": encoder.wraps_poles,
    }


def _formula(cls: Any) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].replace("``", "")


COMMANDS = {
    "run": run,
    "list": list_components,
    "compare": compare,
    "bias": bias,
    "convert": convert,
    "embed": embed,
    "data": data,
}


def _parser() -> Any:
    import argparse

    from geoenc import __version__

    parser = argparse.ArgumentParser(
        prog="geoenc",
        description="Location encoders, contrastive spatial pre-training, and what they are worth.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "run",
        help="run a recipe",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("recipe", choices=["csp"])
    command.add_argument("settings", nargs="*", metavar="FILE key=value", help="settings")
    command.add_argument("--config", metavar="FILE", help="settings: a file, or a shipped name")
    command.add_argument("--dry-run", action="store_true", help="what it would take, then stop")
    command.add_argument("--out", help="folder of the run (runs/NAME); a started run goes on")
    command.add_argument("--quick", action="store_true", help="a small part of the experiment")
    command.add_argument("--show-settings", action="store_true", help="explain every setting")
    command.add_argument("--force", action="store_true", help="delete a run with other settings")
    command = commands.add_parser("list", help="what can be named in a settings file")
    families = ["position", "network", "time", "pretrained"]
    command.add_argument("family", nargs="?", choices=families)
    command = commands.add_parser("compare", help="is B better than A? paired tests")
    command.add_argument("first", metavar="A", help="results.json, its folder, or predictions")
    command.add_argument("second", metavar="B", nargs="?", help="the same of B (A, with --methods)")
    command.add_argument("--methods", nargs=2, metavar=("ROW_A", "ROW_B"), help="rows of results")
    command.add_argument("--metric", default="top1", help="top1 (default), top5, ...")
    command.add_argument("--json", action="store_true", help="the numbers as JSON")
    command = commands.add_parser("bias", help="is a model right everywhere? geo-bias scores")
    command.add_argument("file", metavar="FILE", help="predictions, or lon, lat, correct")
    command.add_argument("--json", action="store_true", help="the numbers as JSON")
    command.add_argument("--map", metavar="OUT.png", help="draw maps of accuracy and bias")
    command.add_argument("--radius-km", type=float, default=100.0, help="of a neighbourhood (100)")
    command = commands.add_parser(
        "convert", help="a released model of another project as a folder of ours"
    )
    formats = ("torchspatial", "csp", "satclip", "geoclip", "sinr", "climplicit", "tte")
    command.add_argument("format", choices=[*formats, "locationencoder"])
    command.add_argument("file", metavar="IN", help="the file as released")
    command.add_argument("out", metavar="OUT", help="folder to write to")
    command.add_argument(
        "given", nargs="*", metavar="key=value", help="what the file does not state"
    )
    command.add_argument("--force", action="store_true", help="write into a folder that exists")
    command = commands.add_parser(
        "embed",
        help="one embedding per row of a table of places",
        description="Reads Parquet, CSV, GeoPackage or FlatGeobuf; writes GeoParquet. The same "
        "command goes on after an interruption.",
    )
    command.add_argument("table", metavar="TABLE", help="the places")
    command.add_argument("--model", required=True, help="a folder or name (geoenc list pretrained)")
    command.add_argument("--out", required=True, metavar="FILE", help="Parquet file to write")
    command.add_argument("--lon", metavar="COLUMN", help="longitude in degrees (the geometry, lon)")
    command.add_argument("--lat", metavar="COLUMN", help="latitude in degrees (the geometry, lat)")
    command.add_argument("--time", metavar="COLUMN", help="dates, or fractions of the year")
    dtypes = ("float32", "float16", "int8")
    command.add_argument("--dtype", choices=dtypes, default="float32", help="of the embedding")
    command.add_argument("--block-rows", type=int, default=16384, help="rows in memory (16384)")
    command.add_argument("--workers", type=int, default=1, help="processes (1)")
    command.add_argument("--device", default="cpu", help="where the model runs (cpu)")
    command.add_argument("--force", action="store_true", help="replace FILE")
    command = commands.add_parser("data", help="published data sets: check or invent their files")
    actions = command.add_subparsers(dest="action", required=True)
    action = actions.add_parser("check", help="what is there, what is missing, what looks wrong")
    action.add_argument("path", help="folder of the files, or one above it")
    action.add_argument("--json", action="store_true", help="the report as JSON")
    action = actions.add_parser("generate", help="invented files in the form of a published set")
    action.add_argument("name", help="inat2017, inat2018, birdsnap, nabirds, yfcc or fmow")
    action.add_argument("path", help="folder to write to")
    action.add_argument("--samples", type=int, default=200, help="images to train on (200)")
    action.add_argument("--classes", type=int, default=5, help="classes (5)")
    action.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
