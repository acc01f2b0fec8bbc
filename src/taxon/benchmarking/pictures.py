"""Pictures of noise: for speed, and to calibrate what has no pictures of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taxon.core.predictions import ImageBatch
from taxon.exporters.job import Labelled
from taxon.preprocessing import Preprocessing

_CALIBRATION = 16


def noise(count: int, preprocessing: Preprocessing) -> ImageBatch:
    """Return random pictures as a model gets them, uint8 [count, 3, H, W]; always the same."""
    shape = (count, 3, preprocessing.height, preprocessing.width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@dataclass(frozen=True)
class NoisePictures:
    """Stands in for the user's pictures where a model of random weights is exported.

    Attributes:
        classes: how many the model has.
    """

    preprocessing: Preprocessing
    classes: int

    def training(self) -> ImageBatch:
        """Noise, uint8 [K, 3, H, W]."""
        return noise(_CALIBRATION, self.preprocessing)

    def validation(self) -> Labelled:
        """Noise, with the classes in turn."""
        targets = np.arange(_CALIBRATION, dtype=np.int64) % self.classes
        names = tuple(f"noise {number}" for number in range(_CALIBRATION))
        return Labelled(self.training(), targets, names)
