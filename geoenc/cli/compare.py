"""``geoenc compare``: paired tests."""

from argparse import ArgumentParser
from typing import Any

HELP = "is B better than A? paired tests"
EXAMPLES = """\
  geoenc compare runs/a runs/b                     is b better? paired tests over seeds
  geoenc compare a.parquet b.parquet --json        two files of predictions of the same samples
  geoenc compare runs/a --methods "Image only" CSP-MC-BLD      two rows of one table
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("first", metavar="A", help="results.json, its folder, or predictions")
    command.add_argument("second", metavar="B", nargs="?", help="the same of B (A, with --methods)")
    command.add_argument("--methods", nargs=2, metavar=("ROW_A", "ROW_B"), help="rows of results")
    command.add_argument("--metric", default="top1", help="top1 (default), top5, ...")
    command.add_argument("--json", action="store_true", help="the numbers as JSON")


def run(options: Any) -> int:
    """``geoenc compare``: paired tests of two files of predictions, or of two results."""
    from geoenc.compare import as_json, as_text, compare_files

    if options.second is None and options.methods is None:
        raise ValueError(
            "expected two files, or one with --methods A B, got one file; name the second one"
        )
    methods = None if options.methods is None else tuple(options.methods)
    second = options.first if options.second is None else options.second
    result = compare_files(options.first, second, methods=methods, metric=options.metric)
    print(as_json(result) if options.json else as_text(result))
    return 0
