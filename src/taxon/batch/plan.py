"""The plan of a job: every picture once, in parts, on disk before anything is computed.

A job that was interrupted goes on with the list that it began with, whatever lies in the folders
by then. A part is a row group of one Parquet file, so that it is read without the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taxon.batch.items import Item
from taxon.core.errors import DataError

PLAN_FILE = "_plan.parquet"  # what reads a folder of Parquet passes over such names
# Names of files are bytes: not all are UTF-8.
_SCHEMA = pa.schema(
    [
        ("path", pa.binary()),
        ("archive", pa.dictionary(pa.int32(), pa.binary())),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)


def write_plan(items: Iterable[Item], file: Path, part_size: int) -> int:
    """Write the plan; return the number of pictures.

    Raises:
        DataError: a source of them that cannot be listed, or no picture at all.
    """
    count, remaining = 0, iter(items)
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        while part := list(islice(remaining, part_size)):
            writer.write_table(items_table(part), row_group_size=part_size)
            count += len(part)
    if not count:
        raise DataError("no pictures were found; name folders, patterns, tables or tar shards")
    return count


class Plan:
    """A plan on disk, read a part at a time.

    Raises:
        DataError: it is damaged.
    """

    def __init__(self, file: Path) -> None:
        try:
            # Opened here: Arrow takes no name that is not UTF-8.
            self._stream = file.open("rb")
            self._file = pq.ParquetFile(self._stream)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"the plan {file} cannot be read: {error}; begin anew with --overwrite"
            ) from error

    @property
    def parts(self) -> int:
        """How many there are."""
        return int(self._file.num_row_groups)

    @property
    def pictures(self) -> int:
        """How many there are in all parts."""
        return int(self._file.metadata.num_rows)

    def part_length(self, part: int) -> int:
        """How many pictures a part has."""
        return int(self._file.metadata.row_group(part).num_rows)

    def read(self, part: int) -> list[Item]:
        """Return the pictures of a part, from 0."""
        return table_items(self._file.read_row_group(part))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._stream.close()


def items_table(items: Iterable[Item]) -> pa.Table:
    """Items as an Arrow table, as it lies on disk and travels between machines."""
    rows = list(items)
    columns = [
        pa.array([os.fsencode(item.path) for item in rows], pa.binary()),
        pa.array(
            [None if item.archive is None else os.fsencode(item.archive) for item in rows],
            pa.binary(),
        ).dictionary_encode(),
        pa.array([item.offset for item in rows], pa.int64()),
        pa.array([item.size for item in rows], pa.int64()),
    ]
    return pa.table(columns, schema=_SCHEMA)


def table_items(table: pa.Table) -> list[Item]:
    """The items of such a table."""
    return [
        Item(
            os.fsdecode(row["path"]),
            None if row["archive"] is None else os.fsdecode(row["archive"]),
            row["offset"],
            row["size"],
        )
        for row in table.to_pylist()
    ]


def pieces_of(length: int, size: int) -> Iterator[slice]:
    """Cut a part of so many pictures into pieces that are decoded and computed together."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
