"""A manifest as a CSV table, for other tools; taxon reads it back too."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.files import write_text
from taxon.core.labels import UNKNOWN_MARK
from taxon.data.manifest import Manifest, Record
from taxon.data.sources.label_cells import split_marked
from taxon.data.sources.words import TAG_SEPARATOR

_HEADERS = tuple(("path", label, "split", "group", "weight") for label in ("label", "labels"))


def write_manifest_table(manifest: Manifest, path: Path) -> None:
    """Write path, label (or labels, separated by `|`), split, group and weight of every picture.

    A tag that is unknown has a `?` before it. Paths are relative to the table where the pictures
    lie below its folder, else absolute. A taxonomy's class is its whole path (`Fruit/Mango`);
    content and sizes are left out.

    Raises:
        DataError: a tag holds the separator, or begins with the mark of an unknown one.
        OutputError: the file cannot be written.
    """
    several = manifest.label_space.task == "multilabel"
    broken = [name for name in manifest.label_space.names if several and TAG_SEPARATOR in name]
    if broken:
        raise DataError(
            f"the tag '{broken[0]}' holds a '{TAG_SEPARATOR}', which separates tags in a CSV "
            "table; write Parquet (--out manifest.parquet)"
        )
    if several and any(split_marked([name])[1] for name in manifest.label_space.names):
        raise DataError(
            f"a tag begins with '{UNKNOWN_MARK}', which marks unknown tags in a CSV table; write "
            "Parquet (--out manifest.parquet)"
        )
    folder = Path(os.path.abspath(path)).parent
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_HEADERS[several])
    writer.writerows(_cells(record, folder) for record in manifest.records)
    write_text(path, stream.getvalue())


def is_manifest_table(path: Path) -> bool:
    """Whether a file begins like one that `write_manifest_table` wrote."""
    longest = max(len(",".join(header)) for header in _HEADERS) + 1
    try:
        with path.open("rb") as stream:
            start = stream.readline(longest)
    except OSError:
        return False
    return start in {(",".join(header) + "\n").encode() for header in _HEADERS}


def _cells(record: Record, folder: Path) -> tuple[str, ...]:
    path = record.path
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    labels = TAG_SEPARATOR.join(record.marked)
    return name, labels, record.split or "", record.group or "", f"{record.weight:g}"
