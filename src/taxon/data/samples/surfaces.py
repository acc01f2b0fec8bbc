"""All surfaces by material and finish."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from taxon.data.samples import fabric, metal, tile
from taxon.data.samples.canvas import Surface

SurfaceMaker = Callable[[np.random.Generator, int], Surface]

SURFACES: dict[str, dict[str, SurfaceMaker]] = {
    "fabric": {
        "herringbone": fabric.herringbone,
        "knit": fabric.knit,
        "plain": fabric.plain,
        "twill": fabric.twill,
    },
    "metal": {
        "brushed": metal.brushed,
        "cast": metal.cast,
        "hammered": metal.hammered,
        "milled": metal.milled,
    },
    "tile": {
        "brick": tile.brick,
        "crackle": tile.crackle,
        "glazed": tile.glazed,
        "terrazzo": tile.terrazzo,
    },
}

# Finishes that are inspected for defects. The others look damaged by design: hammered metal
# is all dents, crackle glaze all cracks.
INSPECTED: tuple[SurfaceMaker, ...] = (
    metal.brushed,
    metal.milled,
    metal.cast,
    tile.glazed,
    fabric.plain,
    fabric.twill,
)
