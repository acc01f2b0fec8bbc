"""The logits of a classifier in training, for a part of the data."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.loading.decode_cache import DecodeCache
from taxon.data.loading.loader import evaluation_batches
from taxon.models.classifier import Normalise
from taxon.preprocessing import Preprocessing

EVALUATION_BATCH = 64


def predict_logits(
    classifier: nn.Module,
    normalise: Normalise,
    manifest: Manifest,
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    batch_size: int = EVALUATION_BATCH,
    cache: DecodeCache | None = None,
) -> FloatArray:
    """Logits float32 [N, C] for a manifest, in evaluation mode."""
    records = manifest.records
    classifier.eval()
    rows = [np.zeros((0, len(manifest.label_space.names)), np.float32)]
    with torch.no_grad():
        for images in evaluation_batches(
            records, preprocessing, batch_size=batch_size, cache=cache
        ):
            tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            rows.append(classifier(normalise(tensor)).float().cpu().numpy())
    return np.concatenate(rows)
