"""``geoenc data``: published files."""

from argparse import ArgumentParser
from typing import Any

from geoenc.cli.output import print_json

HELP = "published data sets: check or invent their files"
EXAMPLES = """\
  geoenc data check downloads                      which published files are there and sound
  geoenc data generate inat2018 invented           small files of the same form
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    names = ("inat2017", "inat2018", "birdsnap", "nabirds", "yfcc", "fmow")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = actions.add_parser("check", help="what is there, what is missing, what looks wrong")
    action.add_argument("path", metavar="DIR", help="folder of the files, or one above it")
    action.add_argument("--json", action="store_true", help="the report as JSON")
    action = actions.add_parser("generate", help="invented files in the form of a published set")
    action.add_argument("name", choices=names, help="the data set")
    action.add_argument("path", metavar="DIR", help="folder to write to; no file is replaced")
    action.add_argument("--samples", type=int, default=200, help="images to train on (200)")
    action.add_argument("--classes", type=int, default=5, help="classes (5)")
    action.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    action.add_argument("--json", action="store_true", help="what was written, as JSON")


def run(options: Any) -> int:
    """``geoenc data check`` and ``generate``: published files, and small ones of the same form."""
    import torch

    from geoenc.data import check, make_published

    if options.action == "check":
        report = check(options.path)
        print_json(report.as_dict()) if options.json else print(report)
        return 0 if report.ok else 1
    generator = torch.Generator().manual_seed(options.seed)
    sizes = {"num_samples": options.samples, "num_classes": options.classes}
    folder = make_published(options.name, options.path, generator=generator, **sizes)
    if options.json:
        print_json({"name": options.name, "folder": folder, **sizes, "seed": options.seed})
    else:
        print(f"invented files in the form of {options.name}: {folder}")
    return 0
