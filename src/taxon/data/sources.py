"""Sources: folders of classes, nested folders and tables -> a listing of pictures and labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR, LabelSpace
from taxon.data.manifest import SPLIT_WORDS, Split
from taxon.preprocessing.decode import SUFFIXES

TABLE_SUFFIXES = (".csv", ".tsv")
TABLE_IN_FOLDER = "labels.csv"
# By these files a folder is known as a model or an artefact that taxon wrote.
MODEL_MARKERS = {"bundle.json", "artefact.json"}
Kind = Literal["flat", "taxonomy", "tags"]


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns.

    Attributes:
        path: the picture's path, relative to the table.
        label: one column, or several from coarse to fine (a taxonomy); empty looks for
            `label`, then `labels` or `tags` (several in a cell, separated by `|`).
        tags: columns of 0 and 1, one a tag.
        split, group: used where the table has them; another name than the default must be there.
    """

    path: str = "path"
    label: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    split: str = "split"
    group: str = "group"


@dataclass(frozen=True, slots=True)
class Row:
    """One picture as a source lists it, before anybody looked into the file."""

    id: str
    path: Path
    labels: tuple[str, ...]
    split: Split | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds: rows sorted by id, and what was passed over."""

    root: Path
    rows: tuple[Row, ...]
    kind: Kind
    notes: tuple[str, ...] = ()

    def label_space(self) -> LabelSpace:
        """Make the label space of all labels that occur.

        Raises:
            DataError: fewer than two classes, or no tag.
        """
        labels = {label for row in self.rows for label in row.labels}
        if self.kind == "taxonomy":
            return LabelSpace.taxonomy(label.split(SEPARATOR) for label in labels)
        return LabelSpace.flat("multilabel" if self.kind == "tags" else "multiclass", labels)


def read_source(path: Path, columns: Columns | None = None) -> Listing:
    """List a data set: class folders, nested folders, or a .csv/.tsv table.

    A folder that holds a `labels.csv` is read from that table.

    Raises:
        DataError: nothing there, no pictures, no classes, columns that are missing.
    """
    # Imported here, since the reader of tables builds on the types above.
    from taxon.data.tables import read_table

    columns = columns or Columns()
    if path.is_file():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            allowed = ", ".join(TABLE_SUFFIXES)
            raise DataError(f"{path} is neither a folder nor a table ({allowed})")
        return read_table(path, columns)
    if not path.is_dir():
        raise DataError(
            f"no such file or folder: {path}; name a folder with one sub-folder a class, or a "
            "CSV table with the columns path and label (try: taxon sample-data defects photos)"
        )
    if (path / TABLE_IN_FOLDER).is_file():
        return read_table(path / TABLE_IN_FOLDER, columns)
    if columns != Columns():
        raise DataError(
            f"{path} is read by its folders (there is no {TABLE_IN_FOLDER} in it), so columns "
            "have no meaning; name a table, or leave the options for columns out"
        )
    return _read_folder(path)


def _read_folder(root: Path) -> Listing:
    pictures, others = list_pictures(root)
    if not pictures:
        raise DataError(
            f"no pictures in {root} ({others} other files); name a folder with one sub-folder "
            "a class, holding JPEG, PNG, WebP, BMP, TIFF or GIF files"
        )
    relative = [picture.relative_to(root) for picture in pictures]
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
    rows = tuple(
        Row(
            id=path.as_posix(),
            path=root / path,
            labels=(SEPARATOR.join(path.parts[start:-1]),),
            split=SPLIT_WORDS[path.parts[0].lower()] if has_splits else None,
        )
        for path in relative
    )
    nested = any(len(path.parts) > start + 2 for path in relative)
    notes = (f"{others} files that are no pictures were passed over",) if others else ()
    return Listing(root, rows, "taxonomy" if nested else "flat", notes)


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
    Links to folders are followed, each folder once.
    """
    pictures: list[Path] = []
    others = 0
    visited: set[Path] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        if (real := Path(folder).resolve()) in visited:
            names.clear()  # a link back to a folder that was read before
            continue
        visited.add(real)
        if MODEL_MARKERS & set(files):
            names.clear()  # a model's golden pictures are no data
            continue
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in files:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in SUFFIXES:
                pictures.append(Path(folder) / name)
            else:
                others += 1
    return sorted(pictures), others
