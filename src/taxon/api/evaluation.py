"""Evaluate: measure a model on pictures that it has never seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taxon.api.reporting import write_evaluation_report
from taxon.bundle import Bundle, read_bundle
from taxon.bundle.layout import EVALUATIONS_FOLDER, MANIFEST_FILE, METRICS_FILE, REPORT_FOLDER
from taxon.core.errors import ConfigError, DataError, ImageError, nearest
from taxon.core.files import require_free, require_writable, write_json
from taxon.core.fingerprint import sha256_bytes
from taxon.core.predictions import PredictionTable
from taxon.data import Columns, Manifest, Record, data_path, load_manifest, read_manifest
from taxon.data.annotations import unknown_in_words
from taxon.data.manifest import SPLIT_WORDS
from taxon.inference import load_predictor
from taxon.inference.load import BackendName
from taxon.inference.table import predict_table, write_table
from taxon.preprocessing.decode import read_picture

if TYPE_CHECKING:
    from taxon.evaluation import Metrics

ALL = "all"
REPORT_FILE = f"{REPORT_FOLDER}/report.html"


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        metrics: the content of metrics.json.
        table: the predictions, a row a picture.
        folder: where metrics.json and report/ were written.
        notes: what was left out, and why.
    """

    metrics: Metrics
    table: PredictionTable
    folder: Path
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        """The report, one self-contained HTML file."""
        return self.folder / REPORT_FILE


def evaluate(
    path: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    columns: Columns | None = None,
    backend: BackendName = "auto",
    overwrite: bool = False,
    explain: bool = True,
) -> Evaluation:
    """Measure a model folder, and write metrics.json and report/.

    Args:
        path: the model folder.
        data: a labelled data set; None takes the part `split` of the model's own manifest.
            Pictures that the run trained, selected or calibrated on are left out and counted.
        split: `test`, `val` (`validation`), `calibration`, `train` or `all`. Without `data`
            the default is `test`. With `data`, None scores all that the run has not seen, a
            part needs data that name their parts, and `all` scores seen pictures too.
        out: where to write; None writes into the model folder, with `data` into
            `evaluations/DATA` in it (`DATA-SPLIT`, `DATA-2`, ...), so that neither the run's own
            figures nor those of other data are lost.
        overwrite: replace what an earlier evaluation wrote to `out`.
        explain: show in the report what the model looked at, for at most 24 answers and for at
            most about a minute.

    Raises:
        OutputError: `out` holds something that may not be replaced.
        DataError: no pictures to score, or classes that the model does not have.
    """
    from taxon.evaluation import compute_metrics

    if split is not None and split != ALL and split not in SPLIT_WORDS:
        allowed = [*SPLIT_WORDS, ALL]
        raise ConfigError(
            f"unknown part '{split}'; allowed: {', '.join(allowed)}.{nearest(split, allowed)}"
        )
    source = None if data is None else data_path(data)
    bundle = read_bundle(Path(path))
    if out is not None:
        folder = Path(out)
        require_free(folder, replace_if=REPORT_FILE if overwrite else None)
    else:
        folder = _default_folder(bundle, source, split)
    require_writable(folder / REPORT_FILE)
    manifest, notes = _choose(bundle, source, split, columns)
    manifest, changed = _still_there(manifest)
    notes += changed
    if unknown := unknown_in_words(manifest):
        notes.append(f"{unknown}: no figure counts them")
    predictor = load_predictor(bundle.path, backend=backend)
    table = predict_table(predictor, manifest.records)
    metrics = compute_metrics(
        table,
        manifest.targets(),
        bundle.spec.label_space,
        bundle.spec.policy,
        groups=_groups(manifest.records),
        about=_about(bundle, source, split, predictor.backend.name, notes),
    )
    write_table(
        table,
        folder / REPORT_FOLDER / "predictions.parquet",
        bundle.spec.label_space,
        bundle.spec.policy,
        manifest.targets(),
    )
    notes += write_evaluation_report(
        folder / REPORT_FILE, metrics, table, manifest, bundle, predictor, explain=explain
    )
    # Last: whoever finds it finds the report and the table too.
    write_json(folder / METRICS_FILE, metrics.as_json())
    return Evaluation(metrics, table, folder, tuple(notes))


def _default_folder(bundle: Bundle, data: Path | None, split: str | None) -> Path:
    """The model's own folder; of other data one by their name, numbered where other data of that
    name (`labels.csv`) have it."""
    if data is None:
        return bundle.path
    name = data.resolve().stem if split is None else f"{data.resolve().stem}-{split}"
    home = bundle.path / EVALUATIONS_FOLDER
    folder, number = home / name, 1
    while not _is_free_for(data, folder):
        number += 1
        folder = home / f"{name}-{number}"
    return folder


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


def _choose(
    bundle: Bundle, data: Path | None, split: str | None, columns: Columns | None
) -> tuple[Manifest, list[str]]:
    """The pictures to score, and what was left out."""
    seen = read_manifest(bundle.path / MANIFEST_FILE)
    if data is None:
        split = split or "test"
        manifest = seen if split == ALL else seen.part(SPLIT_WORDS[split])
        if not len(manifest):
            parts = ", ".join(f"{name} ({count})" for name, count in seen.split_counts().items())
            raise DataError(
                f"{bundle.path} has no pictures in the part '{split}'; it has: {parts}. Name a "
                f"data set (taxon evaluate {bundle.path} DATA) or another part (--split val)"
            )
        return manifest, []
    manifest = load_manifest(
        data,
        columns,
        label_space=bundle.spec.label_space,
        spec=bundle.spec.preprocessing,
    )
    unusable = sum(row.kind != "plan" for row in manifest.skipped)
    notes = [f"{unusable} pictures or rows cannot be used"] if unusable else []
    if split == ALL:
        return manifest, notes
    if split is not None:
        if not manifest.split_counts():
            raise DataError(f"{data} names no parts, so there is no '{split}'; leave --split out")
        manifest = manifest.part(SPLIT_WORDS[split])
    known = {record.sha256 for record in seen.records if record.split != "test"}
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


def _still_there(manifest: Manifest) -> tuple[Manifest, list[str]]:
    """Leave out pictures that were moved, removed or changed since the manifest was made."""
    gone = {record.id for record in manifest.records if not _is_unchanged(record)}
    if not gone:
        return manifest, []
    if len(gone) == len(manifest):
        raise DataError(
            f"none of the {len(gone)} pictures is where it was (say "
            f"{manifest.records[0].path}); name the data set: taxon evaluate RUN DATA"
        )
    kept = manifest.where(lambda record: record.id not in gone)
    return kept, [f"{len(gone)} pictures are gone or have changed since training: left out"]


def _is_unchanged(record: Record) -> bool:
    try:
        return sha256_bytes(read_picture(record.path)) == record.sha256
    except ImageError:
        return False


def _groups(records: Sequence[Record]) -> npt.NDArray[np.int64] | None:
    """A number a group, for intervals over groups; None where no picture has one."""
    if all(record.group is None for record in records):
        return None
    names = [record.group or f"picture {record.id}" for record in records]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _about(
    bundle: Bundle, data: Path | None, split: str | None, backend: str, notes: list[str]
) -> dict[str, Any]:
    provenance = bundle.info.provenance
    return {
        "model": bundle.info.name,
        "backbone": bundle.info.backbone,
        "fingerprint": bundle.info.fingerprint,
        "data_fingerprint": provenance.data_fingerprint,
        "data": str(data) if data is not None else "the run's own manifest",
        **({} if data is None else {"data_path": str(data.resolve())}),
        "part": split or ("test" if data is None else f"unseen pictures of {data}"),
        "computed_with": backend,
        "command": provenance.command,
        "trained": provenance.created,
        "versions": provenance.versions,
        "left_out": list(notes),
    }
