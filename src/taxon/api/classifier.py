"""The heart of `train`: build, fine-tune, calibrate; imported when torch is known to work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxon.api.deciding import fit_decisions
from taxon.api.fine_tuning import fine_tune
from taxon.api.starting import Start
from taxon.api.teacher import Answers
from taxon.api.workspace import Plan
from taxon.config import TrainConfig
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.decision import DecisionPolicy
from taxon.models.classifier import Classifier
from taxon.preprocessing import Preprocessing
from taxon.training import Listener, Note
from taxon.training.checkpoint import Checkpoints


@dataclass(frozen=True)
class Trained:
    """A trained classifier with all that its bundle needs.

    Attributes:
        bank: as in `PolicyFit`.
        diverged: why training ended before its last epoch; None if it did not.
    """

    manifest: Manifest
    config: TrainConfig
    classifier: Classifier
    preprocessing: Preprocessing
    policy: DecisionPolicy
    bank: FloatArray | None
    device: str
    weights: dict[str, str]
    history: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    diverged: str | None = None


def train_classifier(
    start: Start,
    manifest: Manifest,
    plan: Plan,
    listener: Listener,
    checkpoints: Checkpoints | None = None,
    teacher: Answers | None = None,
) -> Trained:
    """Put a head on the backbone, fine-tune and calibrate it on a manifest with parts.

    Raises:
        Interrupted: a signal asked for a stop; the state is in the checkpoints.
    """
    notes, config = [*plan.notes, *(teacher.notes if teacher else ())], plan.config

    def tell(text: str) -> None:
        notes.append(text)
        listener(Note(text))

    job, result = fine_tune(
        start.device,
        start.backbone,
        manifest,
        plan,
        tell,
        listener,
        checkpoints=checkpoints,
        answers=teacher.probabilities if teacher else None,
    )
    if result.diverged:
        tell(f"training ended early: {result.diverged}")
    tell(f"kept: the weights of epoch {result.best_epoch} of {len(result.history)}")
    fitted = fit_decisions(
        job.classifier,
        manifest,
        plan.preprocessing,
        config,
        job.imbalance,
        job.accelerator.device,
    )
    for note in fitted.notes:
        tell(f"decision: {note}")
    return Trained(
        manifest=manifest,
        config=config,
        classifier=job.classifier.cpu(),
        preprocessing=plan.preprocessing,
        policy=fitted.policy,
        bank=fitted.bank,
        device=start.device,
        weights=start.weights,
        history=result.history,
        notes=tuple(notes),
        diverged=result.diverged,
    )
