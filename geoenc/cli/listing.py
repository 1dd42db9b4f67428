"""``geoenc list``: what a settings file, or `from_pretrained`, can name."""

from argparse import ArgumentParser
from typing import Any

from geoenc.cli.output import print_json

HELP = "what can be named in a settings file"
EXAMPLES = """\
  geoenc list position             position encoders: size, finest scale, continuity
  geoenc list pretrained           trained models that load by name
  geoenc list pretrained --json    the same for programs: licence, size, checksum
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    families = ["position", "network", "time", "pretrained"]
    command.add_argument("family", nargs="?", choices=families, help="all but pretrained")
    command.add_argument("--json", action="store_true", help="everything known of each, as JSON")


def run(options: Any) -> int:
    """The components of one family, or of all."""
    import geoenc
    from geoenc.component import Component

    if options.family == "pretrained":
        return _list_pretrained(options.json)
    roots = {
        "position": geoenc.PositionEncoder,
        "network": geoenc.Network,
        "time": geoenc.TimeEncoder,
    }
    found = sorted(Component.registry.items())
    families = {
        family: {name: cls for name, cls in found if issubclass(cls, roots[family])}
        for family in ([options.family] if options.family else roots)
    }
    if options.json:
        print_json({family: _facts(classes) for family, classes in families.items()})
        return 0
    for family, classes in families.items():
        print(f"{family}:")
        if family == "position":
            _list_position(classes)
            continue
        for name, cls in classes.items():
            print(f"  {name:18}{_formula(cls)}")
    return 0


def _facts(classes: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, formula, arguments without a default, and the properties with the other defaults."""
    from geoenc import PositionEncoder
    from geoenc.properties import example, properties, required

    facts = []
    for name, cls in classes.items():
        fact = {"name": name, "formula": _formula(cls), "required": required(cls)}
        if issubclass(cls, PositionEncoder) and not fact["required"]:
            fact |= properties(example(cls))
        facts.append(fact)
    return facts


def _list_pretrained(as_json: bool) -> int:
    """What `from_pretrained` takes by name, and what is known of it."""
    from dataclasses import asdict

    from geoenc.catalogue import list_pretrained

    if as_json:
        print_json([asdict(model) for model in list_pretrained()])
        return 0
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
    from geoenc.properties import example, properties, required

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


def _formula(cls: Any) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].replace("``", "")
