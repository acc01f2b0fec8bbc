"""Pictures and class numbers inside Arrow and Parquet files -> files and class names."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from PIL import Image

from taxon.core.errors import DataError
from taxon.core.text import agree, counted
from taxon.data.sources.unpacked import unpacked
from taxon.preprocessing.decode import SUFFIXES

PICTURES = "pictures"  # the kind of cache that they are unpacked into
_INDEX = ".taxon-index.json"  # the path of each row's picture, None where there is none
_NO_NAME = re.compile(r"[^\w.-]+")


def image_column(schema: pa.Schema, features: Mapping[str, Any], chosen: str | None) -> str | None:
    """Return the column of embedded pictures, or None if there is none.

    Args:
        features: what `datasets` says about the columns.
        chosen: the column that the user named for paths; None takes the only one.

    Raises:
        DataError: several such columns, and none was chosen.
    """
    found = [field.name for field in schema if _holds_pictures(field, features.get(field.name))]
    if chosen is not None:
        return chosen if chosen in found else None
    if len(found) > 1:
        raise DataError(
            f"the columns {', '.join(found)} all hold pictures; name one with --path-column"
        )
    return found[0] if found else None


def _holds_pictures(field: pa.Field, feature: object) -> bool:
    kind = field.type
    if not pa.types.is_struct(kind):
        return False
    children = {kind.field(position).name for position in range(kind.num_fields)}
    said = isinstance(feature, dict) and feature.get("_type") == "Image"
    return "bytes" in children and (said or children <= {"bytes", "path"})


def class_names(feature: object) -> tuple[str, ...]:
    """Return the names that a `ClassLabel`, or a list of them, gives to its numbers."""
    while isinstance(feature, list | dict):
        if isinstance(feature, list):
            feature = feature[0] if len(feature) == 1 else None
        elif feature.get("_type") in ("Sequence", "List", "LargeList"):
            feature = feature.get("feature")
        else:
            names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
            fine = isinstance(names, list) and all(isinstance(name, str) for name in names)
            return tuple(names) if fine and names else ()
    return ()


def translate(
    cells: dict[str, object], names: Mapping[str, tuple[str, ...]], place: str
) -> dict[str, object]:
    """Put class names in the place of their numbers; -1 is no class, as `datasets` has it.

    Raises:
        DataError: a number without a name.
    """

    def name(value: object, known: Sequence[str]) -> object:
        if value is None or value == -1:
            return None
        if not isinstance(value, int) or not 0 <= value < len(known):
            raise DataError(
                f"{place}: class number {value!r} has no name; there "
                f"{agree(len(known), 'is', 'are')} {counted(len(known), 'name', 'names')}"
            )
        return known[value]

    for column, known in names.items():
        value = cells.get(column)
        cells[column] = (
            [name(part, known) for part in value] if isinstance(value, list) else name(value, known)
        )
    return cells


def extract_pictures(
    source: Path, files: Sequence[Path], parts: Iterable[tuple[str, Iterator[pa.RecordBatch]]]
) -> tuple[Path, list[str | None]]:
    """Write the pictures of a column to the cache, once.

    Args:
        source: what messages name; paths without bytes count from its folder.
        files: by these the cached folder is known.
        parts: the name of each part, which becomes a folder, and its batches of one column.

    Returns:
        the folder, and for each row the picture's path below it, an absolute path of a picture
        that lies elsewhere, or None.
    """

    def fill(folder: Path) -> None:
        index: list[str | None] = []
        base = (source if source.is_dir() else source.parent).absolute()
        for part, batches in parts:
            (folder / part).mkdir(exist_ok=True)
            for batch in batches:
                for value in batch.column(0):
                    index.append(_write(_content(value, source), len(index), folder, part, base))
        (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")

    folder = unpacked(PICTURES, _NO_NAME.sub("_", source.stem), files, fill)
    return folder, json.loads((folder / _INDEX).read_text(encoding="utf-8"))


def _content(value: pa.Scalar, source: Path) -> tuple[bytes | None, str | None]:
    try:
        cell = value.as_py() or {}
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{source} cannot be read: {error}") from error
    data, name = cell.get("bytes"), cell.get("path")
    return (
        data if isinstance(data, bytes) else None,
        name if isinstance(name, str) and name else None,
    )


def _write(
    content: tuple[bytes | None, str | None], position: int, folder: Path, part: str, base: Path
) -> str | None:
    data, name = content
    if data is None:
        return str(base / name) if name is not None else None
    original = PurePosixPath((name or "").replace("\\", "/"))
    suffix = original.suffix if original.suffix.lower() in SUFFIXES else _suffix(data)
    stem = _NO_NAME.sub("_", original.stem)[:50]
    file = f"{position:06d}{'-' if stem else ''}{stem}{suffix}"
    relative = PurePosixPath(part, file)
    (folder / relative).write_bytes(data)
    return str(relative)


def _suffix(data: bytes) -> str:
    """Return the suffix of a picture's format; what is none is told when it is looked at."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            name = image.format or ""
    except Exception:  # Pillow's parsers raise many kinds on damaged headers
        return ".bin"
    return {"JPEG": ".jpg", "TIFF": ".tif", "MPO": ".jpg"}.get(name, f".{name.lower()}")
