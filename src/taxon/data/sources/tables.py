"""Tables: a header and rows, one a picture -> a listing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxon.core.errors import DataError, nearest
from taxon.core.labels import SEPARATOR
from taxon.core.text import agree, some
from taxon.data.manifest import SPLIT_WORDS, Skipped, Split
from taxon.data.sources.listing import Columns, Entry, Listing, Row, locate, make_listing
from taxon.data.sources.table_files import Cells, Table, read_table_file
from taxon.data.sources.words import TAG_SEPARATOR, Kind, clean, has_control, is_encodable

LABEL_NAMES: dict[str, Kind] = {"label": "flat", "labels": "tags", "tags": "tags"}
FILE_NAME = "file_name"  # what `datasets` and COCO call the path
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


def read_table(path: Path, columns: Columns) -> Listing:
    """Read a .csv, .tsv, .json, .jsonl or .parquet table.

    Raises:
        DataError: unreadable, a column missing, a row that cannot be understood.
    """
    return list_table(read_table_file(path, wanted_columns(columns)), columns)


def wanted_columns(columns: Columns) -> frozenset[str]:
    """Return the names of all columns that may be used."""
    optional = (columns.split, columns.group, columns.weight)
    return frozenset(
        {columns.path, FILE_NAME, *LABEL_NAMES, *columns.label, *columns.tags, *optional}
    )


@dataclass(frozen=True)
class _Layout:
    """Which columns mean what."""

    path: str
    labels: tuple[str, ...]
    kind: Kind
    columns: Columns


class _NoClass(Exception):
    """A row names no picture or no class, or leaves a tag open; it is passed over."""


def list_table(table: Table, columns: Columns) -> Listing:
    """Understand the rows of a table; paths count from `columns.image_root` or the table.

    A row without a path, without a class or with an unknown tag is passed over and listed.

    Raises:
        DataError: a column missing, a cell that cannot be understood, rows that contradict.
    """
    layout = _layout(table, columns)
    root = columns.image_root or table.root or table.path.parent
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    if not table.rows:
        raise DataError(f"{table.path} has a header but no rows")
    for number, cells in table.rows:
        place = f"row {number}"
        name = ""
        try:
            name = _text(cells.get(layout.path), layout.path)
            row = _row(cells, name, root, layout)
        except _NoClass as reason:
            # A row without a path has no name but its place.
            if name:
                skipped.append(Skipped(name, f"{place}: {reason}"))
            else:
                skipped.append(Skipped(f"{table.path.name}, {place}", str(reason)))
        except DataError as error:
            raise DataError(f"{table.path}, {place}: {error}") from error
        else:
            entries.append(Entry(place, row))
    _require_some_splits(entries, columns.split, table)
    declared: Sequence[str] = columns.tags
    if not declared and len(layout.labels) == 1:
        declared = table.class_names.get(layout.labels[0], ())
    notes = _weight_notes(entries, columns.weight)
    return make_listing(
        root, entries, layout.kind, table.path, notes=notes, skipped=skipped, declared=declared
    )


def _layout(table: Table, columns: Columns) -> _Layout:
    path = columns.path
    if path == Columns.path and table.image is not None:
        path = table.image
    elif path == Columns.path and path not in table.header and FILE_NAME in table.header:
        path = FILE_NAME
    _require(path, table, "the pictures' paths", "--path-column")
    if columns.split != Columns.split:
        _require(columns.split, table, "the parts", "--split-column")
    if columns.group != Columns.group:
        _require(columns.group, table, "the groups", "--group-column")
    if columns.weight != Columns.weight:
        _require(columns.weight, table, "the weights", "--weight-column")
    labels, kind = _label_columns(table, columns)
    return _Layout(path, labels, kind, columns)


def _require(name: str, table: Table, what: str, option: str) -> None:
    if name not in table.header:
        raise DataError(
            f"{table.path} has no column '{name}' for {what}; its columns are: "
            f"{_named(table.header)}.{nearest(name, table.header)} "
            f"Name another with {option}"
        )


def _require_once(names: Sequence[str], option: str) -> None:
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise DataError(
            f"{option} names {some(repeated)} more than once, received {', '.join(names)}; name "
            "each column once"
        )


def _named(header: Sequence[str]) -> str:
    """The columns in one short line, whatever a file may call them."""
    names = [name if len(name) <= 40 else f"{name[:40]}..." for name in header[:20]]
    more = f" and {len(header) - 20} more" if len(header) > 20 else ""
    return (", ".join(names) or "none") + more


def _label_columns(table: Table, columns: Columns) -> tuple[tuple[str, ...], Kind]:
    _require_once(columns.label, "--label-column")
    _require_once(columns.tags, "--tag-columns")
    for name in columns.label:
        _require(name, table, "the labels", "--label-column")
    for name in columns.tags:
        _require(name, table, "a tag", "--tag-columns")
    if columns.label and columns.tags:
        raise DataError("--label-column and --tag-columns exclude each other; name one of them")
    if columns.tags:
        return columns.tags, "tags"
    if len(columns.label) > 1:
        return columns.label, "taxonomy"
    found = columns.label or tuple(name for name in LABEL_NAMES if name in table.header)[:1]
    if not found:
        # A data set's own numbered classes need no certain name, if there is one such column.
        found = tuple(table.class_names) if len(table.class_names) == 1 else ()
    if not found:
        raise DataError(
            f"{table.path} has no column 'label' (one class a picture), 'labels' or 'tags' "
            f"(several, separated by '{TAG_SEPARATOR}'); its columns are: "
            f"{_named(table.header)}. Name the column with --label-column"
        )
    if any(isinstance(cells.get(found[0]), list) for _, cells in table.rows):
        return found, "tags"
    return found, LABEL_NAMES.get(found[0], "flat")


def _row(cells: Cells, name: str, root: Path, layout: _Layout) -> Row:
    columns = layout.columns
    if not name:
        raise _NoClass(f"the column '{layout.path}' is empty")
    labels = _labels(cells, layout)
    split = _split(_text(cells.get(columns.split), columns.split))
    group = _text(cells.get(columns.group), columns.group) or None
    weight = _weight(_text(cells.get(columns.weight), columns.weight), columns.weight)
    try:
        identity, path = locate(root, name)
    except DataError as error:
        raise _NoClass(str(error)) from error
    return Row(identity, path, labels, split, group, weight)


def _text(cell: object, column: str) -> str:
    """Return a cell as text, the way a CSV file would hold it; nothing and NaN are empty."""
    if isinstance(cell, str):
        text = cell.strip()
        if not is_encodable(text):
            raise DataError(f"'{column}' holds a character that is none (a lone surrogate)")
        return text
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # pandas makes floats of whole numbers where a cell is empty
    if isinstance(cell, bytes | list | dict | tuple):
        # Arrow's maps come as lists of pairs.
        names = {bytes: "bytes", list: "a list", dict: "an object", tuple: "a pair of a map"}
        kind = names[type(cell)]
        raise DataError(f"'{column}' must be one value, received {kind}")
    return str(cell)


def _labels(cells: Cells, layout: _Layout) -> tuple[str, ...]:
    if layout.columns.tags:
        return _flagged(cells, layout.labels)
    if layout.kind == "tags":
        column = layout.labels[0]
        cell = cells.get(column)
        values = cell if isinstance(cell, list) else _text(cell, column).split(TAG_SEPARATOR)
        tags = sorted({clean(_text(value, column)) for value in values} - {""})
        for tag in tags:
            _require_printable(tag, column)
        return tuple(tags)
    names = [(column, clean(_text(cells.get(column), column))) for column in layout.labels]
    for column, name in names:
        if not name:
            raise _NoClass(f"the column '{column}' is empty; each picture needs a class")
        _require_printable(name, column)
        if layout.kind == "taxonomy" and SEPARATOR in name:
            raise DataError(f"'{name}' in '{column}' may not hold a '{SEPARATOR}'")
    return (SEPARATOR.join(name for _, name in names),)


def _flagged(cells: Cells, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the tags whose column says yes; of one that says nothing, nobody knows."""
    flags = {name: _text(cells.get(name), name) for name in columns}
    for name, flag in flags.items():
        if flag and flag.lower() not in _TRUE + _FALSE:
            raise DataError(
                f"'{name}' must be 0 or 1, received '{flag}'; where it is not known, empty the "
                "cell, and the row is passed over"
            )
    if unknown := [name for name, flag in flags.items() if not flag]:
        raise _NoClass(
            f"the {agree(len(unknown), 'column', 'columns')} {some(unknown)} "
            f"{agree(len(unknown), 'is', 'are')} empty, and an unknown tag is not a no; write 1 "
            "where the picture has the tag and 0 where it has not"
        )
    return tuple(sorted(name for name, flag in flags.items() if flag.lower() in _TRUE))


def _require_printable(name: str, column: str) -> None:
    if has_control(name):
        raise _NoClass(f"{name!r} in '{column}' holds a line end or another control character")


def _split(text: str) -> Split | None:
    word = text.lower()
    if not word:
        return None
    if word not in SPLIT_WORDS:
        raise DataError(f"unknown part '{word}'; allowed: {', '.join(sorted(SPLIT_WORDS))}")
    return SPLIT_WORDS[word]


def _weight(text: str, column: str) -> float:
    if not text:
        return 1.0
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise DataError(
            f"'{column}' must be a number above 0, received '{text}'; to leave a picture out, "
            "leave out its row; if the column is no weight, name another with --weight-column"
        )
    return weight


def _weight_notes(entries: Sequence[Entry], column: str) -> list[str]:
    weights = {entry.row.weight for entry in entries}
    if weights <= {1.0}:
        return []
    return [
        f"pictures are weighted by the column '{column}' ({min(weights):g} to {max(weights):g})"
    ]


def _require_some_splits(entries: Sequence[Entry], column: str, table: Table) -> None:
    without = [entry.row for entry in entries if entry.row.split is None]
    if column in table.header and 0 < len(without) < len(entries):
        raise DataError(
            f"{table.path}: {len(without)} of {len(entries)} rows "
            f"{agree(len(without), 'has', 'have')} no '{column}' (say "
            f"{without[0].id}); fill it everywhere or leave the column out"
        )
