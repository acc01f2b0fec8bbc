"""Image folders of Hugging Face `datasets`: pictures beside a table `metadata.*` -> a listing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from taxon.core.errors import DataError
from taxon.core.text import agree, counted, some
from taxon.data.manifest import SPLIT_WORDS
from taxon.data.sources.folders import list_pictures, read_folder
from taxon.data.sources.listing import Columns, Listing
from taxon.data.sources.table_files import Table, read_table_file
from taxon.data.sources.tables import FILE_NAME, LABEL_NAMES, list_table, wanted_columns
from taxon.data.sources.words import readable

_NumberedRow = tuple[int, dict[str, object]]
_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def find_metadata(root: Path) -> dict[str, Path]:
    """Return the tables of an image folder by the folder that their paths count from.

    One at the top has the key `""`; else the keys are the part folders (`train`, ...).

    Raises:
        DataError: some part folders have a table and others have none.
    """
    top = _metadata(root)
    if top is not None:
        return {"": top}
    parts = sorted(
        child.name
        for child in root.iterdir()
        if child.is_dir() and child.name.lower() in SPLIT_WORDS
    )
    found = {part: table for part in parts if (table := _metadata(root / part)) is not None}
    without = sorted(set(parts) - set(found))
    if found and without:
        raise DataError(
            f"{root} has a table {next(iter(found.values())).name} in {some(sorted(found))} but "
            f"none in {some(without)}; add it, or list all pictures in one table"
        )
    return found


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


def read_image_folder(root: Path, tables: Mapping[str, Path], columns: Columns) -> Listing:
    """Read an image folder; without a column of labels, the folders are the classes.

    Raises:
        DataError: a table that cannot be read or understood.
    """
    wanted = wanted_columns(columns)
    read = {part: read_table_file(path, wanted) for part, path in tables.items()}
    header = tuple(dict.fromkeys(name for table in read.values() for name in table.header))
    if columns == Columns() and not set(LABEL_NAMES) & set(header):
        listing = read_folder(root)
        note = (
            f"the folders are the classes: {next(iter(tables.values())).name} has no column "
            f"'label', 'labels' or 'tags' (it has: {', '.join(header)}) and was passed over"
        )
        return replace(listing, notes=(*listing.notes, note))
    path_column = FILE_NAME if FILE_NAME in header and columns.path not in header else columns.path
    rows: list[_NumberedRow] = []
    for part, table in read.items():
        for number, cells in table.rows:
            name = cells.get(path_column)
            inside = str(PurePosixPath(part, name)) if isinstance(name, str) and name else None
            rows.append((number, {**cells, path_column: inside}))
    notes: list[str] = []
    if columns.split not in header:
        # A table in a part's folder is that part; one at the top says it by its paths.
        words = [part for part, table in read.items() for _ in table.rows]
        if "" in tables:
            words, notes = _part_words(rows, path_column)
        if words:
            header += (columns.split,)
            for (_, row), word in zip(rows, words, strict=True):
                row[columns.split] = word
    source = next(iter(tables.values())) if len(tables) == 1 else root
    listing = list_table(Table(source, header, tuple(rows), root=root), columns)
    notes += _unlisted(root, listing, rows, path_column)
    return replace(listing, notes=(*listing.notes, *notes))


def _part_words(rows: list[_NumberedRow], column: str) -> tuple[list[str], list[str]]:
    """Return the first folder of each path, if all are names of parts, and a note if some are.

    A row without a path has no say: it is passed over anyway.
    """
    parts = [PurePosixPath(str(row[column] or "").strip()).parts[:1] for _, row in rows]
    words = [part[0] if part else "" for part in parts]
    outside = {word for word in words if word and word.lower() not in SPLIT_WORDS}
    inside = sorted(set(words) - outside - {""})
    if not outside:
        return (words, []) if inside else ([], [])
    if not inside:
        return [], []
    are = agree(len(inside), "is not taken as a part", "are not taken as parts")
    none = agree(len(outside), "is", "are")
    return [], [
        f"{some(inside)} {are} of a split, as {some(sorted(outside))} beside "
        f"{agree(len(inside), 'it', 'them')} {none} none"
    ]


def _unlisted(root: Path, listing: Listing, rows: Iterable[_NumberedRow], column: str) -> list[str]:
    """Note the pictures that lie in the folder and in no row, not even in one passed over."""
    listed = {os.path.abspath(row.path) for row in listing.rows}
    listed.update(os.path.abspath(root / str(row[column] or "").strip()) for _, row in rows)
    try:
        pictures = list_pictures(root)[0]
    except DataError as error:
        # The rows say which pictures count; those in a closed folder are listed one by one.
        return [f"not looked for: pictures that no row lists ({error})"]
    left = [path for path in pictures if os.path.abspath(path) not in listed]
    if not left:
        return []
    first = readable(left[0].relative_to(root).as_posix())
    return [
        f"passed over: {counted(len(left), 'picture', 'pictures')} in {root.name} that no row "
        f"lists (say {first})"
    ]
