"""Occlusion over a backend that is at hand; the method is in `inference.occlusion`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from taxon.core.predictions import ImageBatch
from taxon.inference import Outputs
from taxon.inference.occlusion import BATCH, GRID, Heat, covered_pictures, heat_of


class Runs(Protocol):
    """What occlusion needs of a backend or a predictor."""

    def run(self, images: ImageBatch) -> Outputs: ...


@dataclass(frozen=True)
class Occlusion:
    """Explains a class by what its probability loses with each part of the picture covered."""

    model: Runs
    grid: int = GRID
    name: str = "occlusion"

    @property
    def words(self) -> str:
        return (
            f"{self.grid} x {self.grid} parts of the picture were covered in turn; the colour is "
            "how much less probable the class became"
        )

    def heat(self, image: ImageBatch, column: int) -> Heat:
        """Explain a class; `image` is uint8 [3, H, W]."""
        covered = covered_pictures(image, self.grid)
        outputs = [
            self.model.run(covered[start : start + BATCH]).probabilities[:, column]
            for start in range(0, len(covered), BATCH)
        ]
        return heat_of(np.concatenate(outputs).tolist(), self.grid)
