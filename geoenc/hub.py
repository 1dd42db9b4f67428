"""Models by name: a folder, a model of the catalogue, or a repository of the Hugging Face Hub."""

import difflib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from geoenc import catalogue, pretrained
from geoenc._optional import require
from geoenc.catalogue import Pretrained
from geoenc.component import Component

CARD = "README.md"
_LICENCES = ("mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0")
_FACTS = {
    "paper": "Paper",
    "training_data": "Training data",
    "licence": "Licence",
    "source": "Source",
}


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    progress: bool = True,
) -> Any:
    """A trained model, in evaluation mode, on the CPU.

    A folder is read. A name of `geoenc.list_pretrained` is fetched from where its authors keep
    it, checked, kept, and converted: longitude, latitude in degrees, whatever the original takes.
    ``"org/name"`` is read from the Hugging Face Hub. Without a network, what was fetched once
    still loads.

    Args:
        name: a folder that ``save_pretrained`` wrote, a name, or a repository.
        revision: of a repository: commit, tag or branch.
        cache_dir: where to keep files. For names, GEOENC_CACHE or the platform's cache folder.
        token: of a private repository; True for the one that is stored.
        local_files_only: never use the network.
        progress: show a bar while a file of the catalogue is fetched.

    Raises:
        FileNotFoundError: nothing of that name; near names are listed.
        ConnectionError: no network; says what to fetch by hand, and where to put it.
        ValueError: a file that is not what was expected, or a model that cannot be converted.
        ImportError: a repository, without the extra ``hub``.

    Example:
        >>> import tempfile, geoenc
        >>> encoder = geoenc.published.encoder("SINR")
        >>> folder = tempfile.mkdtemp()
        >>> encoder.save_pretrained(folder)
        >>> geoenc.from_pretrained(folder).embed([(-122.27, 37.87)]).shape
        torch.Size([1, 256])
    """
    entry = catalogue.entries().get(str(name).lower())
    if entry is not None and not Path(name).exists():
        if revision is not None:
            raise ValueError(
                f"expected no revision with {name!r}, whose file is fixed, got {revision!r}; "
                "leave it out"
            )
        return _released(entry, cache_dir, local_files_only, progress)
    if isinstance(name, str) and not Path(name).exists() and "/" not in name:
        close = difflib.get_close_matches(name.lower(), catalogue.entries(), n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise FileNotFoundError(
            f"expected a folder, the name of a trained model, or a repository 'org/name', got "
            f"{name!r}; {hint}geoenc list pretrained shows all names"
        )
    return pretrained.from_pretrained(
        name,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
    )


def _released(
    entry: Pretrained,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    progress: bool,
) -> Any:
    from geoenc.convert import FORMATS

    if entry.format is None:
        raise ValueError(
            f"expected a model that geoenc converts, got {entry.name!r}, whose form it does not "
            f"read. {entry.notes} See {entry.page}"
        )
    path = catalogue.fetch(
        entry, cache_dir=cache_dir, local_files_only=local_files_only, progress=progress
    )
    try:
        model = FORMATS[entry.format](path)
    except ValueError as error:
        raise ValueError(
            f"{error}.\nThis is the file of {entry.name}. {entry.notes} If it is damaged, delete "
            f"the folder {str(path.parent)!r} and ask again"
        ) from error
    facts = {
        "name": entry.name,
        "paper": entry.paper,
        "training_data": entry.training_data,
        "licence": entry.licence or "none stated",
        "source": entry.page,
    }
    model.metadata = {**model.metadata, **facts}
    return model


def push_to_hub(
    model: Component,
    repository: str,
    *,
    metadata: dict[str, Any] | None = None,
    private: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
    message: str = "Model written by geoenc",
) -> str:
    """Write a model to a repository of the Hugging Face Hub; returns the address of the commit.

    The files are those of ``save_pretrained``, and a model card, unless the repository has one.
    The repository is made if need be. Nothing is uploaded if the model cannot be saved.

    Args:
        model: any model that can be saved.
        repository: ``"org/name"``.
        metadata: as for ``save_pretrained``; ``training_data`` and ``licence`` stand in the card.
        private: make a new repository private.
        token: to write with; the stored one if left out.
        revision: branch to write to.
        message: of the commit.

    Raises:
        ImportError: the extra ``hub`` is not installed.
        OSError: no network, no such organisation, no permission.
    """
    hub = require("huggingface_hub", extra="hub")
    api = hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        pretrained.save_pretrained(model, folder, metadata=metadata)
        api.create_repo(repository, private=private, exist_ok=True)
        if not api.file_exists(repository, CARD, revision=revision):
            facts = {**model.metadata, **(metadata or {})}
            card = model_card(model, repository, facts)
            Path(folder, CARD).write_text(card, encoding="utf-8")
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, revision=revision, commit_message=message
        )
    return str(commit.commit_url)


def model_card(model: Component, repository: str, metadata: dict[str, Any]) -> str:
    """The text of a model card: facts, an example that runs, and the configuration.

    Args:
        model: what it describes.
        repository: ``"org/name"``.
        metadata: facts; ``training_data`` and ``licence`` are said to be unknown if absent.

    Example:
        >>> import geoenc
        >>> encoder = geoenc.published.encoder("SINR")
        >>> card = geoenc.hub.model_card(encoder, "me/places", {"licence": "MIT"})
        >>> card.splitlines()[:2]
        ['---', 'license: mit']
    """
    licence = str(metadata.get("licence", "unknown"))
    plain = licence.lower().replace(" ", "-")
    stated = licence.lower() not in ("unknown", "none stated")
    header = [
        "---",
        f"license: {plain if plain in _LICENCES else 'other' if stated else 'unknown'}",
    ]
    if stated and plain not in _LICENCES:
        header.append(f"license_name: {json.dumps(licence, ensure_ascii=False)}")
    header += ["library_name: geoenc", "tags:", "- geoenc", "- location-encoder", "---"]
    facts = {"training_data": "unknown", "licence": "none stated", **metadata}
    rows = [f"| {_FACTS.get(key, key)} | {value} |" for key, value in facts.items()]
    name = type(model).__name__
    call = "embed" if hasattr(model, "embed") else "probabilities"
    place = "[(-122.27, 37.87)]" if call == "embed" else "geoenc.as_lonlat([(-122.27, 37.87)])"
    use = f"print(model.{call}({place}).shape)" if hasattr(model, call) else "print(model)"
    parts = [
        "\n".join(header),
        f"# {repository.partition('/')[2] or repository}",
        f"A {name} of [geoenc](https://geoenc.readthedocs.io): {pretrained.COORDINATES}.",
        "\n".join(["| | |", "|---|---|", *rows]),
        f'```python\nimport geoenc\n\nmodel = geoenc.from_pretrained("{repository}")\n{use}\n```',
        "## Configuration",
        f"```json\n{json.dumps(model.config, indent=2)}\n```",
    ]
    return "\n\n".join(parts) + "\n"
