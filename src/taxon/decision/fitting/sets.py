"""Fit prediction sets: the limit of the scores, so that sets hold the true class often enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.part import CalibrationPart, listed
from taxon.decision.policy import PredictionSets
from taxon.decision.sets import set_scores

# As for ImageNet in Angelopoulos et al. 2021; a set of one class costs nothing.
PENALTY = 0.01
FREE = 1


@dataclass(frozen=True)
class SetsFit:
    """The fitted sets, None where there are too few pictures, and sentences on them."""

    sets: PredictionSets | None
    notes: tuple[str, ...] = ()


def fit_sets(part: CalibrationPart, probabilities: FloatArray, config: DecisionConfig) -> SetsFit:
    """Fit the limit(s) by split conformal prediction (Vovk et al. 2005).

    Over calibration parts and new pictures like them, a set holds the true class with a chance of
    at least `set_coverage` (nearly: the temperature, one number, is fitted on the same part); with
    `set_per_class` so for the pictures of every class (Vovk 2012, "Conditional validity of
    inductive conformal predictors"). A class with too few pictures for that takes the limit of
    all, and the notes say so.

    Args:
        probabilities: float32 [N, C], calibrated.
    """
    coverage = config.set_coverage
    if coverage is None:
        return SetsFit(None, ())
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    if len(part) < needed:
        return SetsFit(
            None,
            (
                f"no prediction sets: a coverage of {coverage:g} needs {needed} pictures in "
                f"{part.name}, which has {len(part)}",
            ),
        )
    penalty, free = (PENALTY, FREE) if config.set_method == "raps" else (0.0, 0)
    scores = set_scores(probabilities, config.set_method, penalty, free)
    own = scores[np.arange(len(part)), part.targets]
    pooled = conformal_limit(own, coverage)
    assert pooled is not None  # there are enough pictures
    limits, notes = [pooled], []
    if config.set_per_class:
        limits, rare = [], []
        for position, name in enumerate(part.label_space.names):
            limit = conformal_limit(own[part.targets == position], coverage)
            limits.append(pooled if limit is None else limit)
            if limit is None:
                rare.append(name)
        if rare:
            notes.append(
                f"{listed(rare)}: fewer than {needed} pictures in {part.name}: their sets take the "
                "limit of all classes, and no coverage of their own is promised"
            )
    sets = PredictionSets(
        method=config.set_method,
        coverage=coverage,
        limits=tuple(limits),
        penalty=penalty,
        free=free,
    )
    each = " for each class" if config.set_per_class else ""
    lead = f"prediction sets ({config.set_method}) with a coverage of {coverage:g}{each}"
    return SetsFit(sets, (lead, *notes))


def conformal_limit(scores: npt.NDArray[np.float64], coverage: float) -> float | None:
    """Return the ceil(coverage (n + 1))-th smallest of n scores; None where that is beyond them.

    Args:
        scores: float64 [n], of the true classes.
        coverage: above 0, below 1.
    """
    rank = math.ceil(coverage * (len(scores) + 1) - 1e-9)
    return None if rank > len(scores) else float(np.sort(scores)[rank - 1])
