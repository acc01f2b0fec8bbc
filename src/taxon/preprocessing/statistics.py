"""What a prepared picture looks like, in a few numbers: to notice when those that come change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NAMES = ("brightness", "contrast", "saturation", "sharpness")
_STEP = 4  # pixels between those that are looked at: a sixteenth of them says as much


def picture_statistics(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Describe one prepared picture, uint8 [3, H, W].

    Returns:
        float32 [4], in the order of `NAMES`, each 0 to 1: the mean grey; the standard deviation
        of grey, twice; the mean distance between the strongest and the weakest colour; and the
        mean step from a pixel to the one beside it, at full resolution.
    """
    sampled = image[:, ::_STEP, ::_STEP].astype(np.float32) / 255
    grey = sampled.mean(axis=0)
    beside = image[1, ::_STEP].astype(np.int16)
    return np.array(
        [
            grey.mean(),
            2 * grey.std(),
            (sampled.max(axis=0) - sampled.min(axis=0)).mean(),
            np.abs(np.diff(beside, axis=1)).mean() / 255,
        ],
        np.float32,
    )
