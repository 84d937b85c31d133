"""Cache folder of the user, and versions of installed packages."""

import importlib.metadata
import os
import tempfile
from pathlib import Path

UNKNOWN = "unknown"
"""Version of a package without metadata, such as maeseg in a source tree on PYTHONPATH."""


def cache_folder() -> Path:
    """Return the user's cache folder, or a temporary folder if there is no home, as in a container."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user id without an entry in the user database
        home = Path()
    if home.is_absolute() and home != Path(home.anchor):
        return home / ".cache"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir()) / f"maeseg-cache-{user}"


def version_of(package: str) -> str:
    """Return the installed version of a package; ``unknown`` if its metadata is missing."""
    try:
        return importlib.metadata.version(package) or UNKNOWN
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: metadata without a version
        return UNKNOWN
