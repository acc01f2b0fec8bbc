"""Where taxon keeps what it can make again: looks into pictures, archives, decoded pixels."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from taxon.core.errors import OutputError

VARIABLE = "TAXON_CACHE"


def cache_folder(name: str) -> Path:
    """Return the folder of one kind of cache, made if it is absent.

    It lies in the user's cache folder, or in the one that the environment variable TAXON_CACHE
    names. All of it may be deleted at any time.

    Raises:
        OutputError: it cannot be made.
    """
    base = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else user_cache_path("taxon")
    folder = base / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the cache folder {folder}: {error.strerror or error}; name another "
            f"one in the environment variable {VARIABLE}"
        ) from error
    return folder
