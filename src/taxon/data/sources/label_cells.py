"""Label cells: what the cells of a row say about its picture's classes or tags."""

from __future__ import annotations

import math
from collections.abc import Sequence

from taxon.core.errors import DataError
from taxon.core.labels import SEPARATOR, UNKNOWN_MARK
from taxon.core.text import agree, some
from taxon.data.sources.table_files import Cells
from taxon.data.sources.words import TAG_SEPARATOR, clean, has_control, is_encodable

_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
_UNKNOWN = ("", UNKNOWN_MARK)

Tags = tuple[tuple[str, ...], tuple[str, ...]]  # those that it has, those that nobody knows


class NoClass(Exception):
    """A row names no picture or no class, or knows nothing of its tags; it is passed over."""


def cell_text(cell: object, column: str) -> str:
    """Return a cell as text, the way a CSV file would hold it; nothing and NaN are empty.

    Raises:
        DataError: the cell is not one value.
    """
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


def read_class(cells: Cells, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the one class of a row: of several columns, coarse to fine, its path.

    Raises:
        NoClass: a cell is empty or cannot be printed.
        DataError: a level of a taxonomy holds a slash.
    """
    names = [(column, clean(cell_text(cells.get(column), column))) for column in columns]
    for column, name in names:
        if not name:
            raise NoClass(f"the column '{column}' is empty; each picture needs a class")
        _require_printable(name, column)
        if len(columns) > 1 and SEPARATOR in name:
            raise DataError(f"'{name}' in '{column}' may not hold a '{SEPARATOR}'")
    return (SEPARATOR.join(name for _, name in names),)


def read_tags(cell: object, column: str) -> Tags:
    """Return the tags of one cell: text with `|` between them, or a list; `?tag` is unknown.

    Raises:
        NoClass: a tag cannot be printed.
        DataError: a tag both is there and is unknown.
    """
    values = cell if isinstance(cell, list) else cell_text(cell, column).split(TAG_SEPARATOR)
    tags = sorted({clean(cell_text(value, column)) for value in values} - {""})
    for tag in tags:
        _require_printable(tag, column)
    return split_marked(tags)


def split_marked(tags: Sequence[str]) -> Tags:
    """Divide tags as people write them into those that are there and, after a `?`, unknown.

    Raises:
        DataError: a tag both is there and is unknown.
    """
    marked = [tag for tag in tags if tag.startswith(UNKNOWN_MARK) and tag != UNKNOWN_MARK]
    labels = set(tags) - set(marked)
    unknown = {tag.removeprefix(UNKNOWN_MARK).strip() for tag in marked}
    if both := sorted(labels & unknown):
        raise DataError(
            f"'{both[0]}' is named, and '{UNKNOWN_MARK}{both[0]}' says that nobody knows it; keep "
            "one of the two"
        )
    return tuple(sorted(labels)), tuple(sorted(unknown))


def read_flags(cells: Cells, columns: Sequence[str]) -> Tags:
    """Return the tags whose column says yes, and those whose column says nothing.

    Raises:
        NoClass: no column says anything.
        DataError: a cell that is neither yes nor no.
    """
    flags = {name: cell_text(cells.get(name), name).lower() for name in columns}
    for name, flag in flags.items():
        if flag not in (*_TRUE, *_FALSE, *_UNKNOWN):
            raise DataError(
                f"'{name}' must be 0 or 1, received '{flag}'; where it is not known, empty the cell"
            )
    unknown = tuple(sorted(name for name, flag in flags.items() if flag in _UNKNOWN))
    if len(unknown) == len(flags):
        raise NoClass(
            f"the {agree(len(unknown), 'column', 'columns')} {some(unknown)} "
            f"{agree(len(unknown), 'is', 'are')} empty, and an unknown tag is not a no; write 1 "
            "where the picture has the tag and 0 where it has not"
        )
    return tuple(sorted(name for name, flag in flags.items() if flag in _TRUE)), unknown


def _require_printable(name: str, column: str) -> None:
    if has_control(name):
        raise NoClass(f"{name!r} in '{column}' holds a line end or another control character")
