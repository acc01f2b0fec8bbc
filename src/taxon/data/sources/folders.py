"""Folders of classes and nested folders -> a listing of pictures and labels."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR
from taxon.core.text import agree, counted, some
from taxon.data.manifest import SPLIT_WORDS, Skipped
from taxon.data.sources.listing import Entry, Listing, Row, make_listing
from taxon.data.sources.words import Kind, clean, has_control, how_to_open, is_encodable, readable
from taxon.preprocessing.decode import SUFFIXES

# What file systems keep for themselves, and often close, on top of a disk.
_OF_THE_SYSTEM = ("lost+found", "System Volume Information", "$RECYCLE.BIN")


@dataclass
class _Found:
    """What lies below a folder."""

    pictures: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    closed: list[OSError] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)  # links that may have been folders
    models: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden_pictures: int = 0
    hidden_folders: int = 0


def read_folder(root: Path) -> Listing:
    """List class folders, nested folders (a taxonomy), or either below `train`, `val`, `test`.

    Raises:
        DataError: no pictures, pictures outside of class folders, parts beside classes, a folder
            that cannot be read.
    """
    found = _walk(root)
    if not found.pictures:
        models = counted(len(found.models), "folder of a model", "folders of models")
        raise DataError(
            f"no pictures in {root} ({counted(len(found.others), 'other file', 'other files')}"
            f"{f'; {models}' if found.models else ''}); name a "
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
            f"{counted(len(loose), 'picture', 'pictures')} in {root} "
            f"{agree(len(loose), 'lies', 'lie')} outside of class folders (say {loose[0]}); "
            "the folder's name is the class: put each picture into one"
        )
    nested = any(len(path.parts) > start + 2 for path in relative)
    entries: list[Entry] = []
    skipped: list[Skipped] = []
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
    if found.broken:
        what = counted(len(found.broken), "link that leads", "links that lead")
        which = agree(len(found.broken), "it was a folder", "they were folders")
        notes.append(
            f"passed over: {what} nowhere ({named(found.broken)}); if {which}, pictures are missing"
        )
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
        of_it = agree(len(empty), "it", "them")
        notes.append(f"no pictures in {some(empty)}: no class is made of {of_it}")
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

    Raises:
        DataError: a folder below cannot be read.
    """
    found = _walk(root)
    return found.pictures, len(found.others)


def files_below(root: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Yield the files below a folder by their suffixes, in order; however many, one at a time.

    What is passed over is the same as in `list_pictures`.

    Raises:
        DataError: a folder below cannot be read.
    """
    closed: list[OSError] = []
    visited: set[Path] = set()
    for name, names, files in os.walk(root, followlinks=True, onerror=closed.append):
        _require_open(closed, root)
        folder = Path(name)
        if (real := folder.resolve()) in visited or _is_model(files):
            names.clear()
            continue
        visited.add(real)
        names[:] = sorted(name for name in names if not _is_hidden(name))
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in suffixes:
                yield folder / file
    _require_open(closed, root)


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or folder in _OF_THE_SYSTEM


def _is_model(files: Collection[str]) -> bool:
    """Whether taxon wrote a folder with these files: a model, or an artefact of one."""
    if "bundle.json" in files and "model.safetensors" in files:
        return True
    return "artefact.json" in files and any(Path(file).stem == "model" for file in files)


def _walk(root: Path) -> _Found:
    found = _Found()
    visited: set[Path] = set()
    for name, names, files in os.walk(root, followlinks=True, onerror=found.closed.append):
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
        shown = [name for name in names if not _is_hidden(name)]
        found.hidden_folders += len(names) - len(shown)
        names[:] = sorted(shown)
        for file in files:
            is_picture = Path(file).suffix.lower() in SUFFIXES
            if file.startswith("."):
                found.hidden_pictures += is_picture
            elif is_picture:
                found.pictures.append(folder / file)
            else:
                _pass_over(folder / file, found)
    _require_open(found.closed, root)
    found.pictures.sort()
    found.others.sort()
    return found


def _pass_over(path: Path, found: _Found) -> None:
    """List a file that is no picture; what looks like one may be a link to a folder that is gone
    (a disk that is not there) or closed."""
    if not path.suffix and path.is_symlink():
        try:
            path.stat()
        except PermissionError as error:
            found.closed.append(error)
            return
        except OSError:
            found.broken.append(path)
            return
    found.others.append(path)


def _require_open(closed: Sequence[OSError], root: Path) -> None:
    """Refuse folders that cannot be read: all their pictures, and whole classes, would lack."""
    if not closed:
        return
    folder = Path(closed[0].filename or root)
    more = f" (and {len(closed) - 1} more)" if len(closed) > 1 else ""
    remedy = how_to_open(folder) if isinstance(closed[0], PermissionError) else "mend it"
    raise DataError(
        f"cannot read the folder {readable(str(folder))}{more}: "
        f"{closed[0].strerror or closed[0]}. All pictures in it, perhaps a whole class, would be "
        f"missing: {remedy}, or move it away"
    )
