"""Tensors and settings of a foreign file, taken one by one; all that is wrong is collected."""

import functools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geoenc._files import sha256
from geoenc.convert._reading import read


@dataclass
class Checkpoint:
    """What a foreign file holds, and what of it differs from what it should hold.

    Attributes:
        path: the file.
        kind: what it should be, for messages.
        tensors: by their names there.
        settings: the parameters that the file states, if it does.
        problems: all differences so far.
    """

    path: str
    kind: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], kind: str, *, settings: tuple[str, ...] = ()
    ) -> "Checkpoint":
        """Read a state dict, alone or under ``state_dict`` beside the parameters.

        Args:
            path: the file.
            kind: what it should be.
            settings: names under which the file may state its parameters.

        Raises:
            FileNotFoundError, ValueError: as for `geoenc.convert._reading.read`, and a file that
                holds no tensors by name.
        """
        content = read(path)
        if not isinstance(content, dict):
            raise ValueError(
                f"expected {kind} in {os.fspath(path)!r}, got {_shown(content)} instead of "
                "tensors by name; save the state dict of the model"
            )
        stated: Any = next((content[name] for name in settings if name in content), {})
        state = next(
            (content[name] for name in ("state_dict", "model_state_dict") if name in content),
            content,
        )
        self = cls(os.fspath(path), kind, {})
        if isinstance(stated, dict):
            self.settings = stated
        else:
            self.problems.append(f"parameters: expected a dictionary, got {_shown(stated)}")
        for key, value in state.items() if isinstance(state, dict) else ():
            if isinstance(key, str) and isinstance(value, Tensor) and _is_stored(value):
                self.tensors[key] = value
            else:
                self.problems.append(f"{key}: expected a tensor, got {_shown(value)}")
        self.merge(r"module\.", "")  # of models that were trained on several devices
        if not self.tensors:
            raise ValueError(
                f"expected {kind} in {os.fspath(path)!r}, got no tensors by name; choose the "
                "format of the file, or save the state dict of the model"
            )
        return self

    # --- tensors

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def size(self, key: str, axis: int) -> int:
        """Length of an axis of a tensor; 1 where there is none, which `take` reports."""
        shape = self.tensors[key].shape if key in self else torch.Size()
        return shape[axis] if -len(shape) <= axis < len(shape) else 1

    def take(self, key: str, *shape: int) -> Tensor:
        """A tensor by its name, in float64; what is missing or wrong is noted, and zeros given."""
        self.taken.add(key)
        found = self.tensors.get(key)
        zeros = torch.zeros((), dtype=torch.float64).expand(shape)
        if found is None:
            self.problems.append(f"{key}: expected shape {shape}, got nothing")
            return zeros
        if tuple(found.shape) != shape:
            self.problems.append(f"{key}: expected shape {shape}, got {tuple(found.shape)}")
            return zeros
        if found.layout != torch.strided or not found.is_floating_point():
            self.problems.append(f"{key}: expected floating point numbers, got {found.dtype}")
            return zeros
        wrong = found.numel() - int(found.isfinite().sum())
        if wrong:
            self.problems.append(f"{key}: {wrong} of {found.numel()} numbers are not finite")
        return found.detach().double()

    def linear(self, prefix: str, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of a layer."""
        return self.take(f"{prefix}.weight", outputs, inputs), self.take(f"{prefix}.bias", outputs)

    def drop(self, pattern: str) -> None:
        """Names that the location model does not need."""
        self.dropped.update(key for key in self.tensors if re.match(pattern, key))

    def merge(self, pattern: str, replacement: str) -> None:
        """Give tensors the name of what they repeat; they must be equal to it."""
        for key in list(self.tensors):
            name = re.sub(f"^(?:{pattern})", replacement, key)
            if name == key:
                continue
            value = self.tensors.pop(key)
            first = self.tensors.setdefault(name, value)
            if first is not value and not (first.shape == value.shape and first.equal(value)):
                self.problems.append(f"{key}: expected the same numbers as in {name}, got others")

    # --- settings

    def whole(self, name: str, *, default: int | None = None, most: int = 2**20) -> int:
        """A parameter that counts something."""
        value = self.settings.get(name, default)
        if isinstance(value, float) and value == round(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
            return value
        self._unexpected(name, "a number of things", value)
        return 1

    def real(self, name: str, *, default: float | None = None) -> float:
        """A parameter that measures something: positive and finite."""
        value = self.settings.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            return float(value)
        self._unexpected(name, "a positive number", value)
        return 1.0

    def dropout(self, name: str = "dropout", *, default: float | None = None) -> float:
        """A parameter that is a probability below 1."""
        value = self.settings.get(name, default)
        if isinstance(value, int | float) and 0 <= value < 1:
            return float(value)
        self._unexpected(name, "a probability below 1", value)
        return 0.0

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """A parameter that is true or false, or T or F."""
        value = self.settings.get(name, default)
        if isinstance(value, bool) or value in ("T", "F"):
            return value in (True, "T")
        self._unexpected(name, "true or false", value)
        return False

    def choice(self, name: str, known: Mapping[str, Any], *, default: str | None = None) -> Any:
        """A parameter that is one of several words; what the word stands for."""
        value = self.settings.get(name, default)
        if isinstance(value, str) and value in known:
            return known[value]
        self._unexpected(name, f"one of {', '.join(known)}", value)
        return next(iter(known.values()))

    def _unexpected(self, name: str, expected: str, value: Any) -> None:
        got = "nothing" if value is None else repr(value)[:80]
        note = f"parameter {name}: expected {expected}, got {got}"
        if note not in self.problems:
            self.problems.append(note)

    def differs(self, what: str, expected: Any, got: Any) -> None:
        """Note a difference, if it is one."""
        if expected != got:
            self.problems.append(f"{what}: expected {expected}, got {got}")

    # --- the end

    def check(self) -> None:
        """Refuse the file if anything differs.

        Raises:
            ValueError: with all differences.
        """
        extra = self.tensors.keys() - self.taken - self.dropped
        self.problems += [
            f"{key}: expected nothing, got shape {tuple(self.tensors[key].shape)}"
            for key in self.tensors
            if key in extra
        ]
        if self.problems:
            count = len(self.problems)
            raise ValueError(
                f"expected {self.kind} in {self.path!r}, got {count} "
                f"difference{'s' if count > 1 else ''}:\n  "
                + "\n  ".join(self.problems)
                + "\nchoose the format of the file, or fetch it again from its source"
            )

    def filled(self, model: Any, state: Mapping[str, Tensor], **facts: str) -> Any:
        """The model with these weights, in their precision and in evaluation mode."""
        dtypes = [self.tensors[key].dtype for key in self.taken]
        model.to(functools.reduce(torch.promote_types, dtypes))
        model.load_state_dict(state)
        model.metadata = {**facts, "sha256": sha256(self.path)}
        return model.eval()


def _is_stored(value: Tensor) -> bool:
    """Its numbers are in the file: not a shape alone, nor a few of them a million times."""
    if value.device.type != "cpu":
        return False
    if value.layout != torch.strided:  # `take` tells
        return True
    return value.nbytes <= max(value.untyped_storage().nbytes(), 2**24)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)} without its numbers"
    return f"{type(value).__name__} {repr(value)[:60]}" if not isinstance(value, dict) else "a dict"


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under a name."""
    return {f"{prefix}.{key}": value for key, value in state.items()}
