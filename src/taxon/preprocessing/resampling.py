"""Pillow's resize as two matrices, for graphs that take whole pictures.

Pillow resamples columns and rows one after the other and rounds after each; a pass is a product
with a matrix that depends on the sizes alone. With the very weights that Pillow uses the result is
the same but for its arithmetic in fixed point: now and then one level of 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.preprocessing.spec import Interpolation, Preprocessing
from taxon.preprocessing.transform import crop_box, padded_size, resize, to_chw

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FrameResize:
    """How pictures of one size are brought to the model's size.

    Attributes:
        columns: float32 [W, w], from w columns to W.
        rows: float32 [H, h], from h rows to H.
        background: float32 [H, W], the border of `pad`; zeros elsewhere.
        rows_first: whether rows are resampled before columns.
    """

    columns: Matrix
    rows: Matrix
    background: Matrix
    rows_first: bool

    def __call__(self, pictures: Matrix) -> Matrix:
        """Resize pictures, float32 [..., h, w] of levels 0 to 255, to [..., H, W]."""
        if self.rows_first:
            small = _levels(_levels(self.rows @ pictures) @ self.columns.T)
        else:
            small = _levels(self.rows @ _levels(pictures @ self.columns.T))
        return np.asarray(small + self.background)


def frame_resize(frame: tuple[int, int], spec: Preprocessing) -> FrameResize:
    """Return what `resize` does to pictures of (width, height) as matrices."""
    width, height = frame
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    inner = (spec.width, spec.height)
    if spec.resize == "crop":
        left, top, right, bottom = crop_box(frame, spec)
    elif spec.resize == "pad":
        inner = padded_size((width, height), spec)
    columns = resampling_matrix(width, inner[0], (left, right), spec.interpolation)
    rows = resampling_matrix(height, inner[1], (top, bottom), spec.interpolation)
    placed_columns, placed_rows = _placed(columns, spec.width), _placed(rows, spec.height)
    inside = np.outer(placed_rows.any(axis=1), placed_columns.any(axis=1))
    background = np.where(inside, np.float32(0), np.float32(spec.background))
    orders = [
        FrameResize(placed_columns, placed_rows, background, rows_first)
        for rows_first in (False, True)
    ]
    return min(orders, key=lambda order: _distance(order, frame, spec))


def _distance(order: FrameResize, frame: tuple[int, int], spec: Preprocessing) -> float:
    """Mean difference from Pillow on noise, in levels.

    Which pass Pillow makes first depends on the sizes and on its version, so it is asked.
    """
    shape = (frame[1], frame[0], 3)
    noise = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)
    expected = to_chw(resize(Image.fromarray(noise), spec))
    actual = order(noise.transpose(2, 0, 1).astype(np.float32))
    return float(np.abs(actual - expected).mean())


def _levels(values: Matrix) -> Matrix:
    """Whole levels, 0 to 255, as Pillow keeps them after each pass."""
    return np.asarray(np.floor(np.clip(values, 0, 255) + np.float32(0.5)))


def resampling_matrix(
    size: int, new_size: int, box: tuple[float, float], interpolation: Interpolation
) -> Matrix:
    """Return the weights, float32 [new_size, size], each row with the sum 1.

    Args:
        size, new_size: pixels along one axis, before and after.
        box: the region along that axis that is kept, in pixels.
        interpolation: the filter; stretched where the picture shrinks (antialiasing).
    """
    weigh, support = _FILTERS[interpolation]
    scale = (box[1] - box[0]) / new_size
    stretch = max(scale, 1.0)
    matrix = np.zeros((new_size, size))
    for place in range(new_size):
        centre = box[0] + (place + 0.5) * scale
        first = max(int(centre - support * stretch + 0.5), 0)
        last = min(int(centre + support * stretch + 0.5), size)
        weights = [weigh((pixel - centre + 0.5) / stretch) for pixel in range(first, last)]
        matrix[place, first:last] = weights
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True), np.float32)


def _placed(matrix: Matrix, size: int) -> Matrix:
    """Rows of zeros around, so that there are `size`."""
    before = (size - len(matrix)) // 2
    return np.pad(matrix, ((before, size - len(matrix) - before), (0, 0)))


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _bicubic(x: float) -> float:
    """Keys 1981 with a = -0.5, as Pillow has it."""
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if abs(x) < 3 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


_FILTERS: dict[Interpolation, tuple[Callable[[float], float], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
