"""What a job's sources hold: folders, patterns, tables of paths, tar shards; here or at a URL.

Everything is listed in a fixed order. Folders, Parquet tables and shards are listed one picture at
a time, so that millions need no memory; patterns, listings at URLs and other tables are held whole.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from taxon.batch.items import Item
from taxon.batch.shards import SHARD_SUFFIXES, members_of
from taxon.batch.urls import filesystem_of, is_url
from taxon.core.errors import DataError, InputError
from taxon.data.sources.folders import files_below
from taxon.data.sources.table_files import READERS, read_table_file
from taxon.preprocessing.decode import SUFFIXES

T = TypeVar("T")
_PATH_COLUMNS = ("path", "file_name")
# `shard-{000..123}.tar`, as WebDataset's users write it.
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


def list_items(
    sources: Sequence[str], *, path_column: str | None = None, base: str | None = None
) -> Iterator[Item]:
    """Yield the pictures of all sources, in order.

    Args:
        sources: pictures, folders (all pictures below; where there are none, the shards), glob
            patterns, tables with a column of paths (CSV, TSV, JSON, JSONL, Parquet) and tar
            shards; each a path or a URL.
            `shard-{000..123}.tar` stands for 124 names.
        path_column: of the tables; None: `path` or `file_name`.
        base: the folder or URL that paths in tables count from; None: the table's own folder.
            A table may name URLs only below it: nobody else's table shall decide what is asked
            for.

    Raises:
        DataError: a source that is not there, cannot be read, or has no picture.
    """
    for name in _expanded(sources):
        count = 0
        for item in _items_of(name, path_column, base):
            count += 1
            yield item
        if not count:
            raise DataError(f"no pictures in {name}; name a folder, pattern, table or tar shard")


def _expanded(sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        if not source:
            raise DataError("an empty name was given for a source; name a folder or a table")
        yield from _numbered(source)


def _numbered(name: str) -> Iterator[str]:
    found = _NUMBERS.search(name)
    if found is None:
        yield name
        return
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise DataError(f"the numbers in {name} go down; write the smaller one first")
    for number in range(first, last + 1):
        digits = str(number).zfill(len(found[1]))
        yield from _numbered(f"{name[: found.start()]}{digits}{name[found.end() :]}")


def _items_of(name: str, path_column: str | None, base: str | None) -> Iterator[Item]:
    if is_url(name):
        for found in _urls_of(name):
            yield from _of_file(found, path_column, base)
        return
    path = Path(name)
    if path.is_dir():
        for file in _pictures_or_shards(lambda suffixes: files_below(path, suffixes)):
            yield from _of_file(str(file), path_column, base)
    elif not path.exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise DataError(f"nothing matches the pattern '{name}'")
        for match in matches:
            if Path(match).is_file():
                if _is_meant(match, name):
                    yield from _of_file(match, path_column, base)
            elif "**" not in name:  # which matches all that is in a folder, too
                yield from _items_of(match, path_column, base)
    else:
        yield from _of_file(name, path_column, base)


def _pictures_or_shards(listed: Callable[[Collection[str]], Iterable[T]]) -> Iterator[T]:
    """The pictures of a folder; of one without any its tar shards. A stray archive is none."""
    any_picture = False
    for file in listed(SUFFIXES):
        any_picture = True
        yield file
    if not any_picture:
        yield from listed(SHARD_SUFFIXES)


def _is_meant(file: str, pattern: str) -> bool:
    """Whether a file that matches is what was meant: a picture, or what the pattern's end names."""
    suffix = Path(file).suffix.lower()
    return suffix in SUFFIXES or suffix == Path(pattern).suffix.lower()


def _is_shown(file: str) -> bool:
    return not file.rpartition("/")[2].startswith(".")


def _urls_of(url: str) -> Iterator[str]:
    """The files that a URL stands for: itself, those that match it, or those below it."""
    try:
        filesystem, path = filesystem_of(url)
        if glob.has_magic(path):
            matches = sorted(filesystem.glob(path))
            if not matches:
                raise DataError(f"nothing matches the pattern '{url}'")
            found = [match for match in matches if _is_meant(match, path)]
            found = [match for match in found if filesystem.isfile(match)]
        elif filesystem.isdir(path):
            below = [file for file in sorted(filesystem.find(path)) if _is_shown(file)]
            found = list(
                _pictures_or_shards(
                    lambda suffixes: (
                        file for file in below if Path(file).suffix.lower() in suffixes
                    )
                )
            )
        else:
            found = [path]
    except InputError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise DataError(f"cannot list {url}: {type(error).__name__}: {error}") from error
    for file in found:
        yield str(filesystem.unstrip_protocol(file))


def _of_file(name: str, path_column: str | None, base: str | None) -> Iterator[Item]:
    suffix = Path(name).suffix.lower()
    if suffix in SHARD_SUFFIXES:
        for member, offset, size in members_of(name):
            yield Item(member, archive=name, offset=offset, size=size)
    elif suffix in READERS:
        yield from _of_table(name, path_column, base)
    else:
        # One that is not there is an error of its own, like any other that cannot be read.
        yield Item(name)


def _of_table(name: str, path_column: str | None, base: str | None) -> Iterator[Item]:
    if base is not None:
        root = base
    else:
        root = name.rpartition("/")[0] if is_url(name) else str(Path(name).parent)
    for number, cell in enumerate(_paths_in(name, path_column), start=1):
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(f"{name}, picture {number}: no path in the column of paths")
        yield Item(_joined(root, cell.strip(), name, number))


def _joined(root: str, cell: str, table: str, number: int) -> str:
    try:
        os.fsencode(cell)
    except UnicodeEncodeError as error:
        raise DataError(f"{table}, picture {number}: no name that a file can have") from error
    # As servers read it: `%2e%2e` is `..` too.
    leads_out = ".." in unquote(cell).replace("\\", "/").split("/")
    if is_url(cell):
        prefix = root.rstrip("/") + "/"
        if not is_url(root) or not cell.startswith(prefix) or leads_out:
            raise DataError(
                f"{table}, picture {number}: {cell} is not below {root or 'the working folder'}; "
                "say with --base which place's URLs the table may name"
            )
        return cell
    if is_url(root):
        if cell.startswith("/") or leads_out:
            raise DataError(
                f"{table}, picture {number}: '{cell}' leads out of {root}; paths of a table at a "
                "URL count from there"
            )
        return f"{root.rstrip('/')}/{cell}"
    if cell.startswith(("//", "\\\\")):  # another machine's, on Windows
        raise DataError(
            f"{table}, picture {number}: '{cell}' lies on another machine; a table names files of "
            "this one, or URLs below --base"
        )
    return str(Path(root) / cell)


def _paths_in(name: str, path_column: str | None) -> Iterator[object]:
    if not is_url(name):
        yield from _cells(Path(name), path_column)
        return
    filesystem, path = filesystem_of(name)
    with tempfile.TemporaryDirectory(prefix="taxon-") as scratch:
        copy = Path(scratch) / Path(path).name
        try:
            filesystem.get_file(path, str(copy))
        except Exception as error:  # each protocol has errors of its own
            raise DataError(f"cannot read {name}: {type(error).__name__}: {error}") from error
        yield from _cells(copy, path_column)


def _cells(table: Path, path_column: str | None) -> Iterator[object]:
    wanted = _PATH_COLUMNS if path_column is None else (path_column,)
    if table.suffix.lower() == ".parquet":
        yield from _parquet_cells(table, wanted)
        return
    read = read_table_file(table, wanted)
    column = _column(read.header, wanted, table)
    for _, row in read.rows:
        yield row.get(column)


def _parquet_cells(table: Path, wanted: Sequence[str]) -> Iterator[object]:
    """A batch of rows at a time: such a table may have millions."""
    try:
        with table.open("rb") as stream, pq.ParquetFile(stream) as file:
            column = _column(file.schema_arrow.names, wanted, table)
            for batch in file.iter_batches(columns=[column]):
                yield from _python(batch.column(0))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{table} is not a Parquet table that can be read: {error}") from error


def _python(column: Any) -> list[object]:
    return list(column.to_pylist())


def _column(header: Sequence[str], wanted: Sequence[str], table: Path) -> str:
    found = next((name for name in wanted if name in header), None)
    if found is None:
        raise DataError(
            f"{table} has no column '{wanted[0]}' (it has: {', '.join(header)}); name the one "
            "with the pictures' paths by --path-column"
        )
    return found
