"""Tile finishes: glazed, brick and terrazzo."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from taxon.data.samples.canvas import (
    CANVAS_SIDE,
    Field,
    Surface,
    cloud_noise,
    painted,
    plane,
    random_colour,
    turned,
)

_JOINT_WIDTH = 0.012


def glazed(rng: np.random.Generator, side: int) -> Surface:
    """Large smooth square tiles with thin joints."""
    tile_side = rng.uniform(0.4, 0.6)
    return _laid(
        rng, side, tile_side, tile_side, offset=0.0, roughness=0.0001, unevenness=0.02, gloss=0.6
    )


def brick(rng: np.random.Generator, side: int) -> Surface:
    """Small rough bricks in running bond, each of its own shade."""
    height = rng.uniform(0.11, 0.18)
    return _laid(
        rng, side, 2.2 * height, height, offset=0.5, roughness=0.0012, unevenness=0.1, gloss=0.1
    )


def _laid(
    rng: np.random.Generator,
    side: int,
    width: float,
    height: float,
    *,
    offset: float,
    roughness: float,
    unevenness: float,
    gloss: float,
) -> Surface:
    """Pieces of `width` x `height` with joints; each course is shifted by `offset` pieces.

    `roughness` is the relief of a piece, `unevenness` the spread of brightness among pieces.
    """
    x, y = turned(*plane(side), rng.choice([0, np.pi / 2]))
    row_position = y / height + rng.random() + 32
    row = np.floor(row_position).astype(int)
    column_position = x / width + rng.random() + 32 + offset * (row % 2)
    column = np.floor(column_position).astype(int)
    to_edge = np.minimum(
        (0.5 - np.abs(row_position % 1 - 0.5)) * height,
        (0.5 - np.abs(column_position % 1 - 0.5)) * width,
    ).astype(np.float32)
    inside = np.clip((to_edge / _JOINT_WIDTH - 0.4) * 2.5, 0, 1)
    piece_shade = rng.standard_normal((64, 64), dtype=np.float32)[row, column] * unevenness
    mottling = cloud_noise(rng, side, 0.05)
    body = painted(random_colour(rng), piece_shade + mottling * np.float32(20 * roughness + 0.01))
    grey = np.full(3, rng.uniform(0.3, 0.8), dtype=np.float32)
    joint = painted(grey, 0.05 * cloud_noise(rng, side, 0.02))
    colour: Field = body * inside[..., None] + joint * (1 - inside[..., None])
    relief = inside * np.float32(0.006) + mottling * np.float32(roughness)
    return Surface(colour, relief, gloss)


def terrazzo(rng: np.random.Generator, side: int) -> Surface:
    """Angular chips of several colours in polished cement."""
    cement = painted(random_colour(rng), 0.03 * cloud_noise(rng, side, 0.05))
    picture = Image.fromarray((cement * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    chip_colours = [tuple((random_colour(rng) * 255).astype(int)) for _ in range(4)]
    chip_size = rng.uniform(0.015, 0.03)
    for _ in range(int(0.35 * (CANVAS_SIDE / chip_size / 2) ** 2)):
        corners = rng.integers(4, 8)
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = chip_size * rng.uniform(0.4, 1.6) * rng.uniform(0.7, 1.2, corners)
        centre = rng.uniform(0, CANVAS_SIDE, 2)
        points = (centre + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]) * (
            side / CANVAS_SIDE
        )
        draw.polygon([tuple(point) for point in points], fill=chip_colours[rng.integers(4)])
    colour = np.asarray(picture, dtype=np.float32) / np.float32(255)
    height = cloud_noise(rng, side, 0.05) * np.float32(0.0001)
    return Surface(colour, height, gloss=rng.uniform(0.3, 0.6))
