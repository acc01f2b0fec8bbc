"""All surfaces by material and finish."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from taxon.data.samples import fabric, metal, tile, worn
from taxon.data.samples.canvas import Surface

SurfaceMaker = Callable[[np.random.Generator, int], Surface]

SURFACES: dict[str, dict[str, SurfaceMaker]] = {
    "fabric": {
        "knit": fabric.knit,
        "plain": fabric.plain,
        "spotted": worn.spotted,
        "twill": fabric.twill,
    },
    "metal": {
        "brushed": metal.brushed,
        "cast": metal.cast,
        "dented": worn.dented,
        "milled": metal.milled,
        "pitted": worn.pitted,
        "scuffed": worn.scuffed,
    },
    "tile": {
        "brick": tile.brick,
        "cracked": worn.cracked,
        "glazed": tile.glazed,
        "terrazzo": tile.terrazzo,
    },
}

# Sound finishes, on which defects are looked for.
INSPECTED: tuple[SurfaceMaker, ...] = (
    metal.brushed,
    metal.milled,
    metal.cast,
    tile.glazed,
    fabric.plain,
    fabric.twill,
)
