"""Folders of classes and nested folders -> a listing of pictures and labels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR
from taxon.data.manifest import SPLIT_WORDS, Skipped
from taxon.data.sources.listing import (
    Entry,
    Kind,
    Listing,
    Row,
    clean,
    is_encodable,
    make_listing,
    readable,
    some,
)
from taxon.preprocessing.decode import SUFFIXES

# By these files a folder is known as a model or an artefact that taxon wrote.
MODEL_MARKERS = {"bundle.json", "artefact.json"}


@dataclass
class _Found:
    """What lies below a folder."""

    pictures: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    closed: list[Skipped] = field(default_factory=list)
    others: int = 0


def read_folder(root: Path) -> Listing:
    """List class folders, nested folders (a taxonomy), or either below `train`, `val`, `test`.

    Raises:
        DataError: no pictures, pictures outside of class folders, parts beside classes.
    """
    found = _walk(root)
    if not found.pictures:
        closed = f"; {found.closed[0].id}: {found.closed[0].reason}" if found.closed else ""
        raise DataError(
            f"no pictures in {root} ({found.others} other files{closed}); name a folder with one "
            "sub-folder a class, holding JPEG, PNG, WebP, BMP, TIFF or GIF files"
        )
    relative = [picture.relative_to(root) for picture in found.pictures]
    has_splits = all(
        len(path.parts) > 1 and path.parts[0].lower() in SPLIT_WORDS for path in relative
    )
    start = 1 if has_splits else 0
    _require_no_stray_parts({path.parts[0] for path in relative}, root)
    loose = [path for path in relative if len(path.parts) < start + 2]
    if loose:
        raise DataError(
            f"{len(loose)} pictures in {root} lie outside of class folders (say {loose[0]}); "
            "the folder's name is the class: put each picture into one"
        )
    nested = any(len(path.parts) > start + 2 for path in relative)
    entries, skipped = [], found.closed
    for path in relative:
        name = path.as_posix()
        if not is_encodable(name):
            reason = "the file's name is not UTF-8; rename it"
            skipped.append(Skipped(readable(name), reason, "name"))
            continue
        label = SEPARATOR.join(clean(part) or part for part in path.parts[start:-1])
        split = SPLIT_WORDS[path.parts[0].lower()] if has_splits else None
        entries.append(Entry(name, Row(name, root / path, (label,), split)))
    kind: Kind = "taxonomy" if nested else "flat"
    notes = _notes(found, relative, root)
    return make_listing(root, entries, kind, root, notes=notes, skipped=skipped)


def _notes(found: _Found, pictures: list[Path], root: Path) -> list[str]:
    notes = []
    if found.others:
        notes.append(f"{found.others} files that are no pictures were passed over")
    holding = {picture.parent for picture in pictures}
    filled = holding.union(*(folder.parents for folder in holding))
    folders = (folder.relative_to(root) for folder in found.folders)
    empty = sorted(
        readable(folder.as_posix())
        for folder in folders
        if folder not in filled and folder.parent in filled
    )
    if empty:
        notes.append(f"no pictures in {some(empty)}: no class is made of it")
    return notes


def _require_no_stray_parts(tops: set[str], root: Path) -> None:
    """Refuse `train` and `val` beside other folders: parts would be taken for classes."""
    parts = {name for name in tops if name.lower() in SPLIT_WORDS}
    folders = {name for name in tops if (root / name).is_dir()}
    if len({SPLIT_WORDS[name.lower()] for name in parts}) > 1 and parts != folders:
        raise DataError(
            f"{root} holds the parts {', '.join(sorted(parts))} and beside them "
            f"{', '.join(sorted(folders - parts)[:5])}, which is none (train, val, calibration or "
            "test); move it away, or list the pictures in a table"
        )


def list_pictures(root: Path) -> tuple[list[Path], int]:
    """Return all files below a folder that look like pictures, sorted, and how many do not.

    Hidden files and folders are passed over, and so are models that were trained below `root`.
    Links are followed, also out of `root`, each folder once.
    """
    found = _walk(root)
    return found.pictures, found.others


def _walk(root: Path) -> _Found:
    found = _Found()

    def refused(error: OSError) -> None:
        name = readable(os.path.relpath(error.filename or root, root))
        found.closed.append(Skipped(name, error.strerror or str(error), "missing"))

    visited: set[Path] = set()
    for name, names, files in os.walk(root, followlinks=True, onerror=refused):
        folder = Path(name)
        if (real := folder.resolve()) in visited:
            names.clear()  # a link back to a folder that was read before
            continue
        visited.add(real)
        if MODEL_MARKERS & set(files):
            names.clear()  # a model's golden pictures are no data
            continue
        if folder != root:
            found.folders.append(folder)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for file in files:
            if file.startswith("."):
                continue
            if Path(file).suffix.lower() in SUFFIXES:
                found.pictures.append(folder / file)
            else:
                found.others += 1
    found.pictures.sort()
    return found
