"""The command line: each command is one file, which calls the library and says what it did."""

import argparse
import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS = {
    "list": "listing",
    "embed": "embed",
    "run": "run",
    "bench": "bench",
    "bias": "bias",
    "compare": "compare",
    "convert": "convert",
    "data": "data",
    "explore": "explore",
    "completion": "completion",
}
"""Each command and its module, which has HELP, EXAMPLES, ``add_arguments`` and ``run``.

DESCRIPTION is optional, and so is RESUMES: an interrupted command goes on when it is called again.
"""


_WIDEST = 48
"""Columns of an example with its meaning beside it."""
_CODES = "exit codes: 0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 an error in one line, 2 usage, 130 Ctrl-C.

    With GEOENC_TRACEBACK=1 in the environment, errors are raised instead, for who looks for one.
    """
    goes_on = False
    try:
        options = _options(arguments)
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        module = _module(options.command)
        goes_on = getattr(module, "RESUMES", False)
        status = module.run(options)
        sys.stdout.flush()
        return int(status)
    except BrokenPipeError:  # whoever reads the output has seen enough, as in ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        hint = "; the same command goes on where it was" if goes_on else ""
        print(f"\ngeoenc: interrupted{hint}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("GEOENC_TRACEBACK"):
            raise
        print(f"geoenc: {_explained(error)}", file=sys.stderr)
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    whole = parser()
    options, rest = whole.parse_known_args(arguments)
    if options.command != "run" or any(item.startswith("-") for item in rest):
        whole.parse_args(arguments)
    options.settings = [*getattr(options, "settings", []), *rest]
    return options


def _explained(error: Exception) -> str:
    if isinstance(error, ValueError | TypeError | OSError | ImportError | FloatingPointError):
        return str(error)
    return (
        f"unexpected {type(error).__name__}: {error}; GEOENC_TRACEBACK=1 in the environment shows "
        "where it came from"
    )


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each shows its own examples."""
    from geoenc import __version__

    first = [_module(name).EXAMPLES.splitlines()[0].split("   ")[0] for name in COMMANDS]
    whole = argparse.ArgumentParser(
        prog="geoenc",
        description="Location encoders, contrastive spatial pre-training, and what they are worth.",
        epilog=f"examples:\n{_aligned(first)}\nmore of each: geoenc COMMAND --help\n\n{_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = _module(name)
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=textwrap.fill(
                getattr(module, "DESCRIPTION", f"{module.HELP[0].upper()}{module.HELP[1:]}."),
                max(shutil.get_terminal_size().columns - 2, 11),
            ),
            epilog=f"examples:\n{_aligned(module.EXAMPLES.splitlines())}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return whole


def _aligned(examples: Sequence[str]) -> str:
    """Commands, and beside each, or below a long one, what it is for."""
    parts = [[*re.split(" {2,}", line.strip(), maxsplit=1), ""][:2] for line in examples]
    width = max((len(line) for line, about in parts if about and len(line) <= _WIDEST), default=0)
    lines = []
    for line, about in parts:
        apart = f"\n{'':6}" if len(line) > width else " " * (3 + width - len(line))
        lines.append(f"  {line}{apart}{about}".rstrip())
    return "\n".join(lines)


def _module(command: str) -> ModuleType:
    return import_module(f"geoenc.cli.{COMMANDS[command]}")
