"""Where the data lie that geoenc does not ship, and what to do where they are absent."""

import os
from pathlib import Path

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
