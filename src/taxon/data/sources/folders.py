"""Folders of classes and nested folders -> a listing of pictures and labels."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR
from taxon.data.manifest import SPLIT_WORDS, Skipped
from taxon.data.sources.listing import Entry, Listing, Row, make_listing
from taxon.data.sources.words import (
    Kind,
    clean,
    counted,
    has_control,
    is_encodable,
    readable,
    some,
)
from taxon.preprocessing.decode import SUFFIXES


@dataclass
class _Found:
    """What lies below a folder."""

    pictures: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    closed: list[Skipped] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden_pictures: int = 0
    hidden_folders: int = 0


def read_folder(root: Path) -> Listing:
    """List class folders, nested folders (a taxonomy), or either below `train`, `val`, `test`.

    Raises:
        DataError: no pictures, pictures outside of class folders, parts beside classes.
    """
    found = _walk(root)
    if not found.pictures:
        closed = f"; {found.closed[0].id}: {found.closed[0].reason}" if found.closed else ""
        models = f"; {len(found.models)} folders of models" if found.models else ""
        raise DataError(
            f"no pictures in {root} ({len(found.others)} other files{closed}{models}); name a "
            "folder with one sub-folder a class, holding JPEG, PNG, WebP, BMP, TIFF or GIF files"
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
        if reason := _wrong_name(path):
            skipped.append(Skipped(readable(name), reason, "name"))
            continue
        label = SEPARATOR.join(clean(part) or part for part in path.parts[start:-1])
        split = SPLIT_WORDS[path.parts[0].lower()] if has_splits else None
        entries.append(Entry(name, Row(name, root / path, (label,), split)))
    kind: Kind = "taxonomy" if nested else "flat"
    notes = _notes(found, relative, root)
    return make_listing(root, entries, kind, root, notes=notes, skipped=skipped)


def _wrong_name(path: Path) -> str:
    """Why a picture's name, or that of a folder above it, cannot be used; empty if it can."""
    folders = str(path.parent)
    if not is_encodable(folders):
        return "the folder's name is not UTF-8; rename it"
    if has_control(folders):
        return "the folder's name holds a line end or another control character; rename it"
    return "" if is_encodable(path.name) else "the file's name is not UTF-8; rename it"


def _notes(found: _Found, pictures: list[Path], root: Path) -> list[str]:
    def named(paths: list[Path]) -> str:
        return some([readable(path.relative_to(root).as_posix()) for path in paths])

    notes = []
    if found.others:
        what = counted(len(found.others), "file that is no picture", "files that are no pictures")
        notes.append(f"passed over: {what} ({named(found.others)})")
    if found.models:
        what = counted(len(found.models), "folder", "folders")
        notes.append(f"passed over: {what} of a model that taxon wrote ({named(found.models)})")
    hidden = [
        counted(number, f"hidden {what}", f"hidden {what}s")
        for number, what in ((found.hidden_pictures, "picture"), (found.hidden_folders, "folder"))
        if number
    ]
    if hidden:
        notes.append(f"passed over: {' and '.join(hidden)}")
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
    return found.pictures, len(found.others)


def _is_model(files: Collection[str]) -> bool:
    """Whether taxon wrote a folder with these files: a model, or an artefact of one."""
    if "bundle.json" in files and "model.safetensors" in files:
        return True
    return "artefact.json" in files and any(Path(file).stem == "model" for file in files)


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
        if _is_model(files):
            found.models.append(folder)
            names.clear()  # a model's golden pictures are no data
            continue
        if folder != root:
            found.folders.append(folder)
        found.hidden_folders += sum(name.startswith(".") for name in names)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for file in files:
            is_picture = Path(file).suffix.lower() in SUFFIXES
            if file.startswith("."):
                found.hidden_pictures += is_picture
            else:
                (found.pictures if is_picture else found.others).append(folder / file)
    found.pictures.sort()
    found.others.sort()
    return found
