"""The command line: each command calls the library and says what it did."""

import inspect
import logging
import math
import sys
from collections.abc import Sequence
from typing import Any

EXAMPLES = """examples:
  geoenc run csp                                   the whole recipe on the embedded globe
  geoenc run csp --quick                           a small part of it, in under 90 seconds
  geoenc run csp mine.toml --out runs/mine         with your settings
  geoenc run csp data.path=birds.csv data.label=species pretrain.epochs=100
  geoenc list position                             what can be named in a settings file
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
        if options.command == "run":
            return run(options)
        return list_components(options)
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
    path = settings.pop(0) if settings and "=" not in settings[0] else None
    config = load_config(path, settings, quick=options.quick)
    folder = options.out or ("runs/csp-quick" if options.quick else "runs/csp")
    study.run(config, folder, force=options.force)
    with open(f"{folder}/table.md", encoding="utf-8") as file:
        print(file.read())
    print(f"scores: {folder}/results.json   figures: {folder}/figures/")
    return 0


def list_components(options: Any) -> int:
    """``geoenc list``: the components that a settings file can name."""
    import geoenc
    from geoenc.component import Component

    families = {
        "position": geoenc.PositionEncoder,
        "network": geoenc.Network,
        "time": geoenc.TimeEncoder,
    }
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


def _list_position(classes: dict[str, Any]) -> None:
    """The properties of each position encoder with its defaults, and its formula below."""
    from geoenc.coordinates import EARTH_RADIUS_KM

    degree_km = math.radians(EARTH_RADIUS_KM)
    heads = ("columns", "parameters", "shortest wave", "180°", "poles")
    print(f"  {'':18}{heads[0]:>8}{heads[1]:>12}   {heads[2]:22}{heads[3]:6}{heads[4]}")
    for name, cls in classes.items():
        try:
            it = properties(example(cls))
        except TypeError:
            print(f"  {name:18}needs arguments")
        else:
            wave = it["shortest_wave"]
            shown = "–" if wave is None else f"{wave:.3g}° ({wave * degree_km:,.0f} km)"
            edges = ["joins" if it[key] else "jumps" for key in ("antimeridian", "poles")]
            print(
                f"  {name:18}{it['columns']:8,}{it['parameters']:12,}   {shown:22}"
                f"{edges[0]:6}{edges[1]}"
            )
        print(f"      {_formula(cls)}")
    print("\n  with the defaults of each; joins: one code on both sides of 180°, one for a pole")


def example(cls: Any) -> Any:
    """A position encoder with its defaults; what it draws is the same each time."""
    import torch

    if "generator" in inspect.signature(cls).parameters:
        return cls(generator=torch.Generator().manual_seed(0))
    return cls()


def properties(encoder: Any) -> dict[str, Any]:
    """What tells position encoders apart: size, finest scale in degrees, continuity."""
    waves = getattr(encoder, "wavelengths", None)
    return {
        "columns": encoder.out_features,
        "parameters": sum(one.numel() for one in encoder.parameters() if one.requires_grad),
        "shortest_wave": None if waves is None else waves.min().item(),
        "longest_wave": None if waves is None else waves.max().item(),
        "antimeridian": encoder.wraps_antimeridian,
        "poles": encoder.wraps_poles,
    }


def _formula(cls: Any) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].replace("``", "")


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
    command.add_argument("--out", help="folder of the run (runs/csp); a started run goes on")
    command.add_argument("--quick", action="store_true", help="a small part of the experiment")
    command.add_argument("--show-settings", action="store_true", help="explain every setting")
    command.add_argument("--force", action="store_true", help="delete a run with other settings")
    command = commands.add_parser("list", help="what can be named in a settings file")
    command.add_argument("family", nargs="?", choices=["position", "network", "time"])
    return parser


if __name__ == "__main__":
    sys.exit(main())
