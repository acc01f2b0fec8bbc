"""Prediction sets by split conformal prediction (Vovk et al. 2005; Angelopoulos & Bates 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.predictions import SetMethod
from taxon.decision.policy import PredictionSets

Probabilities = npt.NDArray[np.floating[Any]]


def set_scores(
    probabilities: Probabilities, method: SetMethod, penalty: float = 0.0, free: int = 0
) -> npt.NDArray[np.float64]:
    """Return how unusual each class would be for each picture, float64 [N, C]; low is usual.

    `lac` (Sadinle et al. 2019, "Least Ambiguous Set-Valued Classifiers"): 1 - probability.

    `raps` (Angelopoulos et al. 2021, "Uncertainty Sets for Image Classifiers"): the probability of
    all classes that come before it, and `penalty` for each place beyond the first `free` ones. The
    class's own probability is left out, so that the first class always scores 0 and a set is
    never empty; no chance is drawn, so that a picture always gets the same set.

    Args:
        probabilities: [N, C]; rows sum to 1. Of equal ones the earlier class comes first.
    """
    exact = probabilities.astype(np.float64)
    if method == "lac":
        return np.asarray(1.0 - exact)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(exact, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    places = np.arange(1, exact.shape[1] + 1)
    scores = np.empty_like(exact)
    np.put_along_axis(scores, order, before + penalty * np.maximum(0, places - free), axis=1)
    return scores


def prediction_sets(
    probabilities: Probabilities, named: npt.NDArray[np.int64], sets: PredictionSets
) -> npt.NDArray[np.bool_]:
    """Return which classes are in each picture's set, bool [N, C]; the named one always is.

    Args:
        probabilities: [N, C].
        named: int64 [N], the classes that the answers name.
    """
    scores = set_scores(probabilities, sets.method, sets.penalty, sets.free)
    inside = np.asarray(scores <= np.array(sets.limits))
    inside[np.arange(len(named)), named] = True
    return inside
