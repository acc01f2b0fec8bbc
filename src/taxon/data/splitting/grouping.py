"""Grouping: which pictures must never be on two sides of a fold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taxon.data.manifest import Manifest
from taxon.data.splitting.look_alikes import look_alikes
from taxon.data.splitting.units import make_units


def unit_numbers(manifest: Manifest) -> npt.NDArray[np.int64]:
    """int64 [N]: a number for each record, the same for those of one group, of the same content,
    and for near-duplicates."""
    units, _ = make_units(manifest, look_alikes(manifest, []), {})
    numbers = np.zeros(len(manifest), np.int64)
    for number, positions in enumerate(units.members):
        numbers[list(positions)] = number
    return numbers
