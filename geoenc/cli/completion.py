"""``geoenc completion``: words that the shell completes."""

import argparse
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from geoenc._optional import require

HELP = "a script with which your shell completes commands"
EXAMPLES = """\
  geoenc completion bash > ~/.local/share/bash-completion/completions/geoenc
  geoenc completion zsh > ~/.zfunc/_geoenc         with fpath+=~/.zfunc before compinit
  geoenc completion fish > ~/.config/fish/completions/geoenc.fish
"""

_FILES = ("FILE", "TABLE", "IN", "OUT", "A", "B", "FILE key=value")
_FOLDERS = ("DIR",)
_MODELS = ("MODEL",)


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("shell", choices=["bash", "zsh", "fish"])


def run(options: Any) -> int:
    """``geoenc completion``: the script for one shell."""
    shtab = require("shtab", extra="cli")
    from geoenc.catalogue import list_pretrained
    from geoenc.cli import parser

    whole = parser()
    names = " ".join(model.name for model in list_pretrained())
    function = "_geoenc_model_dirs"
    models = shtab.DIRECTORY | {
        "bash": function,
        "preamble": {
            "bash": f'{function}() {{ compgen -d -- "$1"; compgen -W "{names}" -- "$1"; }}'
        },
    }
    completes = {
        **dict.fromkeys(_FILES, shtab.FILE),
        **dict.fromkeys(_FOLDERS, shtab.DIRECTORY),
        **dict.fromkeys(_MODELS, models),
    }
    for action in _actions(whole):
        if action.metavar in completes and not action.choices:
            action.complete = completes[action.metavar]  # type: ignore[attr-defined]
    print(shtab.complete(whole, options.shell))
    return 0


def _actions(parser: ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
