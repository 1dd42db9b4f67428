"""``geoenc convert``: released models of other projects."""

import inspect
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from geoenc.cli.output import new_path, print_json

HELP = "a released model of another project as a folder of ours"
EXAMPLES = """\
  geoenc convert satclip satclip-vit16-l40.ckpt models/satclip     a released model as ours
  geoenc convert sinr model_an_full.pt models/sinr --json          and its facts, for programs
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    formats = ("torchspatial", "csp", "satclip", "geoclip", "sinr", "climplicit", "tte")
    command.add_argument("format", choices=[*formats, "locationencoder"])
    command.add_argument("file", metavar="IN", help="the file as released")
    command.add_argument("out", metavar="DIR", help="folder to write to")
    command.add_argument(
        "given", nargs="*", metavar="key=value", help="what the file does not state"
    )
    command.add_argument("--json", action="store_true", help="what was written, as JSON")
    command.add_argument("--force", action="store_true", help="write into a folder that exists")


def run(options: Any) -> int:
    """``geoenc convert``: a released model of another project as a folder of ours."""
    from geoenc.convert import FORMATS

    folder = new_path(options.out, force=options.force)
    read, given = FORMATS[options.format], dict(map(_given, options.given))
    try:
        inspect.signature(read).bind(options.file, **given)
    except TypeError as error:
        known = ", ".join(list(inspect.signature(read).parameters)[1:]) or "nothing"
        raise ValueError(
            f"expected {known} after the folder, for {options.format}, {error}; leave it out"
        ) from error
    model = read(options.file, **given)
    model.save_pretrained(folder)
    count = sum(one.numel() for one in model.parameters())
    if options.json:
        facts = {"folder": folder, "parameters": count, "model": model.config}
        print_json({**facts, "metadata": model.metadata})
        return 0
    print(f"{type(model).__name__} with {count:,} parameters: {folder}")
    for key, value in model.metadata.items():
        print(f"  {key}: {str(value)[:90]}")
    return 0


def _given(text: str) -> tuple[str, Any]:
    """``key=value``: a number, true, false, a word, or the array in a .npy file."""
    import json

    import numpy as np

    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise ValueError(f"expected key=value, got {text!r}")
    if value.endswith(".npy"):
        if not Path(value).is_file():
            raise FileNotFoundError(f"expected an array in {value!r}, got no file; check the path")
        return key, np.load(value, allow_pickle=False)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
