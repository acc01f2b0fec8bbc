"""Counts at falling thresholds: what the curves and the threshold explorer are drawn of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy

POINTS = 200  # a class, at most
ALL_POINTS = 40_000  # of all classes together: the page stays small with 500 of them
FEWEST = 20
POOLED_UP_TO = 20_000_000  # probabilities; sorting more would take longer than the rest

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdCurve:
    """One class against the rest: exact counts at thresholds, which fall.

    Attributes:
        positives, negatives: pictures that have the class, and that do not.
        thresholds: float64 [K]; the class is named from the threshold on, compared in float32.
        hits: int64 [K], pictures rightly named.
        false_alarms: int64 [K], pictures wrongly named.
        fitted: the position of the policy's threshold; None where it has none.
    """

    positives: int
    negatives: int
    thresholds: Floats
    hits: Counts
    false_alarms: Counts
    fitted: int | None = None

    @property
    def best_f1(self) -> int:
        """The position of the highest F1, the first of equals."""
        return int(np.argmax(2 * self.hits / (self.hits + self.false_alarms + self.positives)))

    def roc(self) -> list[tuple[float, float]]:
        """(false positive rate, true positive rate) from (0, 0) to (1, 1)."""
        rates = zip(self.false_alarms / self.negatives, self.hits / self.positives, strict=True)
        return [(0.0, 0.0), *((float(x), float(y)) for x, y in rates)]

    def precision_recall(self) -> list[tuple[float, float]]:
        """(recall, precision), as steps: between two recalls the precision of the higher one."""
        precisions = self.hits / (self.hits + self.false_alarms)
        points, before = [], 0.0
        for recall, precision in zip(self.hits / self.positives, precisions, strict=True):
            points += [(before, float(precision)), (float(recall), float(precision))]
            before = float(recall)
        return points

    def as_json(self) -> dict[str, Any]:
        """Return the counts for the page, under short keys."""
        return {
            "p": self.positives,
            "n": self.negatives,
            "t": self.thresholds.tolist(),
            "h": self.hits.tolist(),
            "f": self.false_alarms.tolist(),
            "at": self.best_f1 if self.fitted is None else self.fitted,
            "fitted": self.fitted,
        }


def class_curves(
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    policy: DecisionPolicy,
) -> dict[str, ThresholdCurve]:
    """Return the curve of each class that has both pictures with it and without it.

    Args:
        targets: int64 [N] or [N, C]; a tag's curve is over the pictures where it is known.
    """
    points = max(FEWEST, min(POINTS, ALL_POINTS // len(label_space.names)))
    curves = {}
    for column, name in enumerate(label_space.names):
        scores, threshold = table.probabilities[:, column], None
        if label_space.task == "multiclass":
            truth = targets == column
        else:
            known = targets[:, column] != UNKNOWN
            truth, scores = targets[known, column] == 1, scores[known]
            threshold = policy.thresholds[column]
        curve = threshold_curve(truth, scores, threshold, points=points)
        if curve is not None:
            curves[name] = curve
    return curves


def pooled_curve(table: PredictionTable, targets: npt.NDArray[np.int64]) -> ThresholdCurve | None:
    """Return the curve over all decisions together (micro-average); None where it is too much."""
    if table.probabilities.size > POOLED_UP_TO:
        return None
    if targets.ndim == 1:
        truth = targets[:, None] == np.arange(len(table.names))
        return threshold_curve(truth.ravel(), table.probabilities.ravel())
    known = targets != UNKNOWN
    return threshold_curve(targets[known] == 1, table.probabilities[known])


def threshold_curve(
    truth: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float32],
    fitted: float | None = None,
    *,
    points: int = POINTS,
) -> ThresholdCurve | None:
    """Count hits and false alarms at up to `points` thresholds (and at the fitted one).

    Where there are more different scores, those are left out that change least: points lie
    evenly along the ROC curve.

    Args:
        truth: bool [N].
        scores: float32 [N], 0 to 1.
        fitted: a threshold to keep as it is.

    Returns:
        None where no picture has the class, or all have it.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.flatnonzero(np.append(falling[:-1] > falling[1:], True))  # of equal scores
    hits = np.cumsum(truth[order])[last].astype(np.int64)
    false_alarms = last + 1 - hits
    levels = falling[last]
    kept = set(_evenly(hits / positives, false_alarms / negatives, points).tolist())
    kept.add(int(np.argmax(2 * hits / (last + 1 + positives))))
    place = None
    if fitted is not None:
        # Where it names nothing, no count stands for it: the slider then begins elsewhere.
        above = int((levels >= np.float32(fitted)).sum())
        place = above - 1 if above else None
        kept |= {place} if place is not None else set()
    chosen = np.array(sorted(kept))
    below = np.append(levels[1:], np.float32(-1))
    thresholds = np.array([_between(levels[at], below[at]) for at in chosen])
    at = None
    if fitted is not None and place is not None:
        at = int(np.searchsorted(chosen, place))
        thresholds[at] = fitted
    return ThresholdCurve(positives, negatives, thresholds, hits[chosen], false_alarms[chosen], at)


def _evenly(true_rate: Floats, false_rate: Floats, points: int) -> npt.NDArray[np.intp]:
    """Positions of at most `points` values, evenly along the curve; the first and the last too."""
    if len(true_rate) <= points:
        return np.arange(len(true_rate))
    # The steps in recall count as much as those to the side, few of which make the precision.
    length = true_rate + np.sqrt(false_rate)
    marks = np.linspace(length[0], length[-1], points)
    return np.unique(np.searchsorted(length, marks).clip(0, len(length) - 1))


def _between(level: np.float32, below: np.float32) -> float:
    """The shortest decimal that names all from `level` on, and nothing at `below`."""
    for digits in range(2, 10):
        rounded = math.floor(float(level) * 10**digits) / 10**digits
        if float(below) < float(np.float32(rounded)) <= float(level):
            return float(rounded)
    return float(level)
