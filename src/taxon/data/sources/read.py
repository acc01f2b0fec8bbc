"""Sources: whatever a data set comes as -> a listing of pictures and labels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from taxon.core.cache import cache_folder
from taxon.core.errors import DataError
from taxon.core.text import agree, some
from taxon.data.manifest import Record, is_manifest, read_manifest
from taxon.data.sources.archives import ARCHIVE_SUFFIXES, is_archive, unpack
from taxon.data.sources.coco import is_coco, read_coco
from taxon.data.sources.embedded import PICTURES
from taxon.data.sources.folders import read_folder
from taxon.data.sources.found import tables_in
from taxon.data.sources.huggingface import (
    has_pictures,
    is_saved,
    read_parquet_pictures,
    read_saved,
    read_shards,
    shards,
)
from taxon.data.sources.image_folder import find_metadata, read_image_folder
from taxon.data.sources.listing import Columns, Listing, Row
from taxon.data.sources.parents import with_parents
from taxon.data.sources.table_files import READERS, load_json, read_text
from taxon.data.sources.tables import read_table
from taxon.data.sources.words import Kind, how_to_open, is_encodable, readable

TABLE_SUFFIXES = tuple(READERS)
TABLES_IN_FOLDER = tuple(f"labels{suffix}" for suffix in TABLE_SUFFIXES)


def data_path(data: str | Path) -> Path:
    """Return the path of a data set as it was named; a `Path` cannot tell "" from ".".

    Raises:
        DataError: the name is empty, as a variable of the shell is that was never set.
    """
    if isinstance(data, str) and not data.strip():
        raise DataError(
            f"the name of the data set is empty, received '{data}' (a variable that is not set?); "
            "name a folder, table, archive or manifest, or . for the current folder"
        )
    return Path(data)


def read_source(path: str | Path, columns: Columns | None = None) -> Listing:
    """List a data set.

    A folder is read, in this order, by a table `labels.*` in it, as a saved data set or an image
    folder of Hugging Face `datasets`, by its folders of classes, or by the only other table,
    manifest or COCO file in it. A file is a table (CSV, TSV,
    JSON, JSONL, Parquet), COCO JSON, a manifest that taxon wrote, or an archive (zip, tar) of
    a folder, which is unpacked into the cache.

    Raises:
        DataError: nothing there, no pictures, no classes, columns that are missing, a parents
            file that cannot be used.
        OutputError: an archive or embedded pictures cannot be written to the cache.
    """
    columns = columns or Columns()
    listing = _read(data_path(path), replace(columns, parents=None))
    return listing if columns.parents is None else with_parents(listing, columns.parents)


def _read(path: Path, columns: Columns) -> Listing:
    _require_utf8(path)
    try:
        is_file = path.is_file()
        if columns.image_root is not None:
            _require_utf8(columns.image_root)
            if not columns.image_root.is_dir():
                raise DataError(f"--image-root {columns.image_root} is not a folder")
    except OSError as error:
        raise _unreadable(error, path) from error
    if is_file:
        listing = _read_archive(path, columns) if is_archive(path) else _read_file(path, columns)
    else:
        listing = _read_folder(path, columns)
    _require_utf8(listing.root)  # the cache, for what was unpacked
    return listing


def _require_utf8(path: Path) -> None:
    """Refuse a folder whose name no manifest could hold."""
    name = os.path.abspath(path)
    if not is_encodable(name):
        raise DataError(f"{readable(name)} is not UTF-8; rename it, or reach it through a link")


def _read_folder(path: Path, columns: Columns) -> Listing:
    if not path.is_dir():
        raise DataError(
            f"no such file or folder: {path}; name a folder with one sub-folder a class, or a "
            "CSV table with the columns path and label (try: taxon sample-data defects photos)"
        )
    try:
        return _read_directory(path, columns)
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> DataError:
    """Name the folder that is closed, and not the file that was looked for in it."""
    place = Path(error.filename or path)
    remedy = ""
    if isinstance(error, PermissionError):
        place = place if os.path.isdir(place) else place.parent  # noqa: PTH112 (a closed one raises)
        remedy = f"; {how_to_open(place)}"
    return DataError(f"cannot read {place}: {error.strerror or error}{remedy}")


def _read_file(path: Path, columns: Columns) -> Listing:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"{path} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}) nor an archive "
            f"({', '.join(ARCHIVE_SUFFIXES)})"
        )
    if suffix == ".json":
        value = load_json(read_text(path), str(path))
        if is_coco(value):
            return read_coco(path, value, columns)
    if suffix == ".parquet":
        if has_pictures(path):
            return read_parquet_pictures(path, columns)
        if is_manifest(path):
            return _read_manifest(path, columns)
    return read_table(path, columns)


def _read_directory(path: Path, columns: Columns) -> Listing:
    tables = [path / name for name in TABLES_IN_FOLDER if (path / name).is_file()]
    if tables:
        listing = _read_file(tables[0], columns)
        others = [table.name for table in tables[1:]]
        was = agree(len(others), "was", "were")
        note = f"read from {tables[0].name}; {some(others)} beside it {was} passed over"
        return _noted(listing, note) if others else listing
    if is_saved(path):
        return read_saved(path, columns)
    if metadata := find_metadata(path):
        return read_image_folder(path, metadata, columns)
    if shards(path):
        return read_shards(path, columns)
    return _read_plain(path, columns)


def _read_plain(path: Path, columns: Columns) -> Listing:
    """Read a folder by its folders of classes, or by the only table in it."""
    tables = tables_in(path, columns)
    names = some([table.relative_to(path).as_posix() for table in tables])
    if columns != Columns():
        if len(tables) != 1:
            lacks = f"it holds several tables: {names}" if tables else "it holds no table"
            raise DataError(
                f"{path} is read by its folders ({lacks}), so columns have no meaning; name a "
                "table, or leave the options for columns out"
            )
    else:
        try:
            listing = read_folder(path)
        except DataError as error:
            if len(tables) != 1:
                hint = f"; or name one of the tables in it: {names}" if tables else ""
                raise DataError(f"{error}{hint}") from None
        else:
            # One folder alone holds the pictures of a table; several are the classes.
            tops = {row.id.partition("/")[0] for row in listing.rows}
            if len(tables) != 1 or len(tops) > 1:
                were = agree(len(tables), "was passed over; name it", "were passed over; name one")
                note = f"{names} may list pictures too and {were} to read it"
                return _noted(listing, note) if tables else listing
    return _noted(_read_file(tables[0], columns), f"read from {names}")


def _noted(listing: Listing, note: str) -> Listing:
    return replace(listing, notes=(*listing.notes, note))


def _read_archive(path: Path, columns: Columns) -> Listing:
    folder = unpack(path)
    try:
        listing = _read_directory(folder, columns)
    except DataError as error:
        raise DataError(f"{path}, unpacked: {error}") from error
    # An archive may come from anywhere: its table must not reach for other files. Pictures that
    # are embedded in it are unpacked into a folder of their own.
    allowed = [folder.resolve()]
    if listing.root.parent == cache_folder(PICTURES):
        allowed.append(listing.root.resolve())
    if columns.image_root is not None:
        allowed.append(columns.image_root.resolve())
    for row in listing.rows:
        place = Path(os.path.realpath(row.path))
        if not any(place.is_relative_to(root) for root in allowed):
            raise DataError(f"{path}: its table names a file outside of the archive: {row.id}")
    return listing


def _read_manifest(path: Path, columns: Columns) -> Listing:
    """List the pictures of a manifest that taxon wrote; its classes and sha256 are fixed."""
    if columns.extra:
        raise DataError(
            f"{path} is a manifest that taxon wrote, and has no column '{columns.extra[0]}'; slice "
            "by group or split, or name the table that it was made from"
        )
    if replace(columns, image_root=None) != Columns():
        raise DataError(f"{path} is a manifest that taxon wrote; leave out the columns")
    manifest = read_manifest(path)
    rows = tuple(
        Row(
            id=record.id,
            path=_manifest_path(record, path.parent, columns.image_root),
            labels=record.labels,
            unknown=record.unknown,
            split=record.split,
            group=record.group,
            weight=record.weight,
            sha256=record.sha256,
        )
        for record in manifest.records
    )
    space = manifest.label_space
    kind: Kind = "tags" if space.task == "multilabel" else "flat"
    kind = "taxonomy" if space.is_taxonomy else kind
    root = columns.image_root or (manifest.root if manifest.root.is_dir() else path.parent)
    return Listing(root, rows, kind, skipped=manifest.skipped, space=space)


def _manifest_path(record: Record, beside: Path, image_root: Path | None) -> Path:
    """Return where the picture lies: beside the manifest, which may have moved, or as it says."""
    if image_root is not None:
        return image_root / record.id
    moved = beside / record.id
    return moved if moved.is_file() else record.path
