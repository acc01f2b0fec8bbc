"""What a training begins with: a configuration that fits the data, and pictures with parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from taxon.config import TrainConfig, load_config, require_loss_fits
from taxon.config.taxonomy import require_taxonomy
from taxon.core.labels import LabelSpace
from taxon.data import Manifest, build_manifest
from taxon.data.imbalance import require_compatible
from taxon.data.sources import Listing
from taxon.decision.fitting.requirements import require_decidable
from taxon.preprocessing import Preprocessing
from taxon.training import Listener, Loading, Note

AUDIT_MARK = "audit, "  # how notes begin that say what the audit found


@dataclass(frozen=True)
class TrainingData:
    """Pictures with parts, and what the audit found, in the words of notes."""

    manifest: Manifest
    found: tuple[str, ...]


def require_task(settings: TrainConfig, space: LabelSpace) -> None:
    """Refuse a configuration that does not go with the task.

    Raises:
        ConfigError: strategies, a loss or a rule that the task has no use for.
    """
    require_taxonomy(settings, space)
    require_decidable(settings.decision, space)
    from taxon.api.teacher import require_distillable

    require_distillable(settings)
    strategies = settings.imbalance.strategy
    require_compatible(strategies, space.task, settings.loss.taxonomy)
    of_recipe = load_config(settings.recipe).loss
    require_loss_fits(settings.loss, space.task, strategies, of_recipe=of_recipe)


def read_training_data(
    listing: Listing,
    settings: TrainConfig,
    listener: Listener,
    spec: Preprocessing | None = None,
) -> TrainingData:
    """Look into the pictures, audit and split them; the listener hears what was found."""
    from taxon.auditing import quick_findings
    from taxon.data.splitting.splits import ensure_split

    manifest = build_manifest(
        listing, spec=spec, progress=lambda done, total: listener(Loading(done, total))
    )
    listener(Note(f"data: {summary(manifest)}"))
    for note in manifest.notes:
        listener(Note(f"data: {note}"))
    found = [
        f"{AUDIT_MARK}{finding.severity}: {finding.advice}"
        for finding in quick_findings(manifest, spec)
    ]
    for note in found:
        listener(Note(note))
    plan = ensure_split(
        manifest,
        validation=settings.split.validation,
        test=settings.split.test,
        seed=settings.seed,
        near_duplicates=settings.split.near_duplicates,
    )
    parts = ", ".join(f"{name} {count}" for name, count in plan.manifest.split_counts().items())
    listener(Note(f"split: {parts} ({'; '.join(plan.notes)})"))
    manifest = replace(plan.manifest, notes=(*plan.manifest.notes, *plan.notes))
    return TrainingData(manifest, tuple(found))


def summary(manifest: Manifest) -> str:
    """One line on a manifest: how many pictures, of how many classes."""
    space = manifest.label_space
    what = "tags" if space.task == "multilabel" else "classes"
    depth = f" in {space.depth} levels" if space.is_taxonomy else ""
    return f"{len(manifest)} pictures, {len(space.names)} {what}{depth}"
