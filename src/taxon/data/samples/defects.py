"""Defects, drawn into a surface's relief and colour before it is lit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from taxon.data.samples.canvas import (
    CANVAS_SIDE,
    Field,
    Surface,
    cloud_noise,
    plane,
    random_colour,
    turned,
)

_Points = npt.NDArray[np.float64]

# Lines are drawn this many times larger and shrunk, for soft edges.
_LINE_SCALE = 4
# Defects begin this near to the middle, so that no camera angle hides them.
_REACH = 0.34


def scratch(surface: Surface, rng: np.random.Generator) -> None:
    """One to three long thin grooves, nearly straight: pale, or dark on pale material."""
    direction = rng.uniform(0, np.pi)
    strokes = []
    for _ in range(rng.integers(1, 4)):
        angle = direction + rng.normal(0, 0.12)
        length, bow = rng.uniform(0.3, 0.8), rng.normal(0, 0.03)
        step = np.linspace(-0.5, 0.5, 16)
        heading = np.array([np.cos(angle), np.sin(angle)])
        sideways = np.array([-heading[1], heading[0]])
        middle = rng.uniform(-_REACH, _REACH, 2) * 0.7
        strokes.append(
            middle
            + np.outer(step * length, heading)
            + np.outer((4 * step**2 - 0.5) * bow, sideways)
        )
    groove = _lines(surface.side, strokes, width=rng.uniform(0.011, 0.018))
    surface.height -= groove * np.float32(rng.uniform(0.004, 0.008))
    material = surface.colour.mean(axis=(0, 1))
    contrast = rng.uniform(1.5, 1.9) if material.mean() < 0.6 else rng.uniform(0.3, 0.5)
    bare: Field = np.clip(material * contrast, 0, 1).astype(np.float32)
    _blend(surface, bare, groove * np.float32(rng.uniform(0.5, 0.9)))


def crack(surface: Surface, rng: np.random.Generator) -> None:
    """A dark jagged line that wanders and branches."""
    start = rng.uniform(-_REACH, _REACH, 2)
    heading = np.arctan2(-start[1], -start[0]) + rng.normal(0, 0.5)
    trunk = _wander(rng, start, heading, steps=int(rng.integers(22, 38)))
    strokes = [trunk]
    for _ in range(rng.integers(1, 4)):
        joint = int(rng.integers(3, len(trunk) - 3))
        turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
        strokes.append(_wander(rng, trunk[joint], heading + turn, steps=int(rng.integers(7, 15))))
    gap = _lines(surface.side, strokes, width=rng.uniform(0.012, 0.019))
    surface.height -= gap * np.float32(0.004)
    _blend(surface, np.zeros(3, np.float32), gap * np.float32(rng.uniform(0.6, 0.9)))


def stain(surface: Surface, rng: np.random.Generator) -> None:
    """A flat patch of another colour with a ragged outline and a darker rim."""
    radius = rng.uniform(0.1, 0.22)
    distance = _from_centre(surface.side, rng) / np.float32(radius)
    ragged = distance + 0.22 * cloud_noise(rng, surface.side, radius * 0.8)
    inside = np.clip((1 - ragged) * np.float32(rng.uniform(1.5, 6)), 0, 1)
    rim = inside * np.exp(-(((1 - ragged) * 6) ** 2))
    tint = random_colour(rng) * np.float32(rng.uniform(0.3, 0.6))
    strength = inside * np.float32(rng.uniform(0.45, 0.75)) + 0.25 * rim
    _blend(surface, tint, np.clip(strength, 0, 1))


def pit(surface: Surface, rng: np.random.Generator) -> None:
    """A loose cluster of small round holes."""
    x, y = plane(surface.side)
    middle = rng.uniform(-_REACH, _REACH, 2)
    spread = rng.uniform(0.05, 0.16)
    depth = np.zeros_like(surface.height)
    for _ in range(rng.integers(4, 13)):
        hole_x, hole_y = middle + rng.normal(0, spread, 2)
        radius = rng.uniform(0.011, 0.024)
        distance = np.hypot(x - np.float32(hole_x), y - np.float32(hole_y)) / np.float32(radius)
        depth = np.maximum(depth, np.clip(1 - distance**4, 0, 1) * np.float32(radius))
    surface.height -= 0.6 * depth
    dark = np.clip(depth / 0.014, 0, 1) * np.float32(rng.uniform(0.4, 0.75))
    _blend(surface, np.zeros(3, np.float32), dark)


def dent(surface: Surface, rng: np.random.Generator) -> None:
    """A broad shallow hollow: seen only by how it catches the light."""
    radius = rng.uniform(0.09, 0.18)
    distance = _from_centre(surface.side, rng) / np.float32(radius)
    hollow = np.exp(-(distance**4))
    surface.height -= hollow * np.float32(radius * rng.uniform(0.35, 0.55))


DEFECTS: dict[str, Callable[[Surface, np.random.Generator], None]] = {
    "scratch": scratch,
    "stain": stain,
    "pit": pit,
    "crack": crack,
    "dent": dent,
}


def _from_centre(side: int, rng: np.random.Generator) -> Field:
    """Distance from a random place, (side, side), stretched in a random direction."""
    x, y = plane(side)
    place_x, place_y = rng.uniform(-_REACH, _REACH, 2).astype(np.float32)
    long, short = turned(x - place_x, y - place_y, rng.uniform(0, np.pi))
    stretch = np.float32(rng.uniform(1, 1.5))
    distance: Field = np.hypot(long / stretch, short * stretch).astype(np.float32)
    return distance


def _wander(rng: np.random.Generator, start: _Points, heading: float, *, steps: int) -> _Points:
    """A jagged path from `start`, (steps + 1, 2)."""
    headings = heading + rng.normal(0, 0.65, steps)
    lengths = rng.uniform(0.01, 0.032, steps)
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * lengths[:, None]
    return np.vstack([start, start + np.cumsum(moves, axis=0)])


def _lines(side: int, strokes: list[_Points], width: float) -> Field:
    """Coverage 0 to 1, (side, side), of polylines in plane coordinates, thin at both ends."""
    pixels = side * _LINE_SCALE
    scale = pixels / CANVAS_SIDE
    picture = Image.new("L", (pixels, pixels))
    draw = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = (stroke + CANVAS_SIDE / 2) * scale
        taper = 0.4 + 0.6 * np.sin(np.pi * (np.arange(len(points) - 1) + 0.5) / (len(points) - 1))
        for (start, end), share in zip(pairwise(points), taper, strict=True):
            thick = max(1, round(width * scale * share))
            draw.line([tuple(start), tuple(end)], fill=255, width=thick)
            # A round joint: two thick segments alone leave a notch where they meet.
            draw.circle(tuple(end), thick / 2, fill=255)
    return np.asarray(picture.reduce(_LINE_SCALE), dtype=np.float32) / np.float32(255)


def _blend(surface: Surface, colour: Field, strength: Field) -> None:
    surface.colour += (colour - surface.colour) * strength[..., None]
