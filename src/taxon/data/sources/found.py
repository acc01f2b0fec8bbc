"""Tables in a folder that are not called `labels.*`: data.csv, annotations/instances.json."""

from __future__ import annotations

from pathlib import Path

from taxon.core.errors import DataError
from taxon.data.manifest import is_manifest
from taxon.data.sources.coco import is_coco
from taxon.data.sources.huggingface import has_pictures
from taxon.data.sources.listing import Columns
from taxon.data.sources.table_files import READERS, load_json, read_table_file, read_text
from taxon.data.sources.tables import FILE_NAME, LABEL_NAMES

_ANNOTATIONS = "annotations"  # where COCO keeps its files, beside the pictures
_MANY = 20  # more of a kind are one file a picture, as labelling tools write them
_SEPARATED = (".csv", ".tsv")


def tables_in(folder: Path, columns: Columns) -> list[Path]:
    """Return the files in a folder that list pictures: tables, manifests and COCO, sorted.

    A table counts if it has a column of paths and one of labels, or, being CSV, cannot be read:
    then nobody can tell.
    """
    below = _candidates(folder / _ANNOTATIONS)
    return [
        *(path for path in _candidates(folder) if _lists_pictures(path, columns)),
        *(path for path in below if path.suffix.lower() == ".json" and _is_coco(path)),
    ]


def _candidates(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if suffix in READERS and not path.name.startswith(".") and path.is_file():
            found.setdefault(suffix, []).append(path)
    return [path for paths in found.values() if len(paths) <= _MANY for path in paths]


def _lists_pictures(path: Path, columns: Columns) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".json" and _is_coco(path):
        return True
    try:
        if suffix == ".parquet" and (has_pictures(path) or is_manifest(path)):
            return True
        header = set(read_table_file(path, ()).header)
    except DataError:
        return suffix in _SEPARATED
    labels = {*LABEL_NAMES, *columns.label, *columns.tags}
    return bool(header & {columns.path, FILE_NAME}) and bool(header & labels)


def _is_coco(path: Path) -> bool:
    try:
        return is_coco(load_json(read_text(path), str(path)))
    except DataError:
        return False
