"""The listing: what a source holds, before anybody looks into a file."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR, LabelSpace
from taxon.data.manifest import Skipped, Split

Kind = Literal["flat", "taxonomy", "tags"]


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns.

    Attributes:
        path: the picture's path, relative to the table; `file_name` stands in for `path`.
        label: one column, or several from coarse to fine (a taxonomy); empty looks for
            `label`, then `labels` or `tags` (several in a cell, separated by `|` or as a list).
        tags: columns of 0 and 1, one a tag.
        split, group, weight: used where the table has them; another name than the default must
            be there. A weight is a number above 0, 1 where the cell is empty.
        image_root: the folder that paths count from, in place of the table's own.
    """

    path: str = "path"
    label: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    split: str = "split"
    group: str = "group"
    weight: str = "weight"
    image_root: Path | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One picture as a source lists it.

    Attributes:
        id: its path below the root, with forward slashes; unique.
        path: where the file should lie.
        labels: class names; exactly one for a class, any number for tags.
        weight: how much the picture counts in training, above 0.
        sha256: the content that the file must have, where the source knows it.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    split: Split | None = None
    group: str | None = None
    weight: float = 1.0
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        root: the folder that relative ids count from.
        rows: sorted by id, each id once.
        kind: one class a picture, a path of classes, or tags.
        notes: what else was found, in plain sentences.
        skipped: rows that were passed over; with `rows`, every row of the source.
        space: the classes, where the source fixes them itself.
    """

    root: Path
    rows: tuple[Row, ...]
    kind: Kind
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    space: LabelSpace | None = None

    def label_space(self) -> LabelSpace:
        """Return the source's own label space, or that of all labels that occur.

        Raises:
            DataError: fewer than two classes, or no tag.
        """
        if self.space is not None:
            return self.space
        labels = {label for row in self.rows for label in row.labels}
        if self.kind == "taxonomy":
            return LabelSpace.taxonomy(label.split(SEPARATOR) for label in labels)
        return LabelSpace.flat("multilabel" if self.kind == "tags" else "multiclass", labels)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row with the place where it stands, as a message names it (`row 3`)."""

    place: str
    row: Row


def make_listing(
    root: Path,
    entries: Iterable[Entry],
    kind: Kind,
    source: Path,
    *,
    notes: Sequence[str] = (),
    skipped: Sequence[Skipped] = (),
    declared: Iterable[str] = (),
) -> Listing:
    """Sort the rows, list those that repeat others, and note what is odd about the labels.

    Args:
        source: the file or folder that messages name.
        declared: class names that the source knows; those without a picture are noted.

    Raises:
        DataError: a picture is listed twice with different labels, part, group or weight, or
            no row is left.
    """
    rows, repeated = _unique(entries, source)
    skipped = (*skipped, *repeated)
    if not rows:
        first = f"; the first: {skipped[0].id}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{source} lists no picture that can be used{first}")
    if repeated:
        notes = (*notes, f"{len(repeated)} repeated rows of {source.name} were passed over")
    labels = {label for row in rows for label in row.labels}
    notes = (*notes, *_label_notes(labels, set(declared)))
    ordered = tuple(sorted(rows, key=attrgetter("id")))
    return Listing(root, ordered, kind, notes, tuple(skipped))


def _unique(entries: Iterable[Entry], source: Path) -> tuple[list[Row], list[Skipped]]:
    first: dict[str, Entry] = {}
    repeated: list[Skipped] = []
    conflicts: list[str] = []
    for entry in entries:
        earlier = first.setdefault(entry.row.id, entry)
        if earlier is entry:
            continue
        if earlier.row == entry.row:
            reason = f"{entry.place} repeats {earlier.place}"
            repeated.append(Skipped(entry.row.id, reason))
        else:
            conflicts.append(
                f"{entry.place}: '{entry.row.id}' is listed before with another label, part, "
                f"group or weight ({earlier.place})"
            )
    if conflicts:
        more = f"; and {len(conflicts) - 3} more" if len(conflicts) > 3 else ""
        raise DataError(
            f"{source} contradicts itself in {len(conflicts)} rows: {'; '.join(conflicts[:3])}"
            f"{more}. Keep one row a picture"
        )
    return [entry.row for entry in first.values()], repeated


def _label_notes(labels: set[str], declared: set[str]) -> list[str]:
    notes = []
    if unused := sorted(declared - labels):
        notes.append(f"no picture has {some(unused)}: no class is made of it")
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        alike[label.casefold()].append(label)
    for names in alike.values():
        if len(names) > 1:
            notes.append(
                f"{' and '.join(repr(name) for name in names)} differ by upper and lower case "
                "only and remain classes of their own"
            )
    return notes


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, quoted, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more


def locate(root: Path, name: str) -> tuple[str, Path]:
    """Return a picture's id and path; one that does not exist is returned as it is named.

    A table may come from another system than the files: accents as one character or as two
    (Unicode NFC and NFD), and backslashes between folders, are tried in turn.

    Raises:
        DataError: the name stands for something that is no file, or for nothing at all.
    """
    if "\0" in name:
        raise DataError("the path holds a NUL character")
    forms = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    if os.sep == "/" and "\\" in name:
        forms += [form.replace("\\", "/") for form in forms]
    for form in dict.fromkeys(forms):
        mode = _mode(root / form)
        if mode is not None:
            if not stat.S_ISREG(mode):  # a pipe or a device could be read for ever
                raise DataError("it is a folder or a device, not a file")
            return _id(form), root / form
    return _id(name), root / name


def _id(name: str) -> str:
    return unicodedata.normalize("NFC", Path(name).as_posix())


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # absent, too long, or no name that a file can have
        return None


def clean(label: str) -> str:
    """Return a label without space around it, accents in one form (Unicode NFC)."""
    return unicodedata.normalize("NFC", label.strip())


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    """Return a file's name so that it can be written: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
