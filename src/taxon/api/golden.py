"""The golden examples of a model: made when it is trained, and anew with another policy."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from taxon.bundle import Bundle
from taxon.bundle.golden import read_golden, write_golden_outputs, write_golden_pictures
from taxon.bundle.layout import GOLDEN_FOLDER
from taxon.bundle.scope import read_bank
from taxon.core.fingerprint import sha256_file
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


def write_stand_ins(bundle: Bundle, folder: Path) -> dict[str, str]:
    """Write golden examples of generated pictures, for a folder without those of the user.

    They check the preprocessing and the arithmetic as the user's own do.

    Returns:
        The sha256 of each file, by its name in the model folder.
    """
    spec = bundle.spec
    files = write_golden_pictures(folder, _generated_pictures())
    images = np.stack([prepare(data, spec.preprocessing) for data in files])
    _write_outputs(
        restore_classifier(bundle),
        images,
        spec.preprocessing,
        spec.policy,
        read_bank(bundle.path),
        spec.label_space.task,
        folder,
    )
    written = sorted((folder / GOLDEN_FOLDER).iterdir())
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in written}


def _generated_pictures() -> list[Image.Image]:
    """Coloured patches of several sizes with soft edges, upright and lying, small and large."""
    random = np.random.default_rng(0)
    pictures = []
    for place in range(GOLDEN_PICTURES):
        width, height = ((160, 120), (100, 150), (256, 256), (48, 32))[place % 4]
        rows, columns = 3 + 4 * place, 4 + 4 * place
        patches = random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC))
    return pictures


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
