"""Table files: CSV, TSV, JSON, JSONL and Parquet -> a header and numbered rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxon.core.errors import DataError

Cells = Mapping[str, object]
# A cell may be long: a caption, a list of boxes. What C's long holds everywhere.
csv.field_size_limit(2**31 - 1)
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)  # Excel's, before the header
_LINE_END = re.compile(r"\s*[\r\n]+\s*")
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16


@dataclass(frozen=True)
class Table:
    """What a table file holds.

    Attributes:
        path: the file, as messages name it.
        header: names of all its columns.
        rows: number and cells of each row; where the file has lines, the number is the line's.
        class_names: of columns that hold numbers of classes, where the file names these.
        root: the folder that paths count from; None is the file's own.
        image: the column whose cells are paths of pictures that came embedded.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, Cells], ...]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: Path | None = None
    image: str | None = None


def read_table_file(path: Path, wanted: Collection[str]) -> Table:
    """Read a table; of a Parquet file only the columns in `wanted`.

    Raises:
        DataError: it cannot be read, is damaged, or its rows do not fit its header.
    """
    return READERS[path.suffix.lower()](path, wanted)


def load_json(text: str, place: str) -> Any:
    """Parse JSON.

    Raises:
        DataError: it is none.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{place}: JSON that is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}") from error


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, line ends as they are.

    Raises:
        DataError: it cannot be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        reason = "it is UTF-16" if data.startswith(_BYTE_ORDER_MARKS) else error.reason
        raise DataError(
            f"{path} is not UTF-8 text: {reason}; save it again as UTF-8 (a spreadsheet calls "
            "that 'CSV UTF-8')"
        ) from error


def _read_separated(path: Path, wanted: Collection[str]) -> Table:
    text, delimiter = _delimited(path, read_text(path))
    # Other than str.splitlines, this ends lines at line ends only, not at odd spaces in names.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[int, Cells]] = []
    number = 1  # of the line that a row begins in
    try:
        for cells in reader:
            if cells and not header:
                header = [_LINE_END.sub(" ", name.strip()) for name in cells]
                _require_unique(header, path)
            elif cells:  # an empty line is no row
                rows.append((number, _cells(cells, header, wanted, f"{path}, row {number}")))
            number = reader.line_num + 1
    except csv.Error as error:
        # In strict reading only quotes go wrong.
        raise DataError(f"{path}, row {number}: {_OPEN_QUOTE} ({error})") from error
    return Table(path, tuple(name for name in header if name), tuple(rows))


_OPEN_QUOTE = (
    'a quote (") is opened and not closed, or stands inside of a quoted text and is not doubled'
)


def _cells(cells: list[str], header: list[str], wanted: Collection[str], place: str) -> Cells:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise DataError(f"{place}: more cells than the header has columns")
    cells += [""] * (len(header) - len(cells))
    row = dict(zip(header, cells, strict=False))
    # A quote that is closed in a later row only makes one cell of all between.
    broken = [name for name in row if name in wanted and _LINE_END.search(row[name].strip())]
    if broken:
        raise DataError(f"{place}: '{broken[0]}' holds a line end: {_OPEN_QUOTE}")
    return row


def _delimited(path: Path, text: str) -> tuple[str, str]:
    """Return the text without Excel's line on the separator, and the separator."""
    said = _SEPARATOR_LINE.match(text)
    if said is not None:
        return "\n" + text[said.end() :], said[1]  # lines keep their numbers
    if path.suffix.lower() == ".tsv":
        return text, "\t"
    first = text.lstrip().partition("\n")[0]
    if "," in first:
        return text, ","
    if "|" in first and ";" not in first and "\t" not in first:
        raise DataError(
            f"{path} is separated by '|', which separates tags in a cell here; save it with "
            "commas, semicolons or tabs between the columns"
        )
    # Semicolons are what spreadsheets write where the comma marks decimals.
    return text, ";" if ";" in first else "\t" if "\t" in first else ","


def _require_unique(header: Collection[str], path: Path) -> None:
    repeated = sorted(name for name, count in Counter(header).items() if name and count > 1)
    if repeated:
        raise DataError(f"{path} has the column '{repeated[0]}' more than once")


def _read_json_lines(path: Path, wanted: Collection[str]) -> Table:
    numbered = enumerate(read_text(path).split("\n"), start=1)
    rows = [
        (number, load_json(line, f"{path}, row {number}"))
        for number, line in numbered
        if line.strip()
    ]
    return _objects(path, rows)


def _read_json(path: Path, wanted: Collection[str]) -> Table:
    value = load_json(read_text(path), str(path))
    if not isinstance(value, list):
        raise DataError(
            f"{path} is neither a list of objects, one a picture, nor COCO (an object with "
            "images, annotations and categories)"
        )
    return _objects(path, list(enumerate(value, start=1)))


def _objects(path: Path, rows: list[tuple[int, Any]]) -> Table:
    header: dict[str, None] = {}
    for number, row in rows:
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, row {number}: expected an object such as "
                f'{{"path": "a.jpg", "label": "cat"}}, received {type(row).__name__}'
            )
        header.update(dict.fromkeys(row))
    return Table(path, tuple(header), tuple(rows))


def _read_parquet(path: Path, wanted: Collection[str]) -> Table:
    try:
        header = pq.read_schema(path).names
        _require_unique(header, path)
        columns = [name for name in header if name in wanted]
        cells = pq.ParquetFile(path).read(columns=columns).to_pylist() if columns else []
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a Parquet table that can be read: {error}") from error
    return Table(path, tuple(header), tuple(enumerate(cells, start=1)))


READERS: dict[str, Callable[[Path, Collection[str]], Table]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
