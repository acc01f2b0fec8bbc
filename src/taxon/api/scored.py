"""Which pictures an evaluation scores, and where its figures go."""

from __future__ import annotations

import json
from pathlib import Path

from taxon.api.pictures import SEEN, UNKNOWN, own_manifest
from taxon.bundle import Bundle
from taxon.bundle.layout import EVALUATIONS_FOLDER, METRICS_FILE
from taxon.core.errors import DataError
from taxon.core.files import numbered
from taxon.data import Columns, Manifest, load_manifest
from taxon.data.manifest import SPLIT_WORDS

ALL = "all"


def default_folder(bundle: Bundle, data: Path | None, split: str | None) -> Path:
    """Return where figures go: the model's own folder for its test part, one below it for others.

    Of other data by their name, numbered where other data of that name (`labels.csv`) have it.
    """
    if data is None and (split is None or SPLIT_WORDS.get(split) == "test"):
        return bundle.path
    if data is None:
        return bundle.path / EVALUATIONS_FOLDER / f"own-{SPLIT_WORDS.get(split or ALL, ALL)}"
    name = data.resolve().stem if split is None else f"{data.resolve().stem}-{split}"
    folder = bundle.path / EVALUATIONS_FOLDER / name
    return numbered(folder, lambda folder: _is_free_for(data, folder))


def _is_free_for(data: Path, folder: Path) -> bool:
    """Whether a folder holds no figures yet, or older ones of the same data."""
    file = folder / METRICS_FILE
    if not file.exists():
        return True
    try:
        evaluated: object = json.loads(file.read_text("utf-8"))["about"]["data_path"]
    except (ValueError, LookupError, TypeError):
        return False  # damaged, or by an older version: left as it is
    return evaluated == str(data.resolve())


def choose_pictures(
    bundle: Bundle, data: Path | None, split: str | None, columns: Columns | None
) -> tuple[Manifest, list[str]]:
    """Return the pictures to score, and notes on what was left out.

    Raises:
        DataError: there is none.
    """
    seen = own_manifest(bundle.path)
    if data is None and seen is None:
        raise DataError(
            f"{bundle.info.name} has no manifest of its own pictures, as models that were "
            "published: name a data set (taxon evaluate RUN DATA)"
        )
    if data is None:
        assert seen is not None
        split = split or "test"
        manifest = seen if split == ALL else seen.part(SPLIT_WORDS[split])
        if not len(manifest):
            parts = ", ".join(f"{name} ({count})" for name, count in seen.split_counts().items())
            raise DataError(
                f"{bundle.path} has no pictures in the part '{split}'; it has: {parts}. Name a "
                f"data set (taxon evaluate {bundle.path} DATA) or another part (--split val)"
            )
        seen_ones = any(record.split != "test" for record in manifest.records)
        return manifest, [SEEN] if seen_ones else []
    manifest = load_manifest(
        data,
        columns,
        label_space=bundle.spec.label_space,
        spec=bundle.spec.preprocessing,
    )
    unusable = sum(row.kind != "plan" for row in manifest.skipped)
    notes = [f"{unusable} pictures or rows cannot be used"] if unusable else []
    records = () if seen is None else seen.records
    notes += [UNKNOWN] if seen is None else []
    known = {record.sha256 for record in records if record.split != "test"}
    if split == ALL:
        seen_ones = any(record.sha256 in known for record in manifest.records)
        return manifest, [*notes, *([SEEN] if seen_ones else [])]
    if split is not None:
        if not manifest.split_counts():
            raise DataError(f"{data} names no parts, so there is no '{split}'; leave --split out")
        parts = ", ".join(f"{name} ({count})" for name, count in manifest.split_counts().items())
        manifest = manifest.part(SPLIT_WORDS[split])
        if not len(manifest):
            raise DataError(f"{data} has no pictures in the part '{split}'; it has: {parts}")
    fresh = manifest.where(lambda record: record.sha256 not in known)
    if len(fresh) < len(manifest):
        notes.append(
            f"{len(manifest) - len(fresh)} pictures that the run trained, selected or "
            "calibrated on were left out"
        )
    if not len(fresh):
        raise DataError(
            f"the run has seen all {len(manifest)} pictures of {data}: scoring them would say "
            "nothing. Name other pictures, or add --split all to score them all the same"
        )
    return fresh, notes
