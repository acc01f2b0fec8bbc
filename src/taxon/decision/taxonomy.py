"""Answers over a taxonomy: which class is named, and how deep an answer is sure enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.labels import LabelSpace
from taxon.core.taxonomy import TaxonomyRule

Probabilities = npt.NDArray[np.floating[Any]]


def answer_scores(
    probabilities: Probabilities, label_space: LabelSpace, rule: TaxonomyRule
) -> Probabilities:
    """Return by what a multiclass answer is chosen, [N, C], 0 to 1; the highest is named.

    With `most-probable` these are the probabilities. With `least-risk` (Karthik et al. 2021, "No
    Cost Likelihood Manipulation at Test Time for Making Better Mistakes in Deep Networks") a class
    scores by how close it is expected to be to the true one, so that the class is named whose
    lowest common ancestor with the truth has the least expected height.

    Args:
        probabilities: [N, C]; rows sum to 1.
    """
    if rule == "most-probable" or not label_space.is_taxonomy:
        return probabilities
    return label_space.tree.closeness(probabilities)


def named_classes(
    probabilities: Probabilities, label_space: LabelSpace, rule: TaxonomyRule
) -> npt.NDArray[np.int64]:
    """Return the class that a multiclass answer names, int64 [N]; of equal ones the earlier.

    Args:
        probabilities: [N, C]; rows sum to 1.
    """
    scores = answer_scores(probabilities, label_space, rule)
    return np.asarray(scores.argmax(axis=1), np.int64)


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
