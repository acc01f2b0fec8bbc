"""Fit the decision policy of a model folder anew: other thresholds, another promise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from taxon.api.card import write_card
from taxon.api.exporting import export_own_onnx
from taxon.api.references import write_calibration_reference
from taxon.bundle import Bundle, read_bundle
from taxon.bundle.artefact import artefact_folder
from taxon.bundle.hub import local_folder, require_changeable
from taxon.bundle.layout import (
    ARTEFACTS_FOLDER,
    BUNDLE_FILE,
    DECISION_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    REPORT_FOLDER,
)
from taxon.bundle.scope import write_bank
from taxon.bundle.write import seal
from taxon.config import TrainConfig
from taxon.config.load import with_overrides
from taxon.core.errors import CheckFailed, DataError
from taxon.core.files import atomic_folder, write_json
from taxon.data import Manifest, read_manifest
from taxon.data.presence import is_unchanged
from taxon.decision import DecisionPolicy
from taxon.decision.fit import PolicyFit
from taxon.decision.fitting.requirements import require_decidable
from taxon.exporters import artefact_reports
from taxon.models.stack import require_torch_stack
from taxon.training import Listener, Note, silent

DECISION = "decision: "  # how notes on the policy begin


def refit_policy(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    listener: Listener = silent,
) -> DecisionPolicy:
    """Fit the policy of a model folder anew, on its calibration part; the weights stay.

    The model folder is replaced as a whole, or not at all. Its ONNX artefact is exported anew;
    other artefacts become stale, and `verify` says so. Figures and report of the run's own parts
    go: they are those of the old policy.

    Args:
        path: the model folder.
        overrides: `decision.key=value`, over the configuration that the run was trained with.
        listener: told what was found.

    Raises:
        DataError: pictures of the calibration part are gone or have changed.
        ConfigError: a key or class that there is not, or keys other than those of the decision.
        CheckFailed: a promise that cannot be kept; nothing was changed.
    """
    # Resolved: `.` and a link to a folder cannot be put in the place of themselves.
    folder = local_folder(path).resolve()
    require_changeable(folder, path)
    bundle = read_bundle(folder)
    trained = TrainConfig.model_validate(bundle.info.provenance.config)
    config = with_overrides(trained, overrides, only="decision")
    require_decidable(config.decision, bundle.spec.label_space)
    require_torch_stack()
    manifest = read_manifest(bundle.path / MANIFEST_FILE)
    lost = _lost(manifest, bundle.path)
    fitted = _fit(bundle, manifest, lost, config, device)
    if fitted.broken:
        raise CheckFailed(f"{fitted.broken[0]}. Nothing was changed; ask for less")
    for note in fitted.notes:
        listener(Note(f"{DECISION}{note}"))
    if lost:
        listener(Note(f"{len(lost)} training pictures are gone: new ones are compared with others"))
    _write(bundle, manifest, fitted, config, listener)
    return fitted.policy


def _lost(manifest: Manifest, run: Path) -> frozenset[str]:
    """The ids of training pictures that are gone; all of the calibration part must be there."""
    from taxon.api.deciding import calibration_part

    calibration = calibration_part(manifest)
    if not len(calibration):
        raise DataError(
            f"{run} has neither a calibration nor a validation part: there is nothing to fit on"
        )
    gone = [record for record in calibration.records if not is_unchanged(record)]
    if gone:
        raise DataError(
            f"{len(gone)} of the {len(calibration)} pictures that {run} was calibrated on are gone "
            f"or have changed (say {gone[0].path}); a policy fitted on the others would not be "
            "comparable. Put them back where they were"
        )
    train = manifest.part("train").records
    return frozenset(record.id for record in train if not is_unchanged(record))


def _fit(
    bundle: Bundle, manifest: Manifest, lost: frozenset[str], config: TrainConfig, device: str
) -> PolicyFit:
    import torch

    from taxon.api.deciding import fit_decisions
    from taxon.api.fine_tuning import imbalance_plan
    from taxon.models.restore import restore_classifier
    from taxon.training.device import choose_device

    place = torch.device(choose_device(device))
    return fit_decisions(
        restore_classifier(bundle).to(place),
        manifest.where(lambda record: record.id not in lost),
        bundle.spec.preprocessing,
        config,
        # Of all pictures that it was trained on: what is lost since changed nothing.
        imbalance_plan(config, manifest.part("train")),
        place,
    )


def _write(
    bundle: Bundle, manifest: Manifest, fitted: PolicyFit, config: TrainConfig, listener: Listener
) -> None:
    """Write the folder anew, files that stay as links, and put it in place of the old one."""
    from taxon.api.golden import refresh_golden

    with atomic_folder(bundle.path, replace_if=BUNDLE_FILE) as temporary:
        _link(bundle.path, temporary, leave_out={METRICS_FILE, REPORT_FOLDER})
        write_json(temporary / DECISION_FILE, fitted.policy.model_dump(mode="json"))
        write_bank(temporary, fitted.bank)
        refresh_golden(bundle, temporary, fitted)
        info, provenance = bundle.info, bundle.info.provenance
        others = [note for note in provenance.notes if not note.startswith(DECISION)]
        notes = (*others, *(f"{DECISION}{note}" for note in fitted.notes))
        update = {"config": config.model_dump(mode="json"), "notes": notes}
        seal(
            temporary,
            name=info.name,
            backbone=info.backbone,
            head=info.head,
            pooling=info.pooling,
            label_space=bundle.spec.label_space,
            provenance=provenance.model_copy(update=update),
        )
        try:
            artefact = export_own_onnx(temporary)
        except CheckFailed as error:
            reason = str(error).partition("; the artefact was moved")[0]
            raise CheckFailed(f"{reason}. Nothing was changed") from error
        for report in artefact_reports(artefact):
            listener(Note(f"ONNX exported: {report.sentence()}"))
        write_calibration_reference(temporary, manifest)
        for note in write_card(read_bundle(temporary)):
            listener(Note(note))
        stale = _other_artefacts(temporary)
    if stale:
        listener(Note(f"artefacts of the old policy, to be exported again: {', '.join(stale)}"))


def _link(source: Path, target: Path, *, leave_out: set[str]) -> None:
    """Fill `target` with the content of `source`; files are links where the disk allows it.

    All writers rename a new file into place, so that a link's other end stays as it is.
    """

    def link(file: str, copy: str) -> None:
        try:
            # Of a symbolic link its content: a link to it would let a writer reach what it names.
            os.link(Path(file).resolve(), copy)
        except OSError:  # a file system without hard links
            shutil.copy2(file, copy)

    for entry in source.iterdir():
        if entry.name in leave_out:
            continue
        if entry.is_dir():
            shutil.copytree(entry, target / entry.name, copy_function=link)
        else:
            link(str(entry), str(target / entry.name))


def _other_artefacts(run: Path) -> list[str]:
    own = artefact_folder(run, "onnx").name
    return sorted(
        folder.name
        for folder in (run / ARTEFACTS_FOLDER).iterdir()
        if folder.is_dir() and folder.name not in (own, "rejected")
    )
