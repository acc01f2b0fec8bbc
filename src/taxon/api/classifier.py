"""The heart of `train`: build, fine-tune, calibrate; imported when torch is known to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taxon.api.fine_tuning import fine_tune
from taxon.api.teacher import Answers
from taxon.api.workspace import Plan
from taxon.bundle.golden import write_golden_outputs, write_golden_pictures
from taxon.config import TrainConfig
from taxon.core.licences import duty
from taxon.core.predictions import PredictionTable
from taxon.data import Manifest, Record
from taxon.data.imbalance import logit_adjustment
from taxon.data.loading.augment import describe
from taxon.data.manifest import Split
from taxon.decision import DecisionPolicy, calibrate
from taxon.decision.fit import PolicyFit, fit_policy
from taxon.models.backbones import Backbone, create_backbone, preprocessing_of
from taxon.models.classifier import Classifier, InferenceModule, Normalise
from taxon.models.weights import load_pretrained
from taxon.models.zoo import default_backbone, find
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture
from taxon.training import Listener, Note
from taxon.training.checkpoint import Checkpoints
from taxon.training.device import choose_device
from taxon.training.framing import choose_framing, suits_dct_scaling
from taxon.training.job import TrainingJob
from taxon.training.outputs import predict_logits

GOLDEN_PICTURES = 8


@dataclass(frozen=True)
class Start:
    """What a run starts from: the device, and a backbone with its weights.

    Attributes:
        weights: where the pretrained weights came from.
        notes: what was chosen, in plain sentences.
    """

    device: str
    backbone: Backbone
    preprocessing: Preprocessing
    weights: dict[str, str]
    notes: tuple[str, ...]


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


def choose_start(
    config: TrainConfig, folder: Path, listener: Listener, *, trust_pickle: bool = False
) -> Start:
    """Choose the device and build the backbone; done first, so that it fails within seconds.

    Args:
        folder: from which the path of a weights file counts.
        trust_pickle: let the weights' own library unpickle them.

    Raises:
        ConfigError, WeightsError: the backbone, its weights or the device cannot be used.
    """
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    name, reason = config.model, "as asked"
    if name is None:
        name, reason = default_backbone(device, pretrained=config.weights != "none")
    size = config.preprocessing.size
    backbone = create_backbone(name, input_size=(size, size) if size else None)
    backbone, weights = load_pretrained(
        backbone, weights_in(folder, config.weights), trust_pickle=trust_pickle
    )
    preprocessing = _adjust(preprocessing_of(backbone.settings), config)
    entry = find(name)
    known = f", {entry.top1:.1f} % top-1 on ImageNet" if entry and config.weights == "hub" else ""
    resolved = f"'{name}' resolves to it; " if backbone.name != name else ""
    licence = weights.get("licence", "none needed")
    asked = duty(licence)
    notes = (
        f"backbone: {backbone.name} ({resolved}{reason}{known}), on {device}",
        f"weights: {weights['source']}, licence: {licence}",
        *([f"licence: {asked}"] if asked else []),
    )
    for note in notes:
        listener(Note(note))
    return Start(device, backbone, preprocessing, weights, notes)


def weights_in(folder: Path, weights: str) -> str:
    """The weights, a file as a path that holds from any working folder."""
    return weights if weights in ("hub", "none") else str(folder / weights)


def choose_plan(start: Start, manifest: Manifest, config: TrainConfig, listener: Listener) -> Plan:
    """Choose what the configuration leaves open, looking at the training part alone."""
    notes = [*start.notes, *manifest.notes]

    def tell(text: str) -> None:
        notes.append(text)
        listener(Note(text))

    preprocessing = choose_preprocessing(start, manifest.part("train"), config, tell)
    return Plan(config=config, preprocessing=preprocessing, notes=tuple(notes))


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
        policy=fitted.policy.model_copy(update=config.decision.model_dump()),
        device=start.device,
        weights=start.weights,
        history=result.history,
        notes=tuple(notes),
        diverged=result.diverged,
    )


def choose_preprocessing(
    start: Start, train: Manifest, config: TrainConfig, tell: Callable[[str], None]
) -> Preprocessing:
    """Choose what the configuration leaves open, looking at the training part alone."""
    spec, wanted = start.preprocessing, config.preprocessing
    if wanted.resize == "auto":
        framing = choose_framing(
            start.backbone,
            train,
            spec,
            pretrained=config.weights != "none",
            seed=config.seed,
            device=start.device,
        )
        spec = spec.model_copy(update={"resize": framing.mode})
        tell(f"framing: {framing.reason}")
    if wanted.jpeg_dct_scaling is None and suits_dct_scaling(train.records, spec):
        spec = spec.model_copy(update={"jpeg_dct_scaling": True})
        tell("large JPEGs are reduced while they are decoded, here and wherever the model runs")
    tell(
        f"pictures: {spec.resize} to {spec.width}x{spec.height} px; "
        f"augmentation: {describe(config.augment)}"
    )
    return spec


def _adjust(preprocessing: Preprocessing, config: TrainConfig) -> Preprocessing:
    """The preprocessing of the weights, with what the configuration changes."""
    changes = config.preprocessing.model_dump(exclude_none=True)
    if changes["resize"] == "auto":
        del changes["resize"]
    if "size" in changes:
        changes["height"] = changes["width"] = changes.pop("size")
    return Preprocessing.model_validate({**preprocessing.model_dump(), **changes})


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
