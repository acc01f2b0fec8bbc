"""What a classifier in training makes of a part of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from taxon.core.predictions import FloatArray
from taxon.data import Manifest, Record
from taxon.data.loading.decode_cache import DecodeCache
from taxon.data.loading.loader import evaluation_batches
from taxon.models.classifier import Classifier, Normalise
from taxon.preprocessing import Preprocessing


@dataclass(frozen=True)
class FeaturesAndLogits:
    """Features as the head gets them, float32 [N, F], and its logits, float32 [N, C]."""

    features: FloatArray
    logits: FloatArray


def predict_logits(
    classifier: nn.Module,
    normalise: Normalise,
    manifest: Manifest,
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    cache: DecodeCache | None = None,
) -> FloatArray:
    """Logits float32 [N, C] for a manifest, in evaluation mode."""
    classifier.eval()
    rows = [np.zeros((0, len(manifest.label_space.names)), np.float32)]
    with torch.no_grad():
        for images in evaluation_batches(manifest.records, preprocessing, cache=cache):
            tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            rows.append(classifier(normalise(tensor)).float().cpu().numpy())
    return np.concatenate(rows)


def predict_features(
    classifier: Classifier,
    records: Sequence[Record],
    preprocessing: Preprocessing,
    device: torch.device,
) -> FeaturesAndLogits:
    """Features and logits of at least one picture, in evaluation mode."""
    classifier.eval()
    normalise = Normalise(preprocessing.mean, preprocessing.std).to(device)
    features, logits = [], []
    with torch.no_grad():
        for images in evaluation_batches(records, preprocessing):
            tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            rows = classifier.features(normalise(tensor))
            features.append(rows.float().cpu().numpy())
            logits.append(classifier.head(rows).float().cpu().numpy())
    return FeaturesAndLogits(np.concatenate(features), np.concatenate(logits))
