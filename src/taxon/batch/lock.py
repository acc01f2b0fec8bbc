"""One job at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from taxon.batch.job import LOCK_FILE
from taxon.batch.places import Place
from taxon.core.errors import OutputError


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Make the folder, and keep a second call from it; at a URL nothing does.

    Raises:
        OutputError: another job writes there, or it cannot be written.
    """
    if place.is_remote:
        yield
        return
    folder = Path(place.address)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output {folder} is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"another job writes to {folder} at this moment; wait for it, or name another --out"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
