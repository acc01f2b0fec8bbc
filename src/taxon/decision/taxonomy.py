"""Answers over a taxonomy: how deep an answer is sure enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.labels import LabelSpace

Probabilities = npt.NDArray[np.floating[Any]]


def confident_path(
    probabilities: Probabilities, label_space: LabelSpace, confidence: float
) -> tuple[str, ...]:
    """Return the path to the deepest node that is probable enough; empty for flat classes.

    From coarse to fine, the most probable node below the one before, while it has at least this
    probability.

    Args:
        probabilities: [C].
        confidence: 0 to 1.
    """
    if not label_space.is_taxonomy:
        return ()
    tree = label_space.tree
    deepest, chosen = "", 0  # at the root
    for level, rolled in zip(tree.levels, tree.roll_up(probabilities[None]), strict=True):
        below = np.flatnonzero(level.parent_of_node == chosen)
        chosen = int(below[rolled[0, below].argmax()])
        if rolled[0, chosen] < confidence:
            break
        deepest = level.nodes[chosen]
    return label_space.path(deepest) if deepest else ()
