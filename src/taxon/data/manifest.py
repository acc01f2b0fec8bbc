"""The manifest: every picture with its labels, its sha256 and its part, as one table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from taxon.core.errors import DataError, ImageProblem
from taxon.core.files import atomic_file
from taxon.core.fingerprint import sha256_json
from taxon.core.labels import UNKNOWN_MARK, LabelSpace
from taxon.data.look import Look

Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "calibration": "calibration",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One picture.

    Attributes:
        id: its path below the root, with forward slashes; unique.
        path: where the file lies.
        sha256: of the file's content.
        labels: class names; exactly one for multiclass, any number for multilabel.
        unknown: for multilabel, the classes that nobody annotated for it: neither yes nor no.
        group: pictures of one group (a patient, a part) stay in one part of the split.
        split: the part, or None before the split.
        width, height: in pixels, upright.
        weight: how much the picture counts in training; 1 is normal.
        mode: Pillow's name of the pixels' kind as stored.
        file_size: in bytes.
        hash: perceptual hash (64 bits), by which pictures that look the same are found; None
            where nobody looked.
        look: the rest of what the look into the file found; not kept in manifest files.
        extra: cells of further columns of the user's table (`Columns.extra`); not kept in manifest
            files.
    """

    id: str
    path: Path
    sha256: str
    labels: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    group: str | None = None
    split: Split | None = None
    width: int = 0
    height: int = 0
    weight: float = 1.0
    mode: str = ""
    file_size: int = 0
    hash: int | None = None
    look: Look | None = None
    extra: tuple[str, ...] = ()

    @property
    def marked(self) -> tuple[str, ...]:
        """Its labels as people write them, those that are unknown with a `?` before them."""
        return (*self.labels, *(f"{UNKNOWN_MARK}{name}" for name in self.unknown))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture or a row of a table that takes part in nothing, and why.

    Attributes:
        id: of the picture, or the place of the row.
        reason: in words.
        kind: the reason in a word: `row` for a row of a table, `plan` for a picture that a plan
            drops, else what is wrong with the file.
    """

    id: str
    reason: str
    kind: ImageProblem | Literal["row", "plan"] = "row"


@dataclass(frozen=True)
class Manifest:
    """All pictures of a data set.

    Attributes:
        records: in the order of their ids.
        label_space: the classes.
        root: the folder that relative ids count from.
        skipped: pictures that cannot be read and rows that were passed over.
        notes: what else was found while reading, in plain sentences.
    """

    records: tuple[Record, ...]
    label_space: LabelSpace
    root: Path
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def fingerprint(self) -> str:
        """Changes when a picture's content, labels, group or part changes, not when it moves."""
        rows = sorted(
            [
                record.sha256,
                list(record.labels),
                record.group or "",
                record.split or "",
                *([list(record.unknown)] if record.unknown else []),
            ]
            for record in self.records
        )
        return sha256_json([self.label_space.model_dump(mode="json"), rows])

    def part(self, *splits: Split) -> Manifest:
        """Return the manifest of one or several parts."""
        return self.where(lambda record: record.split in splits)

    def where(self, keep: Callable[[Record], bool]) -> Manifest:
        """Return the manifest of the records for which `keep` says yes."""
        return replace(self, records=tuple(filter(keep, self.records)))

    def with_splits(self, splits: Iterable[Split]) -> Manifest:
        """Return the manifest with a part for each record, in order."""
        records = tuple(
            replace(record, split=split) for record, split in zip(self.records, splits, strict=True)
        )
        return replace(self, records=records)

    def targets(self) -> npt.NDArray[np.int64]:
        """Targets in the label space: int64 [N] (multiclass) or [N, C] of 0, 1 and, where it is
        unknown, -1 (multilabel)."""
        labels = [record.labels for record in self.records]
        return self.label_space.targets(labels, [record.unknown for record in self.records])

    def counts(self) -> dict[str, int]:
        """Pictures per class, for every class of the label space."""
        found = Counter(label for record in self.records for label in record.labels)
        return {name: found[name] for name in self.label_space.names}

    def known_counts(self) -> dict[str, int]:
        """Pictures of which it is known whether they have the class, for every class."""
        unknown = Counter(name for record in self.records for name in record.unknown)
        return {name: len(self.records) - unknown[name] for name in self.label_space.names}

    def split_counts(self) -> dict[str, int]:
        """Pictures per part, for the parts that hold any."""
        found = Counter(record.split for record in self.records)
        return {split: found[split] for split in SPLITS if found[split]}


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("unknown", pa.list_(pa.string())),
        ("group", pa.string()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("weight", pa.float64()),
        ("mode", pa.string()),
        ("file_size", pa.int64()),
        ("hash", pa.uint64()),
    ]
)
_LABELS_KEY = b"taxon.labels"
# How a cell becomes the value of a record, where it is not the cell itself.
_VALUES: dict[str, Callable[[Any], Any]] = {"path": Path, "labels": tuple, "unknown": tuple}


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest as Parquet; the label space and root go into the file's metadata."""
    values: dict[str, Callable[[Record], object]] = {
        "path": lambda record: str(record.path),
        "labels": lambda record: list(record.labels),
        "unknown": lambda record: list(record.unknown),
    }
    columns = {
        name: [values.get(name, attrgetter(name))(record) for record in manifest.records]
        for name in _SCHEMA.names
    }
    skipped = [[row.id, row.reason, row.kind] for row in manifest.skipped]
    schema = _SCHEMA.with_metadata(
        {
            _LABELS_KEY: manifest.label_space.model_dump_json(),
            "taxon.root": str(manifest.root),
            "taxon.skipped": json.dumps(skipped),
            "taxon.notes": json.dumps(manifest.notes),
        }
    )
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest that `write_manifest` wrote."""
    try:
        return _LABELS_KEY in (pq.read_schema(path).metadata or {})
    except (OSError, ValueError, pa.ArrowException):
        return False


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that `write_manifest` wrote, of this version or an older one.

    Raises:
        DataError: absent, damaged or not a manifest.
    """
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        label_space = LabelSpace.model_validate_json(metadata[_LABELS_KEY])
        known = [name for name in _SCHEMA.names if name in table.column_names]
        # A damaged file may still be one of Parquet, with columns of other types.
        columns = table.select(known).cast(pa.schema([_SCHEMA.field(name) for name in known]))
        records = tuple(
            Record(**{**row, **{name: _VALUES[name](row[name]) for name in _VALUES if name in row}})
            for row in columns.to_pylist()
        )
        root = Path(metadata[b"taxon.root"].decode())
        skipped = tuple(Skipped(*row) for row in json.loads(metadata[b"taxon.skipped"]))
        notes = tuple(json.loads(metadata[b"taxon.notes"]))
    except FileNotFoundError as error:
        raise DataError(f"there is no such file: {path}") from error
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged, or no manifest that taxon wrote ({_in_words(error)}); "
            "`taxon split DATA --out manifest.parquet` writes one"
        ) from error
    return Manifest(records, label_space, root, skipped, notes)


def _in_words(error: Exception) -> str:
    """What a library says of a file that does not fit, as far as people can use it."""
    if isinstance(error, KeyError):
        key = error.args[0]
        return f"it lacks '{key.decode() if isinstance(key, bytes) else key}'"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "not a whole Parquet file" if isinstance(error, pa.ArrowException) else "it does not fit"
