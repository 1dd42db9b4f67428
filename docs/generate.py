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
    }
    for name, text in parts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def encoder_properties() -> str:
    """One row per position encoder of the registry, as its constructor's defaults make it."""
    lines = [
        "| Class | Columns | By default | Wavelengths, degrees | of radius r | Continuous at ±180° "
        "| One code per pole |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cls in sorted(Component.registry.items()):
        if not issubclass(cls, geoenc.PositionEncoder) or not cls.__module__.startswith("geoenc."):
            continue
        encoder = cls()
        waves = getattr(encoder, "wavelengths", None)
        lengths = unit = "–"
        if waves is not None:
            low, high = waves.min().item(), waves.max().item()
            lengths = _rounded(low) if low == high else f"{_rounded(low)} to {_rounded(high)}"
            unit = _unit(encoder, low)
        yes_no = ["yes" if value else "no" for value in (cls.wraps_antimeridian, cls.wraps_poles)]
        cells = [
            f"{{py:obj}}`~geoenc.{name}`", _columns(cls), str(encoder.out_features),
            lengths, unit, *yes_no,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _columns(cls: Any) -> str:
    if "num_frequencies" not in inspect.signature(cls).parameters:
        return str(cls().out_features)
    each = cls(1).out_features
    assert cls(5).out_features == 5 * each
    return f"{each} F"


def _unit(encoder: Any, shortest: float) -> str:
    if not hasattr(encoder, "min_radius"):
        return "–"
    ratio = shortest / encoder.min_radius
    if math.isclose(ratio, 2 * math.pi):
        return "2π r"
    assert math.isclose(ratio, 360)
    return "360 r"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


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
    from geoenc.cli import main

    os.environ["COLUMNS"] = "88"
    lines = []
    for title, arguments in (
        ("The command", ["--help"]),
        ("geoenc run", ["run", "--help"]),
        ("geoenc list", ["list", "--help"]),
        ("What there is", ["list"]),
    ):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main(arguments)
        shown = " ".join(["geoenc", *arguments])
        text = textwrap.dedent(printed.getvalue()).rstrip()
        lines += [f"## {title}", "", "```text", f"$ {shown}", text, "```", ""]
    return "\n".join(lines)
