"""Worn finishes: sound material all over which use has left its marks.

They make the taxonomy depend on small marks as well as on texture, so that a network trained
on it has something to bring to the search for defects.
"""

from __future__ import annotations

import numpy as np

from taxon.data.samples import fabric, metal, tile
from taxon.data.samples.canvas import Surface
from taxon.data.samples.defects import crack, dent, pit, scratch, stain


def scuffed(rng: np.random.Generator, side: int) -> Surface:
    """Metal with scratches in all directions."""
    surface = _any_metal(rng, side)
    for _ in range(rng.integers(2, 4)):
        scratch(surface, rng)
    return surface


def pitted(rng: np.random.Generator, side: int) -> Surface:
    """Metal with clusters of corrosion holes."""
    surface = _any_metal(rng, side)
    for _ in range(rng.integers(2, 4)):
        pit(surface, rng)
    return surface


def dented(rng: np.random.Generator, side: int) -> Surface:
    """Metal that has been knocked about."""
    surface = _any_metal(rng, side)
    for _ in range(rng.integers(2, 5)):
        dent(surface, rng)
    return surface


def cracked(rng: np.random.Generator, side: int) -> Surface:
    """Glazed tiles with cracks."""
    surface = tile.glazed(rng, side)
    for _ in range(rng.integers(1, 4)):
        crack(surface, rng)
    return surface


def spotted(rng: np.random.Generator, side: int) -> Surface:
    """Woven fabric with spilt spots."""
    surface = (fabric.plain, fabric.twill)[rng.integers(2)](rng, side)
    for _ in range(rng.integers(1, 4)):
        stain(surface, rng)
    return surface


def _any_metal(rng: np.random.Generator, side: int) -> Surface:
    return (metal.brushed, metal.milled, metal.cast)[rng.integers(3)](rng, side)
