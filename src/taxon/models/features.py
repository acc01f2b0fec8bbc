"""Frozen features: what a backbone makes of pictures, without training anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from taxon.config import Pooling
from taxon.core.predictions import FloatArray
from taxon.data import Record
from taxon.data.loading.loader import evaluation_batches
from taxon.models.backbones import Backbone
from taxon.models.classifier import Normalise
from taxon.models.pooling import build_features
from taxon.preprocessing import Preprocessing

Progress = Callable[[int, int], None]


def extract_features(
    backbone: Backbone,
    records: Sequence[Record],
    preprocessing: Preprocessing,
    *,
    pooling: Pooling = "last",
    device: str = "cpu",
    progress: Progress | None = None,
) -> FloatArray:
    """Pooled features of pictures through the one preprocessing, in evaluation mode.

    Args:
        pooling: which features; see `taxon.models.pooling`.
        progress: called with (done, total).

    Returns:
        float32 [N, F], in the order of the records.

    Raises:
        ConfigError: the architecture does not have these features.
        ImageError: a picture that could be read before cannot be read now.
    """
    features, count = build_features(backbone, pooling)
    module = features.to(memory_format=torch.channels_last).to(device).eval()
    normalise = Normalise(preprocessing.mean, preprocessing.std).to(device)
    rows = [np.zeros((0, count), np.float32)]
    done = 0
    with torch.inference_mode():
        for images in evaluation_batches(records, preprocessing):
            tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            rows.append(module(normalise(tensor)).float().cpu().numpy())
            done += len(images)
            if progress is not None:
                progress(done, len(records))
    return np.concatenate(rows)
