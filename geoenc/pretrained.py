"""Models on disk: ``config.json`` and ``model.safetensors`` in one folder, nothing executable.

A repository of the Hugging Face Hub with these two files is such a folder, elsewhere.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoenc._files import atomic_path, sha256
from geoenc._optional import require
from geoenc.component import Component

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT_VERSION = 1
COORDINATES = "longitude, latitude; degrees; WGS 84"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)


def save_pretrained(
    model: Component, path: str | os.PathLike[str], *, metadata: dict[str, Any] | None = None
) -> None:
    """Write a model as ``config.json`` and ``model.safetensors``, both whole or not at all.

    A part that is there twice is written twice: after reading, these are two equal parts.

    Args:
        model: any Component whose parts are Components.
        path: a folder, made if need be; a model already there is replaced.
        metadata: facts to keep with it, plain JSON, beside or instead of those in
            ``model.metadata``: ``training_data``, ``licence``, ``paper``, ``source``.

    Raises:
        TypeError: a part that is not a Component, so that it could not be rebuilt.
        OSError: no room or no permission; nothing is changed.

    Example:
        >>> import tempfile, geoenc
        >>> encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8, hidden_features=16))
        >>> folder = tempfile.mkdtemp()
        >>> encoder.save_pretrained(folder, metadata={"training_data": "none"})
        >>> again = geoenc.from_pretrained(folder)
        >>> again.out_features, again.metadata["training_data"]
        (8, 'none')
    """
    from safetensors.torch import save

    from geoenc import __version__

    folder = Path(path)
    config = model.config
    state = model.state_dict()
    weights = save({key: value.detach().cpu().clone().contiguous() for key, value in state.items()})
    document = {
        "format_version": FORMAT_VERSION,
        "geoenc_version": __version__,
        "model": config,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "coordinates": COORDINATES,
        "metadata": {**model.metadata, **(metadata or {})},
    }
    text = json.dumps(document, indent=2) + "\n"
    with atomic_path(folder / CONFIG) as new_config, atomic_path(folder / WEIGHTS) as new_weights:
        new_weights.write_bytes(weights)
        new_config.write_text(text, encoding="utf-8")


def from_pretrained(
    path: str | os.PathLike[str],
    *,
    expected: type[Component] = Component,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Any:
    """Read a model written by `geoenc.pretrained.save_pretrained`; in evaluation mode, on the CPU.

    Nothing is downloaded unless ``path`` is text of the form ``"org/name"`` and no such folder is
    here.

    Args:
        path: the folder with ``config.json`` and ``model.safetensors``, or a repository with them.
        expected: refuse a model that is not of this class.
        revision: commit, tag or branch of the repository; pin a commit to get the same model
            for ever.
        cache_dir, token, local_files_only: as in ``huggingface_hub``.

    Raises:
        FileNotFoundError: no such folder or repository, or no model in it; no network.
        ValueError: a damaged file, weights that do not belong to the configuration, or a model
            of another class.
        ImportError: a repository, without the extra ``hub``.
    """
    folder = Path(path)
    if isinstance(path, str) and not folder.exists() and _REPOSITORY.fullmatch(path):
        folder = _snapshot(
            path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
    elif revision is not None:
        raise ValueError(
            f"expected a repository 'org/name' with revision={revision!r}, got {str(path)!r}; "
            "a folder has no revisions"
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"expected a model folder with {CONFIG} and {WEIGHTS}, got {str(path)!r} "
                f"without {name}; give the folder that save_pretrained wrote"
            )
    document = _read_config(folder / CONFIG)
    model = expected.from_config(document["model"])
    state = _read_weights(folder / WEIGHTS, document["weights_sha256"])
    wanted = model.state_dict()
    wrong = [
        f"{key}: expected {_shape(wanted.get(key))}, got {_shape(state.get(key))}"
        for key in sorted(wanted.keys() | state.keys())
        if _shape(wanted.get(key)) != _shape(state.get(key))
    ]
    if wrong:
        raise ValueError(
            f"expected weights of {type(model).__name__} in {str(folder / WEIGHTS)!r}, but "
            f"{'; '.join(wrong[:5])}; save the model again"
        )
    _cast(model, state)
    own = {key: value.clone() for key, value in state.items()}  # not the file, mapped
    model.load_state_dict(own, assign=True)
    model.metadata = document.get("metadata", {})
    return model.eval()


def _snapshot(repository: str, **options: Any) -> Path:
    """The two files of one commit of a repository, in the cache of huggingface_hub."""
    try:
        hub = require("huggingface_hub", extra="hub")
    except ImportError as error:
        raise ImportError(
            f"expected a folder {repository!r}, got none; to read it as a repository, {error}"
        ) from error
    try:
        found = hub.snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS], **options)
    except Exception as error:  # the client raises those of its HTTP library too
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FileNotFoundError(
            f"expected a folder or a repository of the Hugging Face Hub, got {repository!r}: no "
            f"such folder is here, and the repository could not be read ({reason}); check the "
            "name, the revision, the token and the network"
        ) from error
    return Path(found)


def _cast(module: "nn.Module", state: "dict[str, Tensor]", prefix: str = "") -> None:
    """The dtype of the weights, also for position encoders, which may have none of their own."""
    dtypes = {state[prefix + key].dtype for key, _ in module.named_parameters()}
    if len(dtypes) == 1:
        module.to(dtypes.pop())
        return
    for name, child in module.named_children():
        _cast(child, state, f"{prefix}{name}.")


def _shape(tensor: "Tensor | None") -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = int(document["format_version"])
        document["model"]["name"], document["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected a geoenc model configuration in {str(path)!r}, got a file that is damaged "
            f"or of another kind ({error}); save the model again"
        ) from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"expected format version {FORMAT_VERSION} or older in {str(path)!r}, got {version}; "
            "install a newer geoenc"
        )
    return document


def _read_weights(path: Path, digest: str) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if sha256(path) != digest:
        raise ValueError(
            f"expected {str(path)!r} to have the checksum written in {CONFIG}, got another; the "
            "file is damaged or belongs to another model: copy or save it again"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"expected safetensors in {str(path)!r}, got a damaged file ({error}); "
            "copy or save it again"
        ) from error
