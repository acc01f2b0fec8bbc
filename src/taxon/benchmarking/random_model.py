"""A model folder with random weights: enough to export a backbone and to time it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from taxon.bundle import Bundle, read_bundle
from taxon.bundle.golden import write_golden_outputs
from taxon.bundle.layout import GOLDEN_FOLDER, Provenance
from taxon.bundle.write import seal, write_parts
from taxon.core.labels import LabelSpace
from taxon.core.versions import versions
from taxon.decision import DecisionPolicy

CLASSES = 10


def write_random_model(backbone: str, folder: Path, *, size: int | None = None) -> Bundle:
    """Write a model with a backbone's shape, random weights and ten classes.

    Weights do not change how long an answer takes; its answers mean nothing.

    Args:
        backbone: a name of `taxon models` or any timm name.
        folder: exists, and is empty.
        size: side of the input in pixels; None: the backbone's own.

    Raises:
        ConfigError: no library has this backbone.
        MissingDependencyError: its library is not installed.
    """
    from taxon.models.backbones import preprocessing_of
    from taxon.models.classifier import build_classifier
    from taxon.models.restore import save_classifier

    shape = None if size is None else (size, size)
    classifier = build_classifier(CLASSES, backbone, weights="none", input_size=shape)
    spec = preprocessing_of(classifier.spec.settings)
    if size is not None:
        spec = spec.model_copy(update={"height": size, "width": size})
    space = LabelSpace.flat("multiclass", [f"class-{number}" for number in range(CLASSES)])
    save_classifier(folder, classifier, spec)
    write_parts(folder, space, spec, DecisionPolicy.default(space))
    (folder / GOLDEN_FOLDER).mkdir()
    nothing = np.zeros((0, CLASSES), np.float32)
    write_golden_outputs(
        folder, np.zeros((0, 3, spec.height, spec.width), np.uint8), *2 * [nothing]
    )
    seal(
        folder,
        name=backbone,
        backbone=classifier.spec.name,
        head="mlp",
        pooling="last",
        label_space=space,
        provenance=Provenance(
            command="a model of random weights, to be timed",
            created="",
            seconds=0,
            device="cpu",
            config={},
            data_fingerprint="",
            weights={"source": "none (random initialisation)"},
            versions=versions(),
        ),
    )
    return read_bundle(folder)
