"""The command line: each command is one file, which calls the library and says what it did."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS = {
    "run": "run",
    "list": "listing",
    "compare": "compare",
    "bias": "bias",
    "convert": "convert",
    "embed": "embed",
    "data": "data",
}
"""Each command and its module, which has HELP, EXAMPLES, ``add_arguments`` and ``run``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 an error that was explained, 2 usage."""
    whole = parser()
    options, rest = whole.parse_known_args(arguments)
    if options.command != "run" or any(item.startswith("-") for item in rest):
        whole.parse_args(arguments)
    options.settings = [*getattr(options, "settings", []), *rest]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        status = _module(options.command).run(options)
        sys.stdout.flush()
        return int(status)
    except BrokenPipeError:  # whoever reads the output has seen enough, as in ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"geoenc: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each shows its own examples."""
    from geoenc import __version__

    first = "\n".join(_module(name).EXAMPLES.splitlines()[0] for name in COMMANDS)
    whole = argparse.ArgumentParser(
        prog="geoenc",
        description="Location encoders, contrastive spatial pre-training, and what they are worth.",
        epilog=f"examples:\n{first}\nmore of each: geoenc COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = _module(name)
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=getattr(
                module, "DESCRIPTION", f"{module.HELP[0].upper()}{module.HELP[1:]}."
            ),
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return whole


def _module(command: str) -> ModuleType:
    return import_module(f"geoenc.cli.{COMMANDS[command]}")
