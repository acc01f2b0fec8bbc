"""The golden examples of a model: made when it is trained, and anew with another policy."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch

from taxon.bundle import Bundle
from taxon.bundle.golden import read_golden, write_golden_outputs, write_golden_pictures
from taxon.core.labels import Task
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.data import Manifest, Record
from taxon.decision import DecisionPolicy
from taxon.decision.fit import PolicyFit
from taxon.models.classifier import Classifier, InferenceModule
from taxon.models.restore import restore_classifier
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture

GOLDEN_PICTURES = 8


def write_golden(
    classifier: Classifier,
    manifest: Manifest,
    preprocessing: Preprocessing,
    policy: DecisionPolicy,
    bank: FloatArray | None,
    folder: Path,
) -> None:
    """Write golden examples: pictures that the model saw least, across the classes.

    Args:
        bank: as in `PolicyFit`.
    """
    pictures = [
        decode(read_picture(record.path), preprocessing, record.id)
        for record in _golden_records(manifest)
    ]
    files = write_golden_pictures(folder, pictures)
    images = np.stack([prepare(data, preprocessing) for data in files])
    task = manifest.label_space.task
    _write_outputs(classifier, images, preprocessing, policy, bank, task, folder)


def refresh_golden(bundle: Bundle, folder: Path, fitted: PolicyFit) -> None:
    """Write what the golden pictures of a bundle give with another policy."""
    spec = bundle.spec
    _write_outputs(
        restore_classifier(bundle),
        read_golden(bundle.path).images,
        spec.preprocessing,
        fitted.policy,
        fitted.bank,
        spec.label_space.task,
        folder,
    )


def _write_outputs(
    classifier: Classifier,
    images: ImageBatch,
    preprocessing: Preprocessing,
    policy: DecisionPolicy,
    bank: FloatArray | None,
    task: Task,
    folder: Path,
) -> None:
    module = InferenceModule(classifier, preprocessing, policy, task, bank).eval()
    with torch.no_grad():
        probabilities, logits, *scope = (each.numpy() for each in module(torch.from_numpy(images)))
    write_golden_outputs(folder, images, logits, probabilities, *scope)


def _golden_records(manifest: Manifest) -> list[Record]:
    """Up to eight pictures, held-out ones first, taking turns among the labels."""
    held_out = manifest.part("validation", "calibration").records
    by_label: dict[tuple[str, ...], list[Record]] = {}
    for record in held_out or manifest.part("train").records:
        by_label.setdefault(record.labels, []).append(record)
    turns = zip_longest(*by_label.values())
    chosen = [record for turn in turns for record in turn if record is not None]
    return chosen[:GOLDEN_PICTURES]
