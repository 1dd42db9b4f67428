"""The only way to import an optional package."""

import importlib
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module`` or say which extra installs it.

    Raises:
        ImportError: the module is not installed; the message names the command to run.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs the package {module.partition('.')[0]!r}, which could not be imported "
            f"({error}); install it with: pip install 'geoenc[{extra}]'"
        ) from error
