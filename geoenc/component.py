"""Registration by definition, and configuration from the constructor's signature."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import nn

_PLAIN = (type(None), bool, int, float, str)


class Component(nn.Module):
    """A part or model that can be named in a configuration, saved, rebuilt and printed.

    Defining a subclass registers it under its class name; names with a leading underscore and
    family roots (``class Network(Component, root=True)``) are left out. The configuration is read
    from the constructor: **every argument is stored unchanged as an attribute of the same name**
    and is a plain value, a Component, or a list or tuple of these. Only ``generator`` is left
    out: what it draws is kept as weights.

    Example:
        >>> import geoenc
        >>> geoenc.Space2VecGrid(16, max_radius=180.0).config
        {'name': 'Space2VecGrid', 'num_frequencies': 16, 'min_radius': 0.1, 'max_radius': 180.0}
    """

    registry: ClassVar[dict[str, type["Component"]]] = {}

    def __init_subclass__(cls, *, root: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__name__
        if root or name.startswith("_"):
            return
        known = Component.registry.get(name)
        if known is not None and known.__module__ != cls.__module__:
            raise ValueError(
                f"expected one class named {name!r}, got a second one in {cls.__module__} "
                f"beside {known.__module__}; rename it, because configurations name classes"
            )
        Component.registry[name] = cls

    @property
    def config(self) -> dict[str, Any]:
        """``{"name": class name}`` and every constructor argument, recursively: plain JSON."""
        config: dict[str, Any] = {"name": type(self).__name__}
        for argument in _arguments(type(self)):
            config[argument] = _plain(getattr(self, argument), f"{type(self).__name__}.{argument}")
        return config

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known of the weights, as plain JSON: training data, licence, source.

        Saved with the model, and there again when it is loaded.
        """
        facts: dict[str, Any] = self.__dict__.setdefault("_metadata", {})
        return facts

    @metadata.setter
    def metadata(self, facts: Mapping[str, Any]) -> None:
        self.__dict__["_metadata"] = dict(facts)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the component that a configuration describes: the inverse of `config`.

        Only registered classes can be named, so reading a configuration runs no unknown code.

        Raises:
            ValueError: a name that is not registered, or not of the class it is asked from.
            TypeError: arguments that the constructor does not take.
        """
        arguments = dict(config)
        target = cls._named(arguments.pop("name", cls.__name__))
        target._complete(arguments)
        expected = _arguments(target)
        unknown = [key for key in arguments if key not in expected]
        if unknown:
            raise TypeError(
                f"expected arguments {expected} for {target.__name__}, got {unknown}; "
                "remove or rename them"
            )
        return target(**{key: _built(value) for key, value in arguments.items()})

    @classmethod
    def _complete(cls, arguments: dict[str, Any]) -> None:
        """Fill in what a configuration may leave out; models override this."""

    @classmethod
    def _named(cls, name: str) -> type[Self]:
        found = Component.registry.get(name)
        if found is None:
            close = difflib.get_close_matches(str(name), Component.registry, n=3, cutoff=0.4)
            known = close or sorted(
                key for key, value in Component.registry.items() if issubclass(value, cls)
            )
            raise ValueError(
                f"expected the name of a registered {cls.__name__}, got {name!r}; "
                f"{'did you mean' if close else 'there are'} {', '.join(known)}? "
                "A class of another package must be imported first"
            )
        if not issubclass(found, cls):
            raise ValueError(f"expected a {cls.__name__}, got {name!r}, which is not one")
        return found

    def extra_repr(self) -> str:
        """Hyperparameters as they would be written in the constructor."""
        values = {argument: getattr(self, argument) for argument in _arguments(type(self))}
        return ", ".join(
            f"{key}={value!r}"
            for key, value in values.items()
            if isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and _all_plain(value))
        )


def _arguments(cls: type) -> list[str]:
    parameters = inspect.signature(cls).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in kinds and p.name != "generator"]


def _all_plain(values: Any) -> bool:
    return all(isinstance(value, _PLAIN) for value in values)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Component):
        return value.config
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_plain(item, where) for item in value]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, torch.dtype | torch.device) or not isinstance(value, nn.Module):
        remedy = "store the constructor's argument unchanged"
    else:
        remedy = "derive it from geoenc.Network, or save it by other means"
    raise TypeError(
        f"expected {where} to be a plain value or a geoenc Component, got "
        f"{type(value).__name__}; {remedy}"
    )


def _built(value: Any) -> Any:
    if isinstance(value, Mapping) and "name" in value:
        return Component.from_config(value)
    if isinstance(value, list | tuple):
        return [_built(item) for item in value]
    return value
