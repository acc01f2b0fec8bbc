"""Occlusion: cover a part of the picture and see how much less probable the class becomes.

Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks". It needs nothing but
the model's answers, so it holds for every backend and architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from taxon.core.predictions import FloatArray, ImageBatch

GRID = 7  # parts a side: 49 runs a picture, and parts of the size of what a CNN's last layer tells
BATCH = 16


@dataclass(frozen=True)
class Heat:
    """Where the answer comes from.

    Attributes:
        map: float32 [h, w] over the whole prepared picture, 0 to 1; all 0 where nothing was found.
        words: what the map found, in a sentence; may be empty.
    """

    map: FloatArray
    words: str = ""


def covered_pictures(image: ImageBatch, grid: int = GRID) -> ImageBatch:
    """The picture, uint8 [3, H, W], and it with each part in turn covered by its mean colour.

    Returns:
        uint8 [1 + grid * grid, 3, H, W].
    """
    grey = np.rint(image.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    rows, columns = (np.linspace(0, side, grid + 1).astype(int) for side in image.shape[1:])
    covered = np.repeat(image[None], 1 + grid * grid, axis=0)
    for at, (row, column) in enumerate(product(range(grid), repeat=2), start=1):
        covered[at, :, rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = grey
    return covered


def heat_of(probabilities: Sequence[float], grid: int = GRID) -> Heat:
    """The heat, from the probabilities of the class for `covered_pictures`, in their order."""
    whole, parts = probabilities[0], np.asarray(probabilities[1:], np.float32)
    drops = np.clip(whole - parts, 0, None).reshape(grid, grid)
    most = float(drops.max())
    if most <= 0:
        return Heat(np.zeros_like(drops), "no part by itself makes the class less probable")
    words = f"with the hottest part covered: {whole - most:.1%} in place of {whole:.1%}"
    return Heat(drops / np.float32(most), words.replace("%", " %"))
