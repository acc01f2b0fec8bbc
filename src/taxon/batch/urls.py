"""Places that are no local path: URLs, opened by fsspec."""

from __future__ import annotations

import re
from typing import Any

from taxon.core.errors import DataError, MissingDependencyError
from taxon.core.versions import DISTRIBUTION

# Two letters at least before the colon: `C:` is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(name: str) -> bool:
    """Whether a name is a URL (`s3://bucket/a.jpg`), and no path of this machine."""
    return _URL.match(name) is not None


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it.

    fsspec keeps file systems by their options, so that asking again costs nothing.

    Raises:
        DataError: no such protocol.
        MissingDependencyError: fsspec, or what it needs for this protocol, is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            f"{url} is read by fsspec, not installed here; "
            f"type: pip install '{DISTRIBUTION}[ray]' or pip install fsspec"
        ) from error
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"{url} cannot be opened: {error}") from error
    except ValueError as error:
        raise DataError(f"{url} cannot be opened: {error}") from error
    return filesystem, str(path)
