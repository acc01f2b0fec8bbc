"""The decision policy of a trained classifier: its calibration part, its bank, and the fit."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import torch

from taxon.api.pictures import group_numbers
from taxon.config import TrainConfig
from taxon.data import Manifest
from taxon.data.imbalance import ImbalancePlan, logit_adjustment
from taxon.data.manifest import Split
from taxon.decision.fit import PolicyFit, fit_policy
from taxon.decision.fitting.part import CalibrationPart
from taxon.decision.fitting.scope import FEWEST_PICTURES, ScopeEvidence
from taxon.models.classifier import Classifier
from taxon.preprocessing import Preprocessing
from taxon.training.outputs import predict_features

# The bank goes into every artefact: at most so many pictures, and so many numbers (4 MB).
MOST_PICTURES = 1000
MOST_NUMBERS = 1_000_000


def fit_decisions(
    classifier: Classifier,
    manifest: Manifest,
    preprocessing: Preprocessing,
    config: TrainConfig,
    imbalance: ImbalancePlan,
    device: torch.device,
) -> PolicyFit:
    """Fit on the calibration part, or on validation where it serves for both.

    The test part is not looked at, not even its number of pictures.

    Raises:
        ConfigError: the configuration names a class that there is not.
        ImageError: a picture cannot be read.
    """
    held_out = calibration_part(manifest)
    space = manifest.label_space
    adjustment = logit_adjustment(imbalance)
    if not len(held_out):
        empty = np.zeros((0, len(space.names)), np.float32)
        nothing = np.zeros(0, np.int64)
        part = CalibrationPart("validation", empty, held_out.targets(), space, nothing)
        return fit_policy(part, config.decision, logit_adjustment=adjustment)
    outputs = predict_features(classifier, held_out.records, preprocessing, device)
    groups = group_numbers(held_out.records)
    part = CalibrationPart(
        name=held_out.records[0].split or "validation",
        logits=outputs.logits,
        targets=held_out.targets(),
        label_space=space,
        groups=np.arange(len(held_out)) if groups is None else groups,
    )
    evidence = None
    if config.decision.out_of_scope != "none" and len(part) >= FEWEST_PICTURES:
        bank = bank_pictures(manifest.part("train"), outputs.features.shape[1])
        if len(bank):
            evidence = ScopeEvidence(
                features=outputs.features,
                bank=predict_features(classifier, bank.records, preprocessing, device).features,
                bank_targets=bank.targets(),
            )
    return fit_policy(part, config.decision, logit_adjustment=adjustment, evidence=evidence)


def calibration_part(manifest: Manifest) -> Manifest:
    """The part that a policy is fitted on."""
    name: Split = "calibration" if len(manifest.part("calibration")) else "validation"
    return manifest.part(name)


def bank_pictures(train: Manifest, features: int) -> Manifest:
    """Choose training pictures by which the graph tells what is new, the classes taking turns.

    Args:
        features: numbers a picture.
    """
    most = max(1, min(MOST_PICTURES, MOST_NUMBERS // features))
    by_label: dict[tuple[str, ...], list[str]] = {}
    # By their content: the choice does not depend on the order of names, which may be of time.
    for record in sorted(train.records, key=lambda record: record.sha256):
        by_label.setdefault(record.labels, []).append(record.id)
    turns = (name for turn in zip_longest(*by_label.values()) for name in turn)
    chosen = set([name for name in turns if name is not None][:most])
    return train.where(lambda record: record.id in chosen)
