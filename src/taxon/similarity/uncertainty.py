"""How unsure a model is of each picture, 0 to 1, from its calibrated probabilities."""

from __future__ import annotations

import numpy as np

from taxon.core.predictions import FloatArray


def margin_uncertainty(probabilities: FloatArray) -> FloatArray:
    """Of classes: 1 minus what the most probable one is ahead of the next (Scheffer et al. 2001).

    Args:
        probabilities: float32 [N, C], calibrated.

    Returns:
        float32 [N]; 1: two classes are equally probable, 0: one is certain.
    """
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), np.float32)
    highest = np.partition(probabilities, -2, axis=1)
    return (1 - (highest[:, -1] - highest[:, -2])).astype(np.float32)


def tag_uncertainty(probabilities: FloatArray) -> FloatArray:
    """Of tags: the mean entropy of each tag's yes or no, in bits.

    Args:
        probabilities: float32 [N, C], calibrated, of each tag by itself.

    Returns:
        float32 [N]; 1: of no tag anything is known, 0: all are certain.
    """
    yes = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    entropy = -(yes * np.log2(yes) + (1 - yes) * np.log2(1 - yes))
    return np.asarray(np.clip(entropy.mean(axis=1), 0, 1), np.float32)
