"""What commands have in common: JSON on standard output, and files that are never overwritten."""

import json
import math
import os
from pathlib import Path
from typing import Any


def print_json(document: Any) -> None:
    """One JSON document; NaN and the infinities, which JSON does not have, are null."""
    print(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False))


def new_path(path: str | os.PathLike[str], *, force: bool) -> Path:
    """The path of a file or folder to write, if it is new.

    Raises:
        FileExistsError: something is there, and ``force`` is false.
    """
    if Path(path).exists() and not force:
        raise FileExistsError(
            f"expected a new file or folder, got {str(path)!r}, which exists; choose another, or "
            "pass --force to replace it"
        )
    return Path(path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, os.PathLike):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
