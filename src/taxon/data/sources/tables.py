"""Tables: a header and rows, one a picture -> a listing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taxon.core.errors import DataError, nearest
from taxon.core.text import agree, one_line, some
from taxon.data.manifest import SPLIT_WORDS, Skipped, Split
from taxon.data.sources.label_cells import NoClass, cell_text, read_class, read_flags, read_tags
from taxon.data.sources.listing import Columns, Entry, Listing, Row, locate, make_listing
from taxon.data.sources.table_files import Cells, Table, read_table_file
from taxon.data.sources.words import TAG_SEPARATOR, Kind

LABEL_NAMES: dict[str, Kind] = {"label": "flat", "labels": "tags", "tags": "tags"}
FILE_NAME = "file_name"  # what `datasets` and COCO call the path


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
        | set(columns.extra)
    )


@dataclass(frozen=True)
class _Layout:
    """Which columns mean what."""

    path: str
    labels: tuple[str, ...]
    kind: Kind
    columns: Columns


def list_table(table: Table, columns: Columns) -> Listing:
    """Understand the rows of a table; paths count from `columns.image_root` or the table.

    A row without a path, without a class or with no known tag is passed over and listed.

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
            name = cell_text(cells.get(layout.path), layout.path)
            row = _row(cells, name, root, layout)
        except NoClass as reason:
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
    _require_some_no(entries, columns.tags, table)
    declared: Sequence[str] = columns.tags
    if not declared and len(layout.labels) == 1:
        declared = table.class_names.get(layout.labels[0], ())
    notes = _weight_notes(entries, columns.weight)
    listing = make_listing(
        root, entries, layout.kind, table.path, notes=notes, skipped=skipped, declared=declared
    )
    return replace(listing, annotated=columns.tags or None)


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
    for name in columns.extra:
        _require(name, table, "slices", "--slice-by")
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
        raise NoClass(f"the column '{layout.path}' is empty")
    if layout.columns.tags:
        labels, unknown = read_flags(cells, layout.labels)
    elif layout.kind == "tags":
        labels, unknown = read_tags(cells.get(layout.labels[0]), layout.labels[0])
    else:
        labels, unknown = read_class(cells, layout.labels), ()
    split = _split(cell_text(cells.get(columns.split), columns.split))
    group = cell_text(cells.get(columns.group), columns.group) or None
    weight = _weight(cell_text(cells.get(columns.weight), columns.weight), columns.weight)
    extra = tuple(one_line(cell_text(cells.get(column), column)) for column in columns.extra)
    try:
        identity, path = locate(root, name)
    except DataError as error:
        raise NoClass(str(error)) from error
    return Row(identity, path, labels, split, group, weight, unknown=unknown, extra=extra)


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


def _require_some_no(entries: Sequence[Entry], tags: Sequence[str], table: Table) -> None:
    """Refuse columns of 1 and nothing: to learn from yes alone is to say yes to everything."""
    rows = [entry.row for entry in entries]
    if any(row.unknown for row in rows) and all(
        len(row.labels) + len(row.unknown) == len(tags) for row in rows
    ):
        raise DataError(
            f"{table.path}: no cell of the {agree(len(tags), 'column', 'columns')} {some(tags)} is "
            "0, and an empty one is unknown; write 0 where a picture has not the tag"
        )
