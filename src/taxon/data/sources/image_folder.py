"""Image folders of Hugging Face `datasets`: pictures beside a table `metadata.*` -> a listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from taxon.core.errors import DataError
from taxon.data.manifest import SPLIT_WORDS
from taxon.data.sources.folders import read_folder
from taxon.data.sources.listing import Columns, Listing, some
from taxon.data.sources.table_files import Table, read_table_file
from taxon.data.sources.tables import FILE_NAME, LABEL_NAMES, list_table, wanted_columns

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
    rows: list[tuple[int, dict[str, object]]] = []
    for part, table in read.items():
        for number, cells in table.rows:
            name = cells.get(path_column)
            inside = str(PurePosixPath(part, name)) if isinstance(name, str) and name else None
            rows.append((number, {**cells, path_column: inside}))
    if columns.split not in header and (words := _part_words(rows, path_column)):
        header += (columns.split,)
        for (_, row), word in zip(rows, words, strict=True):
            row[columns.split] = word
    source = next(iter(tables.values())) if len(tables) == 1 else root
    return list_table(Table(source, header, tuple(rows), root=root), columns)


def _part_words(rows: list[tuple[int, dict[str, object]]], column: str) -> list[str]:
    """Return the first folder of every row's path, if all of them are names of parts."""
    words = [PurePosixPath(str(row[column])).parts[0] for _, row in rows if row[column]]
    if len(words) < len(rows) or not all(word.lower() in SPLIT_WORDS for word in words):
        return []
    return words
