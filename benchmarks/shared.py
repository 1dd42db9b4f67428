"""What several benchmarks need: where data lie, and pages of reported beside measured numbers."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from geoenc.data.sources import Published

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def shared_file(name: str) -> Path:
    """A file of the shared data folder: GEOENC_SHARED, or ``../shared`` beside the repository."""
    folder = Path(os.environ.get("GEOENC_SHARED", ROOT.parent / "shared"))
    path = folder / name
    if not path.is_file():
        raise SystemExit(
            f"expected {name} in {folder}, found nothing. These data are not part of geoenc and "
            "may not be redistributed: put them there, or name their folder with the environment "
            "variable GEOENC_SHARED. `geoenc run csp` needs none of them."
        )
    return path


def described_by(source: Published, splits: Iterable[str]) -> list[str]:
    """The files that say of a published data set which images it has, where, and of which class."""
    templates = [source.labels[:1], source.places[:1]]
    files = [one.format(split=split) for split in splits for kind in templates for one in kind]
    return list(dict.fromkeys([*files, *source.categories[:1]]))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]


def console(commands: Iterable[str]) -> list[str]:
    """Lines of a block of commands."""
    return ["```console", *[f"$ {line}" for line in commands], "```", ""]
