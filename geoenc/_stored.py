"""What the outputs of an encoder share: its facts, numbers of a type, a folder of parts."""

import copy
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from geoenc import hub
from geoenc._files import write_text
from geoenc.pretrained import COORDINATES

DTYPES = ("float32", "float16", "int8")


def as_encoder(model: Any, device: str | None = None) -> Any:
    """What embeds: the model, what its name or folder stands for, or the encoder inside.

    With a device, a copy there of a model that was given.
    """
    named = isinstance(model, str | os.PathLike)
    encoder = hub.from_pretrained(model) if named else model
    for part in ("encoder", "location"):  # of a classifier, of a dual encoder
        if not hasattr(encoder, "embed") and hasattr(encoder, part):
            encoder = getattr(encoder, part)
    if not hasattr(encoder, "embed"):
        raise TypeError(
            f"expected a model that embeds places, got {type(encoder).__name__}; give a "
            "LocationEncoder, or a model with one"
        )
    if device is None:
        return encoder
    try:
        return (encoder if named else copy.deepcopy(encoder)).to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"expected a device of this machine, got {device!r} ({reason}); choose cpu"
        ) from error


def check_time(encoder: Any, given: bool) -> None:
    """Refuse a time without use, and a model that lacks its time, before anything is written."""
    try:
        encoder.embed(torch.empty(0, 2), torch.empty(0) if given else None)
    except ValueError as error:
        raise ValueError(
            "expected no time, for the model was built without one, got one; leave time= (--time) "
            "out"
            if given
            else "expected a time, for the model was built with one, got none; give time= (--time)"
        ) from error


def check_dtype(dtype: str, allowed: tuple[str, ...] = DTYPES) -> None:
    """Refuse other types."""
    if dtype not in allowed:
        raise ValueError(f"expected dtype {', '.join(allowed)}, got {dtype!r}")


def check_new(target: Path, force: bool) -> None:
    """Refuse to replace what is there."""
    if target.exists() and not force:
        raise ValueError(
            f"expected a new file, got {str(target)!r}, which exists; choose another, or pass "
            "force=True (--force) to replace it"
        )


def facts_of(model: Any, encoder: Any, dtype: str) -> dict[str, Any]:
    """What a reader of the numbers should know, and what makes two runs the same."""
    from geoenc import __version__

    digest = hashlib.sha256(json.dumps(encoder.config, sort_keys=True).encode())
    for key, value in sorted(encoder.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    scaled = {"scale": "e = embedding * embedding_scale"} if dtype == "int8" else {}
    return {
        "geoenc_version": __version__,
        "model": str(model) if isinstance(model, str | os.PathLike) else type(model).__name__,
        "model_config": encoder.config,
        "model_sha256": digest.hexdigest(),
        "model_metadata": encoder.metadata,
        "coordinates": COORDINATES,
        "dtype": dtype,
        "dimensions": encoder.out_features,
        **scaled,
    }


def narrowed(numbers: Tensor, dtype: str) -> tuple[Tensor, Tensor | None]:
    """Embeddings ``(N, D)`` in another type, and with int8 the scale of each, max |e| / 127."""
    scale = None
    if dtype == "int8":
        scale = numbers.abs().amax(1) / 127
        numbers = (numbers / torch.where(scale > 0, scale, 1)[:, None]).round_()
    stored = numbers.to(getattr(torch, dtype))
    if dtype == "float16" and bool((stored.isinf() & numbers.isfinite()).any()):
        raise ValueError(
            f"expected embeddings within 65504 for float16, got {numbers.abs().max():g}; "
            "choose float32 or int8"
        )
    return stored, scale


def listed(numbers: NDArray[Any], null: NDArray[Any]) -> Any:
    """An Arrow column of lists of fixed length."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(
        pa.array(numbers.reshape(-1)), numbers.shape[1], mask=pa.array(null)
    )


def prepare_parts(folder: Path, facts: dict[str, Any], force: bool) -> None:
    """The folder of parts, with nothing in it that other settings made."""
    settings = folder / "settings.json"
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    if folder.exists():
        same = settings.is_file() and settings.read_text(encoding="utf-8") == text
        if not same and not force:
            raise ValueError(
                f"expected parts of this run in {str(folder)!r}, got those of another table, model "
                "or setting; go on with that run, delete the folder, or pass force=True (--force)"
            )
        if not same:
            shutil.rmtree(folder)
    write_text(settings, text)
