"""Tables: a CSV or TSV file with a row a picture -> a listing."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from taxon.core.errors import DataError, nearest
from taxon.core.labels import SEPARATOR
from taxon.data.manifest import SPLIT_WORDS, Split
from taxon.data.sources import Columns, Kind, Listing, Row

TAG_SEPARATOR = "|"
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")


def read_table(path: Path, columns: Columns) -> Listing:
    """Read a .csv or .tsv table; paths count from the table's folder.

    Raises:
        DataError: unreadable, a column missing, a row that cannot be understood.
    """
    header, lines = _read_lines(path)
    _require(columns.path, header, path, "the pictures' paths", "--path-column")
    if columns.split != Columns.split:
        _require(columns.split, header, path, "the parts", "--split-column")
    if columns.group != Columns.group:
        _require(columns.group, header, path, "the groups", "--group-column")
    label_columns, kind = _label_columns(header, columns, path)
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=2):
        place = f"{path}, row {number}"
        name = (line[columns.path] or "").strip()
        if not name:
            raise DataError(f"{place}: the column '{columns.path}' is empty")
        row = Row(
            id=Path(name).as_posix(),
            path=path.parent / name,
            labels=_labels(line, label_columns, kind, columns, place),
            split=_split(line.get(columns.split), place),
            group=(line.get(columns.group) or "").strip() or None,
        )
        earlier = rows.setdefault(row.id, row)
        if earlier != row:
            raise DataError(f"{place}: '{name}' is listed before with another label or split")
    if not rows:
        raise DataError(f"{path} has a header but no rows")
    repeated = len(lines) - len(rows)
    notes = (f"{repeated} repeated rows of {path.name} were passed over",) if repeated else ()
    ordered = tuple(rows[key] for key in sorted(rows))
    _require_some_splits(ordered, columns.split, header, path)
    return Listing(path.parent, ordered, kind, notes)


def _read_lines(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, restval="")
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            repeated = sorted(name for name in set(header) if header.count(name) > 1)
            if repeated:
                raise DataError(f"{path} has the column '{repeated[0]}' more than once")
            lines = list(reader)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason}") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a table that can be read: {error}") from error
    for number, line in enumerate(lines, start=2):
        if None in line:
            raise DataError(f"{path}, row {number}: more cells than the header has columns")
    return header, lines


def _require(name: str, header: Sequence[str], path: Path, what: str, option: str) -> None:
    if name not in header:
        raise DataError(
            f"{path} has no column '{name}' for {what}; its columns are: "
            f"{', '.join(header) or 'none'}.{nearest(name, header)} Name another with {option}"
        )


def _label_columns(
    header: Sequence[str], columns: Columns, path: Path
) -> tuple[tuple[str, ...], Kind]:
    for name in columns.label:
        _require(name, header, path, "the labels", "--label-column")
    for name in columns.tags:
        _require(name, header, path, "a tag", "--tag-columns")
    if columns.label and columns.tags:
        raise DataError("--label-column and --tag-columns exclude each other; name one of them")
    if columns.tags:
        return columns.tags, "tags"
    if len(columns.label) > 1:
        return columns.label, "taxonomy"
    if columns.label:
        return columns.label, "tags" if columns.label[0] in ("labels", "tags") else "flat"
    if "label" in header:
        return ("label",), "flat"
    for name in ("labels", "tags"):
        if name in header:
            return (name,), "tags"
    raise DataError(
        f"{path} has no column 'label' (one class a picture), 'labels' or 'tags' (several, "
        f"separated by '{TAG_SEPARATOR}'); its columns are: {', '.join(header)}. "
        "Name the column with --label-column"
    )


def _labels(
    line: Mapping[str, str | None],
    names: tuple[str, ...],
    kind: Kind,
    columns: Columns,
    place: str,
) -> tuple[str, ...]:
    cells = [(line[name] or "").strip() for name in names]
    if columns.tags:
        for name, cell in zip(names, cells, strict=True):
            if cell.lower() not in _TRUE + _FALSE:
                raise DataError(f"{place}: '{name}' must be 0 or 1, received '{cell}'")
        return tuple(
            sorted(name for name, cell in zip(names, cells, strict=True) if cell.lower() in _TRUE)
        )
    if kind == "tags":
        return tuple(sorted({tag.strip() for tag in cells[0].split(TAG_SEPARATOR)} - {""}))
    for name, cell in zip(names, cells, strict=True):
        if not cell:
            raise DataError(f"{place}: the column '{name}' is empty; each picture needs a class")
        if kind == "taxonomy" and SEPARATOR in cell:
            raise DataError(f"{place}: '{cell}' in '{name}' may not hold a '{SEPARATOR}'")
    return (SEPARATOR.join(cells),)


def _split(cell: str | None, place: str) -> Split | None:
    word = (cell or "").strip().lower()
    if not word:
        return None
    if word not in SPLIT_WORDS:
        allowed = ", ".join(sorted(SPLIT_WORDS))
        raise DataError(f"{place}: unknown part '{word}'; allowed: {allowed}")
    return SPLIT_WORDS[word]


def _require_some_splits(
    rows: Sequence[Row], column: str, header: Sequence[str], path: Path
) -> None:
    without = [row for row in rows if row.split is None]
    if column in header and 0 < len(without) < len(rows):
        raise DataError(
            f"{path}: {len(without)} of {len(rows)} rows have no '{column}' (say "
            f"{without[0].id}); fill it everywhere or leave the column out"
        )
