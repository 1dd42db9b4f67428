"""What is entered into the benchmark: position encoders by name, trained models, files of both."""

import ast
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoenc.component import Component
from geoenc.position import PositionEncoder


@dataclass(frozen=True)
class Entry:
    """One encoder of the benchmark.

    Args:
        name: in tables.
        position: configuration of a position encoder, which is trained with a network, and
            probed as it is; None for a trained model.
        choose: values of arguments of the position encoder, among which validation chooses.
        network: configuration of the network; None: that of the settings.
        rates: learning rates, among which validation chooses; none: those of the settings.
        training: what differs from the settings: steps, batch, evaluate_every, weight_decay.
        model: folder or name of a trained model, which stays as it is.
        pooled: whether, once trained, it is also pooled with the neighbours of each place: a row
            of its own.
    """

    name: str
    position: Mapping[str, Any] | None = None
    choose: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    network: Mapping[str, Any] | None = None
    rates: tuple[float, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    pooled: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What a result records of it."""
        found: dict[str, Any] = {
            "position": self.position,
            "choose": dict(self.choose),
            "network": self.network,
            "rates": list(self.rates),
            "training": dict(self.training),
            "model": self.model,
        }
        return {key: value for key, value in found.items() if value}

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Arguments to try, one at a time: ``[{}]`` where there is nothing to choose."""
        return [{key: one} for key, values in self.choose.items() for one in values] or [{}]


def entries(text: str) -> list[Entry]:
    """What a word of the command line enters.

    Args:
        text: ``"Space2VecGrid"``; ``"Space2VecGrid(num_frequencies=16)"`` with plain values; a
            ``.toml`` file with tables ``[[encoders]]``; a folder or name of
            `geoenc.from_pretrained`.

    Raises:
        ValueError: nothing of that name, or arguments that are no plain values or out of range.
        TypeError: arguments that the encoder does not take.

    Example:
        >>> from geoenc.bench.entries import entries
        >>> entries("Wrap(latitude_period=360.0)")[0].position
        {'name': 'Wrap', 'latitude_period': 360.0}
    """
    if text.endswith(".toml"):
        return read(text)
    name = text.partition("(")[0].strip()
    if _is_position(name):
        position = {"name": name, **_arguments(text)}
        PositionEncoder.from_config(position)  # wrong arguments are told at once
        return [Entry(text.strip(), position)]
    if Path(text).is_dir():
        return [Entry(Path(text).name, model=text)]
    from geoenc.catalogue import list_pretrained

    if name == text and any(one.name == name for one in list_pretrained()):
        return [Entry(name, model=name)]
    known = sorted(key for key in Component.registry if _is_position(key))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
    raise ValueError(
        f"expected a position encoder, a .toml file, a folder of a model or the name of a trained "
        f"one, got {text!r}; did you mean {', '.join(close)}? geoenc list names all"
    )


def read(path: str | Path) -> list[Entry]:
    """The tables ``[[encoders]]`` of a file, whose keys are the arguments of `Entry`.

    Raises:
        ValueError: no such file, no such table, keys or classes that are not known.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"expected a file of encoders, got {file}, which is not there; check it")
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8")).get("encoders", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML in {file}, got {error}; correct that line") from error
    if not tables:
        raise ValueError(f"expected tables [[encoders]] in {file}, got none; see the how-to page")
    found = [_entry(table, file) for table in tables]
    names = [entry.name for entry in found]
    if len(set(names)) < len(names):
        raise ValueError(f"expected different names in {file}, got {names}; rename one")
    return found


def _entry(table: Mapping[str, Any], file: Path) -> Entry:
    fields = ("name", "position", "choose", "network", "rates", "training", "model", "pooled")
    unknown = [key for key in table if key not in fields]
    position = table.get("position")
    if unknown or ("model" in table) == (position is not None):
        raise ValueError(
            f"expected keys of {', '.join(fields)}, with either position or model, got "
            f"{', '.join(table)} in {file}; correct the table"
        )
    for part in (position, table.get("network")):
        if part is not None and part.get("name") not in Component.registry:
            raise ValueError(
                f"expected a class of geoenc in {file}, got {part.get('name')!r}; geoenc list "
                "names all"
            )
    name = table.get("name") or (position or {}).get("name") or table.get("model")
    return Entry(
        str(name),
        position,
        table.get("choose", {}),
        table.get("network"),
        tuple(table.get("rates", ())),
        table.get("training", {}),
        table.get("model"),
        bool(table.get("pooled", False)),
    )


def _is_position(name: str) -> bool:
    found = Component.registry.get(name)
    return found is not None and issubclass(found, PositionEncoder)


def _arguments(text: str) -> dict[str, Any]:
    """The keyword arguments of a call that is written out; nothing is run."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return {}
        assert isinstance(call, ast.Call)
        assert not call.args
        return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords if one.arg}
    except (SyntaxError, ValueError, AssertionError) as error:
        raise ValueError(
            f"expected arguments by name with plain values, such as Space2VecGrid("
            f"num_frequencies=16), got {text!r}; write them so, in quotes"
        ) from error
