"""The listing: what a source holds, before anybody looks into a file."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR, LabelSpace
from taxon.core.text import agree, counted
from taxon.data.manifest import Skipped, Split
from taxon.data.sources.label_notes import label_notes
from taxon.data.sources.words import Kind


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns, and what else is said of the data beside them.

    Attributes:
        path: the picture's path, relative to the table; `file_name` stands in for `path`.
        label: one column, or several from coarse to fine (a taxonomy); empty looks for
            `label`, then `labels` or `tags` (several in a cell, separated by `|` or as a list).
        tags: columns of 0 and 1, one a tag; an empty cell is unknown.
        split, group, weight: used where the table has them; another name than the default must
            be there. A weight is a number above 0, 1 where the cell is empty.
        image_root: the folder that paths count from, in place of the table's own.
        parents: a file that places the classes of any flat data in a tree; see
            `taxon.data.sources.parents`.
        extra: columns that say something else of a picture, by which figures may be sliced; they
            must be there.
    """

    path: str = "path"
    label: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    split: str = "split"
    group: str = "group"
    weight: str = "weight"
    image_root: Path | None = None
    parents: Path | None = None
    extra: tuple[str, ...] = ()

    def absolute(self) -> Columns:
        """The same, with paths that hold from any working folder."""
        return replace(
            self,
            image_root=self.image_root.absolute() if self.image_root else None,
            parents=self.parents.absolute() if self.parents else None,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One picture as a source lists it.

    Attributes:
        id: its path below the root, with forward slashes; unique.
        path: where the file should lie.
        labels: class names; exactly one for a class, any number for tags.
        weight: how much the picture counts in training, above 0.
        sha256: the content that the file must have, where the source knows it.
        unknown: of tags, those that nobody annotated for this picture.
        extra: the cells of `Columns.extra`, in their order.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    split: Split | None = None
    group: str | None = None
    weight: float = 1.0
    sha256: str | None = None
    unknown: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


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
        annotated: tags that have a column of 0 and 1; others are unknown. None: all are known,
            but for those that a row names as unknown.
    """

    root: Path
    rows: tuple[Row, ...]
    kind: Kind
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    space: LabelSpace | None = None
    annotated: tuple[str, ...] | None = None

    def label_space(self) -> LabelSpace:
        """Return the source's own label space, or that of all labels that occur.

        Raises:
            DataError: fewer than two classes, or no tag.
        """
        if self.space is not None:
            return self.space
        try:
            return self._occurring()
        except DataError as error:
            # What was passed over may be the class that lacks.
            raise DataError("; ".join([str(error), *self._passed_over()])) from None

    def _passed_over(self) -> list[str]:
        if not self.skipped:
            return list(self.notes[:3])
        first = min(self.skipped, key=lambda row: row.kind != "name")  # a name tells most
        number = counted(len(self.skipped), "row or picture was", "rows or pictures were")
        return [f"{number} passed over, say {first.id}: {first.reason}", *self.notes[:3]]

    def _occurring(self) -> LabelSpace:
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
        what = counted(len(repeated), "repeated row", "repeated rows")
        was = agree(len(repeated), "was", "were")
        notes = (*notes, f"{what} of {source.name} {was} passed over")
    named = {tag for row in rows for tag in row.unknown}.union(declared)
    untagged = sum(not row.labels and not row.unknown for row in rows)
    notes = (*notes, *label_notes([row.labels for row in rows], kind, named, untagged=untagged))
    ordered = tuple(sorted(rows, key=attrgetter("id")))
    return Listing(root, ordered, kind, notes, tuple(skipped))


def _unique(entries: Iterable[Entry], source: Path) -> tuple[list[Row], list[Skipped]]:
    first: dict[str, Entry] = {}
    # One file may go by two names: `../base/x.jpg` and `/base/x.jpg`.
    places: dict[str, Entry] = {}
    repeated: list[Skipped] = []
    conflicts: list[str] = []
    for entry in entries:
        place = os.path.abspath(entry.row.path)
        earlier = first.get(entry.row.id) or places.get(place)
        if earlier is None:
            first[entry.row.id] = places[place] = entry
        elif places.get(place) is earlier and _meaning(earlier.row) == _meaning(entry.row):
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
            f"{source} contradicts itself in {counted(len(conflicts), 'row', 'rows')}: "
            f"{'; '.join(conflicts[:3])}{more}. Keep one row a picture"
        )
    return [entry.row for entry in first.values()], repeated


def _meaning(row: Row) -> tuple[object, ...]:
    return row.labels, row.unknown, row.split, row.group, row.weight, row.sha256


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
