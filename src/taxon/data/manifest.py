"""The manifest: every picture with its labels, its sha256 and its part, as one table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from taxon.core.errors import DataError
from taxon.core.files import atomic_file
from taxon.core.fingerprint import sha256_json
from taxon.core.labels import LabelSpace

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
        group: pictures of one group (a patient, a part) stay in one part of the split.
        split: the part, or None before the split.
        width, height: in pixels, upright.
    """

    id: str
    path: Path
    sha256: str
    labels: tuple[str, ...]
    group: str | None = None
    split: Split | None = None
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that cannot be read, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All pictures of a data set.

    Attributes:
        records: in the order of their ids.
        label_space: the classes.
        root: the folder that relative ids count from.
        skipped: pictures that cannot be read; they take part in nothing.
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
            [record.sha256, list(record.labels), record.group or "", record.split or ""]
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
        """Targets in the label space: int64 [N] (multiclass) or [N, C] (multilabel)."""
        return self.label_space.targets([record.labels for record in self.records])

    def counts(self) -> dict[str, int]:
        """Pictures per class, for every class of the label space."""
        found = Counter(label for record in self.records for label in record.labels)
        return {name: found[name] for name in self.label_space.names}

    def split_counts(self) -> dict[str, int]:
        """Pictures per part, for the parts that hold any."""
        found = Counter(record.split for record in self.records)
        return {split: found[split] for split in SPLITS if found[split]}


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest as Parquet; the label space and root go into the file's metadata."""
    columns = {
        "id": [record.id for record in manifest.records],
        "path": [str(record.path) for record in manifest.records],
        "sha256": [record.sha256 for record in manifest.records],
        "labels": [list(record.labels) for record in manifest.records],
        "group": [record.group for record in manifest.records],
        "split": [record.split for record in manifest.records],
        "width": [record.width for record in manifest.records],
        "height": [record.height for record in manifest.records],
    }
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("path", pa.string()),
            ("sha256", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("group", pa.string()),
            ("split", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
        ],
        metadata={
            "taxon.labels": manifest.label_space.model_dump_json(),
            "taxon.root": str(manifest.root),
            "taxon.skipped": json.dumps([[row.id, row.reason] for row in manifest.skipped]),
            "taxon.notes": json.dumps(manifest.notes),
        },
    )
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that `write_manifest` wrote.

    Raises:
        DataError: absent, damaged or not a manifest.
    """
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        label_space = LabelSpace.model_validate_json(metadata[b"taxon.labels"])
        records = tuple(
            Record(
                id=row["id"],
                path=Path(row["path"]),
                sha256=row["sha256"],
                labels=tuple(row["labels"]),
                group=row["group"],
                split=row["split"],
                width=row["width"],
                height=row["height"],
            )
            for row in table.to_pylist()
        )
        root = Path(metadata[b"taxon.root"].decode())
        skipped = tuple(Skipped(*pair) for pair in json.loads(metadata[b"taxon.skipped"]))
        notes = tuple(json.loads(metadata[b"taxon.notes"]))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"{path} is not a manifest that can be read: {error}") from error
    return Manifest(records, label_space, root, skipped, notes)
