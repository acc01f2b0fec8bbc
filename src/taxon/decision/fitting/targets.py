"""From which score on a class is named, for a recall or a precision that is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import Target
from taxon.decision.fitting.cuts import below_cut
from taxon.decision.fitting.part import Targets

Scores = npt.NDArray[np.floating]
NEVER = float(np.nextafter(np.float32(1.0), np.float32(2.0)))  # above every probability


@dataclass(frozen=True)
class TargetFit:
    """A threshold for a recall or a precision, words on it, and whether it can be kept.

    A threshold of 0 names every picture, one above 1 none.
    """

    threshold: float
    words: str
    kept: bool = True


def threshold_for(truth: Targets, scores: Scores, target: Target, value: float | None) -> TargetFit:
    """Return the threshold for a recall or a precision that is asked for."""
    assert value is not None  # the configuration requires it
    if target == "recall":
        return recall_threshold(truth, scores, value)
    return precision_threshold(truth, scores, value)


def recall_threshold(truth: Targets, scores: Scores, recall: float) -> TargetFit:
    """Return the highest threshold from which a new positive is named with chance `recall`.

    The rank is that of split conformal prediction, floor((1 - recall)(n + 1)) of the n positives'
    scores from below: over new pictures like these, recall is at least what was asked for (in the
    mean over calibration parts), which the empirical quantile alone would miss by up to 1 / n.

    Args:
        truth: int64 [N] of 0 and 1, with at least one 1.
        scores: [N].
        recall: above 0, below 1.
    """
    positives = np.sort(scores[truth == 1].astype(np.float64))
    rank = math.floor((1 - recall) * (len(positives) + 1) + 1e-9)
    if rank == 0:
        needed = math.ceil(recall / (1 - recall) - 1e-9)
        words = (
            f"{len(positives)} examples cannot promise a recall of {recall:g} "
            f"({needed} are needed): every picture is named"
        )
        return TargetFit(0.0, words, kept=False)
    threshold = float(positives[rank - 1])
    return TargetFit(threshold, _words(truth, scores, threshold))


def precision_threshold(truth: Targets, scores: Scores, precision: float) -> TargetFit:
    """Return the lowest threshold with at least this precision on the part.

    Args:
        truth: int64 [N] of 0 and 1.
        scores: [N].
        precision: above 0, below 1.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    shares = np.cumsum(truth[order]) / np.arange(1, len(order) + 1)
    possible = np.append(ranked[:-1] > ranked[1:], True)
    good = np.flatnonzero(possible & (shares >= precision))
    if not len(good):
        words = f"no threshold has a precision of {precision:g}: never named"
        return TargetFit(NEVER, words, kept=False)
    threshold = below_cut(ranked, int(good[-1]))
    return TargetFit(threshold, _words(truth, scores, threshold))


def _words(truth: Targets, scores: Scores, threshold: float) -> str:
    named = scores >= np.float32(threshold)
    hits, positives = int((named & (truth == 1)).sum()), int(truth.sum())
    return (
        f"recall {hits / positives:.0%} of {positives} examples, "
        f"precision {hits / max(1, int(named.sum())):.0%}"
    )
