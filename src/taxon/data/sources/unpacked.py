"""Folders of the cache that are made once: unpacked archives, embedded pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from taxon.core.cache import cache_folder
from taxon.core.errors import DataError
from taxon.core.files import atomic_folder
from taxon.core.fingerprint import sha256_json

COMPLETE = ".taxon-complete"  # holds the number of files, to notice that some were deleted


class _MadeMeanwhile(Exception):
    """Another process made the same folder first; its content is the same."""


def unpacked(kind: str, name: str, sources: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    """Return the folder that `fill` makes from `sources`, made again only when these change.

    Args:
        kind: the sub-folder of the cache.
        name: the beginning of the folder's name.
        sources: files, by whose path, size and time of change the folder is known.

    Raises:
        DataError: a source cannot be read.
        OutputError: the cache cannot be written or the disk is full.
    """
    folder = cache_folder(kind) / f"{name[:40]}-{_fingerprint(sources)[:24]}"
    if _is_complete(folder):
        return folder
    # A clean-up took some of its files; what is left is of no use.
    shutil.rmtree(folder, ignore_errors=True)
    with (
        suppress(_MadeMeanwhile),
        atomic_folder(folder, replace_if=COMPLETE) as temporary,
    ):
        fill(temporary)
        (temporary / COMPLETE).write_text(str(_count(temporary)), encoding="utf-8")
        if _is_complete(folder):
            raise _MadeMeanwhile
    return folder


def _fingerprint(sources: Sequence[Path]) -> str:
    try:
        looks = [(os.path.abspath(path), path.stat()) for path in sources]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return sha256_json(
        [[os.fsencode(name).hex(), look.st_size, look.st_mtime_ns] for name, look in looks]
    )


def _is_complete(folder: Path) -> bool:
    try:
        return int((folder / COMPLETE).read_text(encoding="utf-8")) == _count(folder)
    except (OSError, ValueError):
        return False


def _count(folder: Path) -> int:
    """Return the number of files below, without the mark of completeness."""
    return sum(len(files) - (COMPLETE in files) for _, _, files in os.walk(folder))
