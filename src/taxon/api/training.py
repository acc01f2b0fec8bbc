"""Train: from a data set to a model folder with a verified ONNX artefact."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from taxon.api.card import write_card
from taxon.api.exporting import export_own_onnx
from taxon.api.following import hand_out, shared_out
from taxon.api.latency import with_budget
from taxon.api.model import Model
from taxon.api.reading import read_training_data, require_task
from taxon.api.references import write_calibration_reference
from taxon.api.settings import training_settings
from taxon.api.workspace import (
    REQUEST_FILE,
    Request,
    Workspace,
    is_unfinished,
    new_workspace,
    old_workspace,
    recover,
    require_apart,
    trackers_file,
)
from taxon.bundle import read_bundle
from taxon.bundle.layout import BUNDLE_FILE, CHECKPOINTS_FOLDER, MANIFEST_FILE, Provenance
from taxon.bundle.scope import write_bank
from taxon.bundle.write import seal, write_parts
from taxon.core.errors import CheckFailed, DivergedError, Interrupted, TaxonError
from taxon.core.files import atomic_folder
from taxon.core.versions import versions
from taxon.data import Columns, Manifest, data_path, read_source, write_manifest
from taxon.data.loading.rare_augmentation import with_pipeline
from taxon.data.sources import Listing
from taxon.exporters import artefact_reports
from taxon.models.stack import require_torch_stack
from taxon.training import Listener, Note, silent
from taxon.training.trackers import track

if TYPE_CHECKING:
    from taxon.api.classifier import Trained


@shared_out
def train(
    data: str | Path,
    *,
    out: str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    imbalance: str | None = None,
    teacher: str | Path | None = None,
    trackers: Sequence[str] = (),
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    budget_ms: float | None = None,
    columns: Columns | None = None,
    trust_pickle: bool = False,
    overwrite: bool = False,
    listener: Listener = silent,
    command: str = "taxon.train(...)",
) -> Model:
    """Train a classifier.

    Args:
        data: a folder with one sub-folder a class (nested: a taxonomy), a table, an archive, or a
            manifest that `split` wrote.
        out: the model folder to write; None makes `runs/DATA-DATE`.
        model: a name of `taxon models`, any timm name, or `hf:user/name[@revision]`: the backbone
            of a model of taxon or of timm on the hub; None takes the default for the device.
        weights: `hub`, `none`, or a file in the own names of the backbone's library.
        recipe: `auto`, `staged`, `probe`, `finetune` or `scratch`; None takes `auto`, without
            pretrained weights `scratch`, and with a teacher `staged`.
        epochs: over all stages together, in their proportions.
        batch_size, seed, device: as in `TrainConfig`.
        imbalance: strategy for rare classes, or several joined by commas, as in
            `ImbalanceConfig`.
        teacher: a model folder or ONNX artefact with the same classes, whose probabilities are
            targets too, as in `DistillationConfig`.
        trackers: where the run can be watched: `tensorboard`, `mlflow` or both.
        config: YAML with any of its keys.
        overrides: `key=value`, nested keys with dots.
        budget_ms: take the backbone of the best published top-1 that answers within so many
            milliseconds on this machine's CPU; not together with `model`.
        columns: of a table.
        trust_pickle: read Ultralytics' .pt weights; a pickle can run any code while it is read.
        overwrite: replace an existing model folder.
        listener: told what happens.
        command: kept in the bundle's provenance.

    Raises:
        InputError: the data, the weights, the configuration or the output cannot be used.
        CheckFailed: the exported artefact is not equal to the trained model, or no backbone keeps
            the budget.
        Interrupted: a signal asked for a stop; `resume` goes on from there.
    """
    settings = training_settings(
        model=model,
        weights=weights,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=device,
        imbalance=imbalance,
        teacher=teacher,
        trackers=trackers,
        config=config,
        overrides=overrides,
        listener=listener,
    )
    source = data_path(data)
    folder = Path(out) if out is not None else default_run(source)
    require_apart(folder, data=source)
    # What is cheap and can fail comes first: names and labels, then torch, backbone and weights.
    columns = (columns or Columns()).absolute()
    listing = read_source(source, columns)
    require_torch_stack()
    require_task(settings, listing.label_space())
    settings, reason = with_budget(settings, budget_ms, listener)
    from taxon.api.starting import pinned

    settings = pinned(settings)
    request = Request(
        data=source.absolute(),
        folder=Path.cwd(),
        columns=columns,
        config=with_pipeline(settings),
        command=command,
        reason=reason,
    )
    with (
        track(settings, folder, listener, kept=trackers_file(folder)) as tell,
        new_workspace(folder, request, overwrite=overwrite) as workspace,
    ):
        return _run(workspace, listing, tell, trust_pickle)


@shared_out
def resume(run: str | Path, *, trust_pickle: bool = False, listener: Listener = silent) -> Model:
    """Go on with a run that was interrupted; it ends with the model that it would have had.

    A run that is finished is returned as it is; one that was interrupted before its first
    checkpoint starts over.

    Args:
        run: the model folder.
        trust_pickle: as in `train`; never kept with the run.
        listener: told what happens.

    Raises:
        InputError: there is no such run, another training is at it, or its data are gone.
    """
    folder = Path(run)
    recover(folder)
    if not is_unfinished(folder) and (folder / BUNDLE_FILE).is_file():
        listener(Note(f"{folder} is finished already"))
        return Model(folder)
    require_torch_stack()
    with (
        old_workspace(folder) as workspace,
        track(workspace.request.config, folder, listener, kept=trackers_file(folder)) as tell,
    ):
        return _run(workspace, None, tell, trust_pickle)


def _run(
    workspace: Workspace, listing: Listing | None, listener: Listener, trust_pickle: bool
) -> Model:
    """Choose, train and write the model folder, or what of it is left to do."""
    # Imported here: the command line and the server start without torch.
    from taxon.api.choosing import choose_plan
    from taxon.api.classifier import train_classifier
    from taxon.api.starting import choose_start
    from taxon.api.teacher import ask_teacher, open_teacher
    from taxon.training.checkpoint import Checkpoints

    start = time.perf_counter()
    request, kept = workspace.request, workspace.load_plan()
    settings = request.config if kept is None else kept[0].config
    beginning = choose_start(
        settings, request.folder, listener, trust_pickle=trust_pickle, reason=request.reason
    )
    if kept is None:
        listing = listing or read_source(request.data, request.columns)
        teacher = open_teacher(workspace, listing.label_space(), beginning.device)
        data = read_training_data(listing, settings, listener, beginning.preprocessing)
        manifest = data.manifest
        plan = choose_plan(beginning, manifest, settings, listener, found=data.found)
        workspace.save_plan(plan, manifest)
    else:
        plan, manifest = kept
        teacher = open_teacher(workspace, manifest.label_space, beginning.device)
    checkpoints = Checkpoints(workspace.checkpoints)
    try:
        answers = ask_teacher(teacher, workspace, manifest, plan.preprocessing, listener)
        del teacher  # its weights would stay in memory
        hand_out(
            workspace.run,
            plan,
            manifest,
            beginning.device,
            beginning.backbone.name,
            answers.probabilities if answers else None,
        )
        trained = train_classifier(beginning, manifest, plan, listener, checkpoints, answers)
    except Interrupted as error:
        raise Interrupted(f"{error}; continue with: taxon train --resume {workspace.run}") from None
    _write(trained, workspace, listener, start)
    if trained.diverged:
        raise DivergedError(f"{trained.diverged}. The best epoch before is in {workspace.run}")
    return Model(workspace.run)


def default_run(data: Path) -> Path:
    """`runs/DATA-DATE`, below the current folder."""
    return Path("runs") / f"{data.resolve().stem}-{datetime.now():%Y%m%d-%H%M%S}"


def _write(trained: Trained, workspace: Workspace, listener: Listener, start: float) -> None:
    """Write the model folder with its verified artefact; it takes the place of the workspace."""
    folder, failed = workspace.run, None
    marker = f"{CHECKPOINTS_FOLDER}/{REQUEST_FILE}"
    with atomic_folder(folder, replace_if=marker) as temporary:
        _write_bundle(trained, temporary, folder.name, workspace.request.command, start)
        try:
            for report in artefact_reports(export_own_onnx(temporary)):
                listener(Note(f"ONNX exported: {report.sentence()}"))
            _write_reference(temporary, trained.manifest, listener)
        except CheckFailed as error:
            failed = CheckFailed(str(error).replace(str(temporary), str(folder)))
    listener(Note(f"model written to {folder}"))
    if failed is not None:
        raise failed


def _write_reference(folder: Path, manifest: Manifest, listener: Listener) -> None:
    """By which a server notices drift; a model is one without it, too."""
    try:
        write_calibration_reference(folder, manifest)
    except (TaxonError, OSError) as error:
        listener(Note(f"no reference for drift was written: {error}"))


def _write_bundle(trained: Trained, folder: Path, name: str, command: str, start: float) -> None:
    from taxon.api.golden import write_golden
    from taxon.models.restore import save_classifier

    preprocessing, classifier = trained.preprocessing, trained.classifier
    space = trained.manifest.label_space
    save_classifier(folder, classifier, preprocessing)
    write_parts(folder, space, preprocessing, trained.policy)
    write_bank(folder, trained.bank)
    write_golden(classifier, trained.manifest, preprocessing, trained.policy, trained.bank, folder)
    write_manifest(trained.manifest, folder / MANIFEST_FILE)
    provenance = Provenance(
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 1),
        device=trained.device,
        config=trained.config.model_dump(mode="json"),
        data_fingerprint=trained.manifest.fingerprint,
        weights=trained.weights,
        versions=versions(),
        history=trained.history,
        notes=trained.notes,
    )
    seal(
        folder,
        name=name,
        backbone=classifier.spec.name,
        head=trained.config.head,
        pooling=trained.config.chosen_pooling,
        label_space=space,
        provenance=provenance,
    )
    write_card(read_bundle(folder))
