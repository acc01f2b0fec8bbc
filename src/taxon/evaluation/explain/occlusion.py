"""Occlusion: cover a part of the picture and see how much less probable the class becomes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from taxon.core.predictions import FloatArray, ImageBatch
from taxon.evaluation.explain.method import Heat
from taxon.inference import Outputs

GRID = 7  # parts a side: 49 runs a picture, and parts of the size of what a CNN's last layer tells
BATCH = 16


class Runs(Protocol):
    """What occlusion needs of a backend or a predictor."""

    def run(self, images: ImageBatch) -> Outputs: ...


@dataclass(frozen=True)
class Occlusion:
    """Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks".

    Each of 7x7 parts in turn is covered by the picture's mean colour; the heat is by how much the
    probability of the class falls. It needs nothing but the model's answers, so it holds for
    every backend and architecture.
    """

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
        grey = np.rint(image.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
        rows, columns = (
            np.linspace(0, side, self.grid + 1).astype(int) for side in image.shape[1:]
        )
        covered = [image]
        for row, place in product(range(self.grid), repeat=2):
            copy = image.copy()
            copy[:, rows[row] : rows[row + 1], columns[place] : columns[place + 1]] = grey
            covered.append(copy)
        probabilities = self._probabilities(covered, column)
        whole, parts = float(probabilities[0]), probabilities[1:]
        drops = np.clip(whole - parts, 0, None).reshape(self.grid, self.grid)
        most = float(drops.max())
        if most <= 0:
            return Heat(np.zeros_like(drops), "no part by itself makes the class less probable")
        words = f"with the hottest part covered: {whole - most:.1%} in place of {whole:.1%}"
        return Heat(drops / np.float32(most), words.replace("%", " %"))

    def _probabilities(self, images: list[ImageBatch], column: int) -> FloatArray:
        outputs = [
            self.model.run(np.stack(images[start : start + BATCH])).probabilities[:, column]
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(outputs).astype(np.float32)
