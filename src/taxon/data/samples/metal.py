"""Metal finishes: brushed, milled and cast."""

from __future__ import annotations

import numpy as np

from taxon.data.samples.canvas import (
    Field,
    Surface,
    cloud_noise,
    painted,
    plane,
    random_colour,
    smooth_noise,
    turned,
)


def _metal_colour(rng: np.random.Generator, shade: Field) -> Field:
    return painted(random_colour(rng), shade)


def brushed(rng: np.random.Generator, side: int) -> Surface:
    """Long fine streaks in one direction."""
    length = rng.uniform(0.3, 0.9)
    streaks = smooth_noise(rng, side, length, 0.006) + 0.7 * smooth_noise(rng, side, length, 0.014)
    if rng.random() < 0.5:
        streaks = streaks.T.copy()
    shade = streaks * np.float32(rng.uniform(0.05, 0.12))
    height = streaks * np.float32(rng.uniform(0.0002, 0.0006))
    return Surface(_metal_colour(rng, shade), height, gloss=rng.uniform(0.3, 0.6))


def milled(rng: np.random.Generator, side: int) -> Surface:
    """Arcs that a turning cutter leaves, row beside row."""
    x, y = turned(*plane(side), rng.choice([0, np.pi / 2]) + rng.uniform(-0.2, 0.2))
    row_height = rng.uniform(0.22, 0.45)
    from_row_middle = ((y / row_height + rng.random()) % 1 - 0.5) * row_height
    radius = row_height * rng.uniform(0.52, 0.75)
    arc = np.sqrt(radius**2 - from_row_middle**2)
    phase = (x + arc) / rng.uniform(0.03, 0.05)
    cusps = np.abs(np.sin(np.pi * phase)).astype(np.float32)
    height = -cusps * np.float32(rng.uniform(0.002, 0.004))
    shade = 0.15 * (cusps - 0.6) + 0.03 * cloud_noise(rng, side, 0.1)
    return Surface(_metal_colour(rng, shade), height, gloss=rng.uniform(0.3, 0.6))


def cast(rng: np.random.Generator, side: int) -> Surface:
    """The grainy skin of sand casting."""
    grain = rng.uniform(0.02, 0.035)
    bumps = cloud_noise(rng, side, grain, octaves=2)
    height = bumps * np.float32(grain * rng.uniform(0.05, 0.09))
    shade = 0.05 * bumps + 0.05 * cloud_noise(rng, side, 0.3)
    return Surface(_metal_colour(rng, shade), height, gloss=rng.uniform(0.1, 0.3))
