"""A threshold between two scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def below_cut(ranked: npt.NDArray[np.float64], cut: int) -> float:
    """Return a threshold between a falling sequence's element `cut` and the next."""
    below = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
    middle = (ranked[cut] + below) / 2
    # Probabilities are float32: between two neighbours the middle may round to the lower one.
    return float(middle if np.float32(middle) > below else ranked[cut])
