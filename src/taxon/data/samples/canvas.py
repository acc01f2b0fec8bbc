"""The canvas a surface is made on: its plane, random fields, colours, and what a surface is.

Lengths are fractions of the finished picture's side, so that a texture looks the same at any
size. The canvas is `CANVAS_SIDE` wide, larger than the picture: the camera turns and tilts and
still never sees its edge.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]

CANVAS_SIDE = 1.5


@dataclass
class Surface:
    """A piece of material, lying flat and not yet lit.

    Attributes:
        colour: reflectance, float32 (side, side, 3), 0 to 1.
        height: relief, float32 (side, side), in picture sides.
        gloss: 0 (matt) to 1 (mirror-like).
    """

    colour: Field
    height: Field
    gloss: float

    @property
    def side(self) -> int:
        """Pixels along one side of the canvas."""
        return len(self.height)


def canvas_pixels(size: int) -> int:
    """Pixels along the canvas for a picture of `size` pixels."""
    return round(size * CANVAS_SIDE)


def plane(side: int) -> tuple[Field, Field]:
    """x to the right and y down, each (side, side); the middle of the canvas is 0, 0."""
    line = np.linspace(-CANVAS_SIDE / 2, CANVAS_SIDE / 2, side, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """The coordinates turned by `angle` in radians."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def smooth_noise(rng: np.random.Generator, side: int, grain_x: float, grain_y: float) -> Field:
    """Random field of spread 1 or so whose blotches are `grain_x` wide and `grain_y` high."""
    columns, rows = (
        int(np.clip(round(CANVAS_SIDE / grain), 2, side)) for grain in (grain_x, grain_y)
    )
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) == (side, side):
        return grid
    stretched = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(stretched, dtype=np.float32)


def cloud_noise(rng: np.random.Generator, side: int, grain: float, octaves: int = 3) -> Field:
    """Random field of spread 1 or so with blotches of size `grain` and finer ones on them."""
    total = np.zeros((side, side), dtype=np.float32)
    for octave in range(octaves):
        fine = grain / 2**octave
        total += smooth_noise(rng, side, fine, fine) * np.float32(0.6**octave)
    return total


def random_colour(rng: np.random.Generator) -> Field:
    """A muted colour, float32 (3,).

    All surfaces draw from the same range: the colour must not tell the class.
    """
    hue, value = rng.random(), rng.uniform(0.4, 0.8)
    # Mostly greyish: workshop and household materials are rarely vivid.
    saturation = 0.32 * rng.beta(1.2, 2.4)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def painted(base: Field, shade: Field) -> Field:
    """A colour (3,) or picture (side, side, 3) whose brightness varies by 1 + `shade`."""
    colour: Field = np.clip(base * (1 + shade[..., None]), 0, 1).astype(np.float32)
    return colour
