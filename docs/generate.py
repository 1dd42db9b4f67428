"""Parts of pages that are read from the code: properties, departures, settings, commands."""

import ast
import contextlib
import dataclasses
import importlib
import inspect
import io
import math
import os
import textwrap
import tomllib
import typing
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import geoenc
from geoenc.component import Component
from geoenc.properties import example, properties, required
from geoenc.recipes.config import Config

ROOT = Path(geoenc.__file__).parent


def write(folder: Path) -> None:
    """Write every part whose text has changed."""
    folder.mkdir(exist_ok=True)
    parts = {
        "encoder-properties.md": encoder_properties(),
        "differences.md": differences(),
        "settings.md": settings(),
        "cli.md": command_line(),
        "published-encoders.md": published_encoders(),
        "released-models.md": released_models(),
    }
    for name, text in parts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def encoder_properties() -> str:
    """One row per position encoder of the registry, as its constructor's defaults make it."""
    lines = [
        "| Class | Columns | By default | Parameters | Wavelengths, degrees | Shortest, km "
        "| of radius r | Joins at ±180° | One code per pole |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cls in sorted(Component.registry.items()):
        if not issubclass(cls, geoenc.PositionEncoder) or not cls.__module__.startswith("geoenc."):
            continue
        if required(cls):
            lines.append(f"| {{py:obj}}`~geoenc.{name}` | given {'| – ' * 7}|")
            continue
        encoder = example(cls)
        it = properties(encoder)
        low, high = it["shortest_wave"], it["longest_wave"]
        lengths = kilometres = "–"
        if low is not None:
            lengths = _rounded(low) if low == high else f"{_rounded(low)} to {_rounded(high)}"
            kilometres = f"{it['shortest_km']:,.0f}"
        joins = ["yes" if it[edge] else "no" for edge in ("antimeridian", "poles")]
        cells = [
            f"{{py:obj}}`~geoenc.{name}`", _columns(cls), f"{it['columns']:,}",
            f"{it['parameters']:,}", lengths, kilometres, _unit(encoder, low), *joins,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _columns(cls: Any) -> str:
    """The width as a polynomial of F (or of the degree L), if there is one; else as it is."""
    for argument, letter in (("num_frequencies", "F"), ("num_features", "F"), ("degree", "L")):
        if argument not in inspect.signature(cls).parameters:
            continue
        one, two, three = (cls(**{argument: count}).out_features for count in (1, 2, 3))
        square = (three - 2 * two + one) // 2
        linear = two - one - 3 * square
        constant = one - linear - square
        terms = [(square, f" {letter}²"), (linear, f" {letter}"), (constant, "")]
        return " + ".join(f"{count}{of}".removeprefix("1 ") for count, of in terms if count)
    return f"{example(cls).out_features:,}"


def _unit(encoder: Any, shortest: float | None) -> str:
    if shortest is None or not hasattr(encoder, "min_radius"):
        return "–"
    ratio = shortest / encoder.min_radius
    if math.isclose(ratio, 2 * math.pi):
        return "2π r"
    return "360 r" if math.isclose(ratio, 360) else "–"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def published_encoders() -> str:
    """One row per complete encoder that is known by name."""
    lines = ["| Name | Position | Network | Width | Parameters | Settings from | Notes |"]
    lines.append("|---" * 7 + "|")
    for name in geoenc.published.names():
        entry = geoenc.published.entry(name)
        parts = entry.config.get("encoders", [entry.config])
        position, network = (parts[0][part]["name"] for part in ("position", "network"))
        model = geoenc.published.encoder(name)
        cells = [
            f"`{name}`", f"{f'{len(parts)} ' * (len(parts) > 1)}`{position}`", f"`{network}`",
            f"{entry.out_features:,}", f"{sum(p.numel() for p in model.parameters()):,}",
            f"{entry.paper}; {entry.source}", entry.notes,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def released_models() -> str:
    """One row per trained model of the catalogue."""
    lines = ["| Name | Paper | Trained on | Licence | Size | Checksum | Notes |", "|---" * 7 + "|"]
    for model in geoenc.list_pretrained():
        size = model.size / 1e6 if model.size else model.megabytes
        cells = [
            f"[`{model.name}`]({model.page})", model.paper, model.training_data,
            model.licence or "none stated", "unknown" if size is None else f"{size:.1f} MB",
            (model.checksum or "none").partition(":")[0],
            model.notes + (" Not converted." if model.format is None else ""),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences() -> str:
    """Every ``Differs`` note of the library, under a link to what carries it."""
    items = []
    for module, name, doc in _documented():
        note = _section(doc, "Differs")
        if note:
            items.append(f"- {{py:obj}}`~{_public_name(module, name)}`: {note}")
    return "\n".join(items) + "\n"


def _documented() -> Iterator[tuple[str, str, str]]:
    """Module, name and docstring of every public class and function."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("geoenc", *path.relative_to(ROOT).with_suffix("").parts)
        module = ".".join(parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                yield module, node.name, ast.get_docstring(node) or ""


def _section(doc: str, title: str) -> str:
    """The text of one section on one line, or nothing."""
    kept: list[str] | None = None
    for line in doc.splitlines():
        if kept is None:
            if line.startswith(f"{title}:"):
                kept = [line.removeprefix(f"{title}:")]
        elif line and not line.startswith(" "):
            break
        else:
            kept.append(line)
    return " ".join(" ".join(kept or []).split()).replace("``", "`")


def _public_name(module: str, name: str) -> str:
    """The shortest path from which it can be imported, as the reference pages name it."""
    for home in ("geoenc", module.rpartition(".")[0], module):
        if home and hasattr(importlib.import_module(home), name):
            return f"{home}.{name}"
    return f"{module}.{name}"


def settings() -> str:
    """A table for each part of the configuration: key, default, what it is."""
    with resources.files("geoenc.recipes").joinpath("csp.toml").open("rb") as file:
        shipped = tomllib.load(file)
    own = [f for f in dataclasses.fields(Config) if not dataclasses.is_dataclass(f.type)]
    lines = ["## Top level", "", *_rows(Config, own, shipped)]
    for field in dataclasses.fields(Config):
        if not dataclasses.is_dataclass(field.type):
            continue
        part = field.type
        lines += ["", f"## `[{field.name}]`", "", _summary(part), ""]
        lines += _rows(part, dataclasses.fields(part), shipped.get(field.name, {}))
    return "\n".join(lines) + "\n"


def _rows(owner: type, fields: Any, shipped: dict[str, Any]) -> list[str]:
    import docstring_parser

    documented = docstring_parser.parse(owner.__doc__ or "")
    meanings = {p.arg_name: " ".join((p.description or "").split()) for p in documented.params}
    types = typing.get_type_hints(owner)
    more = any(field.name in shipped for field in fields)
    lines = [":::{container} meanings", ""]
    lines += [
        f"| Key | Type | Default |{' csp.toml |' * more} Meaning |",
        "|---" * (4 + more) + "|",
    ]
    for field in fields:
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        given = "" if field.name not in shipped else f"`{_toml(shipped[field.name])}`"
        if field.name in ("methods", "quick"):
            given = "see below"
        meaning = meanings[field.name].replace("|", r"\|")
        lines.append(
            f"| `{field.name}` | {_type(types[field.name])} | `{_toml(default)}` "
            f"{f'| {given} ' * more}| {meaning[:1].upper()}{meaning[1:]} |"
        )
    return [*lines, ":::"]


def _summary(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(f"`{_toml(value)}`" for value in typing.get_args(hint))
    origin = typing.get_origin(hint)
    if origin is tuple:
        return f"list of {_type(typing.get_args(hint)[0])}"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true, false"}.get(
        getattr(origin or hint, "__name__", ""), "table"
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value)


def command_line() -> str:
    """What the commands print about themselves."""
    from geoenc.cli import COMMANDS, main

    os.environ["COLUMNS"] = "88"
    lines = []
    calls = [("The command", ["--help"])]
    calls += [(f"geoenc {name}", [name, "--help"]) for name in COMMANDS]
    calls += [(f"geoenc data {name}", ["data", name, "--help"]) for name in ("check", "generate")]
    for title, arguments in (*calls, ("What there is", ["list"])):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main(arguments)
        shown = " ".join(["geoenc", *arguments])
        text = textwrap.dedent(printed.getvalue()).rstrip()
        lines += [f"## {title}", "", "```text", f"$ {shown}", text, "```", ""]
    return "\n".join(lines)
