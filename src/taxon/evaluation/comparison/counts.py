"""Figures from counts: true positives and times named, both [C, r], and pictures a class [C, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from taxon.metrics.bootstrap import FloatArray

CountFigure = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


def macro_f1_of(hits: FloatArray, named: FloatArray, support: FloatArray) -> FloatArray:
    """Return the mean F1 over the classes that occur, float64 [r]."""
    present = support[:, 0] > 0
    return np.asarray((2 * hits[present] / (support + named)[present]).mean(axis=0))


def micro_f1_of(hits: FloatArray, named: FloatArray, support: FloatArray) -> FloatArray:
    """Return F1 over all decisions together, float64 [r]."""
    # Never 0 below: where no class occurs and none is named, the figure is undefined before.
    return np.asarray(2 * hits.sum(axis=0) / (support.sum() + named.sum(axis=0)))


def balanced_accuracy_of(hits: FloatArray, named: FloatArray, support: FloatArray) -> FloatArray:
    """Return the mean recall over the classes that occur, float64 [r]."""
    present = support[:, 0] > 0
    return np.asarray((hits[present] / support[present]).mean(axis=0))
