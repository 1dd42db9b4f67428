"""Models on disk: ``config.json`` and ``model.safetensors`` in one folder, nothing executable."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoenc._files import atomic_path
from geoenc.component import Component

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT_VERSION = 1


def save_pretrained(
    model: Component, path: str | os.PathLike[str], *, metadata: dict[str, Any] | None = None
) -> None:
    """Write a model as ``config.json`` and ``model.safetensors``, both whole or not at all.

    Args:
        model: any Component whose parts are Components.
        path: a folder, made if need be; a model already there is replaced.
        metadata: facts to keep with it, plain JSON: training data, licence, source.

    Raises:
        TypeError: a part that is not a Component, so that it could not be rebuilt.
        OSError: no room or no permission; nothing is changed.

    Example:
        >>> import tempfile, geoenc
        >>> encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8, hidden_features=16))
        >>> folder = tempfile.mkdtemp()
        >>> encoder.save_pretrained(folder)
        >>> geoenc.from_pretrained(folder).out_features
        8
    """
    from safetensors.torch import save

    from geoenc import __version__

    folder = Path(path)
    config = model.config
    weights = save(
        {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    )
    document = {
        "format_version": FORMAT_VERSION,
        "geoenc_version": __version__,
        "model": config,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "coordinates": "longitude, latitude; degrees; WGS 84",
        "metadata": metadata or {},
    }
    text = json.dumps(document, indent=2) + "\n"
    with atomic_path(folder / CONFIG) as new_config, atomic_path(folder / WEIGHTS) as new_weights:
        new_weights.write_bytes(weights)
        new_config.write_text(text, encoding="utf-8")


def from_pretrained(path: str | os.PathLike[str], *, expected: type[Component] = Component) -> Any:
    """Read a model written by `geoenc.pretrained.save_pretrained`; in evaluation mode, on the CPU.

    Args:
        path: the folder with ``config.json`` and ``model.safetensors``.
        expected: refuse a model that is not of this class.

    Raises:
        FileNotFoundError: no such folder, or no model in it.
        ValueError: a damaged file, weights that do not belong to the configuration, or a model
            of another class.
    """
    folder = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"expected a model folder with {CONFIG} and {WEIGHTS}, got {str(folder)!r} "
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
    dtypes = {state[key].dtype for key, _ in model.named_parameters()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    model.load_state_dict(state)
    return model.eval()


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

    if _sha256(path) != digest:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
