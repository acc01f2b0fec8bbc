"""Data sets of Hugging Face `datasets`, read without that package.

A saved data set (`save_to_disk`) and Parquet files as the hub holds them. Embedded pictures are
written to the cache once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxon.core.errors import DataError
from taxon.core.text import agree, some
from taxon.data.manifest import SPLIT_WORDS
from taxon.data.sources.embedded import class_names, extract_pictures, image_column, translate
from taxon.data.sources.listing import Columns, Listing
from taxon.data.sources.table_files import Table, load_json, read_text
from taxon.data.sources.tables import LABEL_NAMES, list_table, wanted_columns

_DICT_FILE, _STATE_FILE, _INFO_FILE = "dataset_dict.json", "state.json", "dataset_info.json"
_SHARD = re.compile(r"(?P<part>\w+(\.\w+)*)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")
_BATCH = 64  # rows of embedded pictures in memory at a time


@dataclass(frozen=True)
class _Part:
    """The files of one part; all parts together are the data set."""

    name: str
    files: tuple[Path, ...]


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / _DICT_FILE).is_file() or (
        (folder / _STATE_FILE).is_file() and (folder / _INFO_FILE).is_file()
    )


def read_saved(folder: Path, columns: Columns) -> Listing:
    """Read what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    Raises:
        DataError: files absent or damaged, columns that cannot be understood.
    """
    if not (folder / _DICT_FILE).is_file():
        return _read_parts(folder, [_saved_part(folder)], _features(folder), columns)
    names = _object(folder / _DICT_FILE).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{folder / _DICT_FILE} names no splits")
    for name in names:
        _require_inside(name, folder / _DICT_FILE)
    parts = [replace(_saved_part(folder / name), name=name) for name in names]
    return _read_parts(folder, parts, _features(folder / names[0]), columns)


def shards(folder: Path) -> list[Path]:
    """Return the Parquet files of a data set as the hub lays it out (`train-00000-of-00001`)."""
    found = [*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]
    return sorted(path for path in found if _SHARD.fullmatch(path.name))


def read_shards(folder: Path, columns: Columns) -> Listing:
    """Read the Parquet files of a data set as the hub lays it out.

    Raises:
        DataError: files damaged, columns that cannot be understood.
    """
    files: dict[str, list[Path]] = {}
    for path in shards(folder):
        match = _SHARD.fullmatch(path.name)
        assert match is not None
        files.setdefault(match["part"], []).append(path)
    parts = [_Part(name, tuple(paths)) for name, paths in files.items()]
    return _read_parts(folder, parts, {}, columns)


def has_pictures(path: Path) -> bool:
    """Whether a Parquet file has a column of embedded pictures."""
    schema = _schema(path)
    return image_column(schema, _schema_features(schema), None) is not None


def read_parquet_pictures(path: Path, columns: Columns) -> Listing:
    """Read one Parquet file with embedded pictures.

    Raises:
        DataError: damaged, columns that cannot be understood.
    """
    return _read_parts(path, [_Part("", (path,))], {}, columns)


def _read_parts(
    source: Path, parts: list[_Part], features: Mapping[str, Any], columns: Columns
) -> Listing:
    """Read the parts, in order, as one table; the number of a row counts through all of them."""
    if not all(part.files for part in parts):
        raise DataError(f"{source} holds no files with data")
    parts, notes = _check_names(parts, source)
    schema = _schema(parts[0].files[0])
    features = features or _schema_features(schema)
    image = image_column(schema, features, columns.path if columns.path != Columns.path else None)
    root, pictures = _extract(source, parts, image) if image is not None else (None, [])
    wanted = [name for name in schema.names if name in {*wanted_columns(columns), *features}]
    names = {name: found for name in wanted if (found := class_names(features.get(name)))}
    # A class of another kind is refused rather than taken for none.
    classes = {*LABEL_NAMES, *columns.label, *columns.tags} - {image}
    wanted = [name for name in wanted if name in classes or _is_plain(schema.field(name).type)]
    rows: list[dict[str, object]] = []
    for part in parts:
        for batch in _batches(part.files, wanted):
            for cells in _plain_rows(batch, source):
                if part.name:
                    cells[columns.split] = part.name
                rows.append(translate(cells, names, f"{source}, row {len(rows) + 1}"))
    if image is not None:
        if len(pictures) != len(rows):
            raise DataError(f"{source} is damaged: its columns do not have equally many rows")
        for cells, picture in zip(rows, pictures, strict=True):
            cells[image] = picture
    header = dict.fromkeys([*schema.names, *([columns.split] if parts[0].name else [])])
    folder = root or (source if source.is_dir() else source.parent)
    table = Table(source, tuple(header), tuple(enumerate(rows, start=1)), names, folder, image)
    listing = list_table(table, columns)
    return replace(listing, notes=(*notes, *listing.notes))


def _extract(source: Path, parts: list[_Part], image: str) -> tuple[Path, list[str | None]]:
    files = [file for part in parts for file in part.files]
    batches = ((part.name, _batches(part.files, [image])) for part in parts)
    return extract_pictures(source, files, batches)


def _check_names(parts: list[_Part], source: Path) -> tuple[list[_Part], list[str]]:
    """Several parts are a split; one alone is all of the data, whatever its name."""
    if len(parts) == 1:
        note = f"the only part '{parts[0].name}' is taken as all of the data"
        return [replace(parts[0], name="")], [note] if parts[0].name else []
    unknown = sorted(part.name for part in parts if part.name.lower() not in SPLIT_WORDS)
    if unknown:
        raise DataError(
            f"{source} has the {agree(len(unknown), 'part', 'parts')} {some(unknown)}, which "
            f"{agree(len(unknown), 'is', 'are')} none of "
            f"{', '.join(sorted(SPLIT_WORDS))}; name the files of one part alone"
        )
    return parts, []


def _is_plain(kind: pa.DataType) -> bool:
    return not (pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_map(kind))


def _saved_part(folder: Path) -> _Part:
    state = _object(folder / _STATE_FILE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{folder} was saved by an old version of `datasets` with a table of indices; save "
            "it again with flatten_indices()"
        )
    entries = state.get("_data_files")
    names = [
        entry["filename"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str)
    ]
    if not names:
        raise DataError(f"{folder / _STATE_FILE} names no data files")
    for name in names:
        _require_inside(name, folder / _STATE_FILE)
    return _Part("", tuple(folder / name for name in names))


def _require_inside(name: str, source: Path) -> None:
    """Refuse what lies elsewhere: a data set from an archive must not reach for other files."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise DataError(f"{source} names '{name}', which lies outside of its folder")


def _features(folder: Path) -> Mapping[str, Any]:
    found = _object(folder / _INFO_FILE).get("features")
    return found if isinstance(found, dict) else {}


def _object(path: Path) -> dict[str, Any]:
    value = load_json(read_text(path), str(path))
    if not isinstance(value, dict):
        raise DataError(f"{path} is no JSON object")
    return value


def _schema(path: Path) -> pa.Schema:
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            return reader.schema
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _schema_features(schema: pa.Schema) -> Mapping[str, Any]:
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        features = info["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _batches(files: tuple[Path, ...], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read the columns of several files, some rows at a time."""
    for path in files:
        try:
            if path.suffix == ".parquet":
                yield from pq.ParquetFile(path).iter_batches(_BATCH, columns=columns)
            else:
                with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                    for batch in reader:
                        yield batch.select(columns)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def _plain_rows(batch: pa.RecordBatch, source: Path) -> list[dict[str, object]]:
    try:
        # Without columns Arrow would make no rows at all.
        return batch.to_pylist() if batch.num_columns else [{} for _ in range(batch.num_rows)]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{source} cannot be read: {error}") from error
