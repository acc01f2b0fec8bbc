"""The heart of `train`: build, fine-tune, calibrate; imported when torch is known to work."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taxon.api.fine_tuning import fine_tune
from taxon.api.starting import Start
from taxon.api.teacher import Answers
from taxon.api.workspace import Plan
from taxon.bundle.golden import write_golden_outputs, write_golden_pictures
from taxon.config import TrainConfig
from taxon.core.predictions import PredictionTable
from taxon.data import Manifest, Record
from taxon.data.imbalance import logit_adjustment
from taxon.data.manifest import Split
from taxon.decision import DecisionPolicy, calibrate
from taxon.decision.fit import PolicyFit, fit_policy
from taxon.models.classifier import Classifier, InferenceModule, Normalise
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture
from taxon.training import Listener, Note
from taxon.training.checkpoint import Checkpoints
from taxon.training.job import TrainingJob
from taxon.training.outputs import predict_logits

GOLDEN_PICTURES = 8


@dataclass(frozen=True)
class Trained:
    """A trained classifier with all that its bundle needs.

    Attributes:
        diverged: why training ended before its last epoch; None if it did not.
    """

    manifest: Manifest
    config: TrainConfig
    classifier: Classifier
    preprocessing: Preprocessing
    policy: DecisionPolicy
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
    fitted = _fit_policy(job, manifest)
    for note in fitted.notes:
        tell(f"decision: {note}")
    return Trained(
        manifest=manifest,
        config=config,
        classifier=job.classifier.cpu(),
        preprocessing=plan.preprocessing,
        policy=fitted.policy.model_copy(
            update=config.decision.model_dump(include={"taxonomy_rule", "taxonomy_confidence"})
        ),
        device=start.device,
        weights=start.weights,
        history=result.history,
        notes=tuple(notes),
        diverged=result.diverged,
    )


def _fit_policy(job: TrainingJob, manifest: Manifest) -> PolicyFit:
    """Fit on the calibration part, or on validation where it serves for both."""
    part: Split = "calibration" if len(manifest.part("calibration")) else "validation"
    held_out = manifest.part(part)
    space = manifest.label_space
    logits = np.zeros((0, len(space.names)), np.float32)
    if len(held_out):
        spec = job.preprocessing
        device = job.accelerator.device
        normalise = Normalise(spec.mean, spec.std).to(device)
        logits = predict_logits(job.classifier, normalise, held_out, spec, device)
    default = DecisionPolicy.default(space)
    table = PredictionTable(
        ids=tuple(record.id for record in held_out.records),
        names=space.names,
        logits=logits,
        probabilities=calibrate(logits, default, space.task),
    )
    return fit_policy(
        table, held_out.targets(), space, part, logit_adjustment=logit_adjustment(job.imbalance)
    )


def write_golden(trained: Trained, folder: Path) -> None:
    """Write golden examples: pictures that the model saw least, across the classes."""
    spec = trained.preprocessing
    pictures = [
        decode(read_picture(record.path), spec, record.id)
        for record in _golden_records(trained.manifest)
    ]
    images = np.stack([prepare(data, spec) for data in write_golden_pictures(folder, pictures)])
    module = InferenceModule(
        trained.classifier, spec, trained.policy, trained.manifest.label_space.task
    ).eval()
    with torch.no_grad():
        probabilities, logits = module(torch.from_numpy(images))
    write_golden_outputs(folder, images, logits.numpy(), probabilities.numpy())


def _golden_records(manifest: Manifest) -> list[Record]:
    """Up to eight pictures, held-out ones first, taking turns among the labels."""
    held_out = manifest.part("validation", "calibration").records
    by_label: dict[tuple[str, ...], list[Record]] = {}
    for record in held_out or manifest.part("train").records:
        by_label.setdefault(record.labels, []).append(record)
    turns = zip_longest(*by_label.values())
    chosen = [record for turn in turns for record in turn if record is not None]
    return chosen[:GOLDEN_PICTURES]
