"""Train: from a data set to a model folder with a verified ONNX artefact."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from taxon.api.exporting import export
from taxon.api.model import Model
from taxon.bundle.layout import BUNDLE_FILE, ENTRIES, MANIFEST_FILE, Provenance
from taxon.bundle.write import seal, write_parts
from taxon.config import TrainConfig, load_config, require_loss_fits
from taxon.core.errors import OutputError
from taxon.core.files import atomic_folder, require_free, require_writable
from taxon.core.versions import versions
from taxon.data import Columns, Manifest, build_manifest, data_path, read_source, write_manifest
from taxon.data.imbalance import require_compatible
from taxon.data.loading.rare_augmentation import with_pipeline
from taxon.data.sources import Listing
from taxon.exporters import ParityReport
from taxon.models.stack import require_torch_stack
from taxon.preprocessing import Preprocessing
from taxon.training import Listener, Loading, Note, silent

if TYPE_CHECKING:
    from taxon.api.classifier import Trained


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
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    columns: Columns | None = None,
    overwrite: bool = False,
    listener: Listener = silent,
    command: str = "taxon.train(...)",
) -> Model:
    """Train a classifier.

    Args:
        data: a folder with one sub-folder a class (nested: a taxonomy), a table, an archive, or a
            manifest that `split` wrote.
        out: the model folder to write; None makes `runs/DATA-DATE`.
        model: a charter name or any timm name; None takes the default for the device.
        weights: `hub`, `none`, or a file in timm's names.
        recipe: `staged` (default with pretrained weights) or `scratch`.
        epochs: over all stages together, in their proportions.
        batch_size, seed, device: as in `TrainConfig`.
        imbalance: strategy for rare classes, or several joined by commas, as in
            `ImbalanceConfig`.
        config: YAML with any of its keys.
        overrides: `key=value`, nested keys with dots.
        columns: of a table.
        overwrite: replace an existing model folder.
        listener: told what happens.
        command: kept in the bundle's provenance.

    Raises:
        InputError: the data, the weights, the configuration or the output cannot be used.
        CheckFailed: the exported artefact is not equal to the trained model.
    """
    start = time.perf_counter()
    file = Path(config) if config is not None else None
    options = {
        "model": model,
        "weights": None if weights is None else str(weights),
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "imbalance": None if imbalance is None else {"strategy": imbalance},
    }
    settings = load_config(recipe or "staged", file=file, options=options, overrides=overrides)
    if recipe is None and settings.weights == "none":
        listener(Note("recipe: scratch, since there are no pretrained weights to fine-tune"))
        settings = load_config("scratch", file=file, options=options, overrides=overrides)
    source = data_path(data)
    folder = Path(out) if out is not None else default_run(source)
    _require_apart(source, folder)
    require_free(folder, replace_if=BUNDLE_FILE if overwrite else None, ours=ENTRIES.__contains__)
    require_writable(folder)
    require_torch_stack()

    # Imported here: the command line and the server start without torch.
    from taxon.api.classifier import choose_start, train_classifier

    # What is cheap and can fail comes first: names and labels, backbone and weights.
    listing = read_source(source, columns)
    task, strategies = listing.label_space().task, settings.imbalance.strategy
    require_compatible(strategies, task)
    require_loss_fits(settings.loss, task, strategies, of_recipe=load_config(settings.recipe).loss)
    settings = with_pipeline(settings)
    beginning = choose_start(settings, listener)
    manifest = read_training_data(listing, settings, listener, beginning.preprocessing)
    trained = train_classifier(beginning, manifest, settings, listener)
    with atomic_folder(folder, replace_if=BUNDLE_FILE if overwrite else None) as temporary:
        _write(trained, temporary, folder.name, command, start)
    listener(Note(f"model written to {folder}"))
    for artefact in export(folder, ["onnx"]):
        listener(Note(f"ONNX exported: {ParityReport.model_validate(artefact.parity).sentence()}"))
    return Model(folder)


def read_training_data(
    listing: Listing,
    settings: TrainConfig,
    listener: Listener,
    spec: Preprocessing | None = None,
) -> Manifest:
    """Look into the pictures, audit and split them; the listener hears what was found."""
    from taxon.auditing import quick_findings
    from taxon.data.splitting.splits import ensure_split

    manifest = build_manifest(
        listing, spec=spec, progress=lambda done, total: listener(Loading(done, total))
    )
    listener(Note(f"data: {summary(manifest)}"))
    for note in manifest.notes:
        listener(Note(f"data: {note}"))
    for finding in quick_findings(manifest, spec):
        listener(Note(f"audit, {finding.severity}: {finding.advice}"))
    plan = ensure_split(
        manifest,
        validation=settings.split.validation,
        test=settings.split.test,
        seed=settings.seed,
        near_duplicates=settings.split.near_duplicates,
    )
    parts = ", ".join(f"{name} {count}" for name, count in plan.manifest.split_counts().items())
    listener(Note(f"split: {parts} ({'; '.join(plan.notes)})"))
    return replace(plan.manifest, notes=(*plan.manifest.notes, *plan.notes))


def summary(manifest: Manifest) -> str:
    """One line on a manifest: how many pictures, of how many classes."""
    space = manifest.label_space
    what = "tags" if space.task == "multilabel" else "classes"
    depth = f" in {space.depth} levels" if space.is_taxonomy else ""
    return f"{len(manifest)} pictures, {len(space.names)} {what}{depth}"


def _require_apart(data: Path, folder: Path) -> None:
    """Refuse to write a model over the data that it is trained on, or around them."""
    if data.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"the model folder {folder} would replace the data in {data}")


def default_run(data: Path) -> Path:
    """`runs/DATA-DATE`, below the current folder."""
    return Path("runs") / f"{data.resolve().stem}-{datetime.now():%Y%m%d-%H%M%S}"


def _write(trained: Trained, folder: Path, name: str, command: str, start: float) -> None:
    from taxon.api.classifier import write_golden
    from taxon.models.restore import save_classifier

    preprocessing, classifier = trained.preprocessing, trained.classifier
    space = trained.manifest.label_space
    save_classifier(folder, classifier, preprocessing)
    write_parts(folder, space, preprocessing, trained.policy)
    write_golden(trained, folder)
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
        label_space=space,
        provenance=provenance,
    )
