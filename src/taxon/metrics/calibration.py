"""Calibration: does a confidence of 80 % mean right in 80 of 100 cases?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.labels import UNKNOWN
from taxon.metrics.figure import NOTHING_KNOWN, Figure, undefined
from taxon.metrics.indicator import (
    IntArray,
    Scores,
    known_shares,
    predicted_classes,
    require_pictures,
)

BINS = 15
DRAWS = 400
MANY = 1_000  # answers, whose right ones are as good as normally distributed


@dataclass(frozen=True)
class ReliabilityBins:
    """Answers sorted into bins of equal width by their confidence.

    Attributes:
        edges: float64 [B + 1], from 0 to 1; a bin holds its upper edge, the first also 0.
        counts: int64 [B].
        confidence: float64 [B], the mean confidence in the bin; NaN where it is empty.
        accuracy: float64 [B], the share that is right; NaN where it is empty.
    """

    edges: npt.NDArray[np.float64]
    counts: IntArray
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def reliability_bins(
    targets: IntArray, probabilities: Scores, *, bins: int = BINS
) -> ReliabilityBins:
    """Sort the answers by confidence (for the reliability diagram and the ECE).

    Multiclass: one answer a picture, its confidence is the highest probability, it is right
    when that class is. Multilabel: one answer a picture and class, its confidence is the
    probability, it is "right" when the picture has the class. What is unknown is no answer.

    Args:
        targets: int64 [N] or [N, C].
        probabilities: [N, C].

    Raises:
        DataError: there are no pictures.
    """
    confidence, right = _answers(targets, probabilities)
    edges, positions = _bins_of(confidence, bins)
    counts = np.bincount(positions, minlength=bins)
    with np.errstate(invalid="ignore"):
        return ReliabilityBins(
            edges=edges,
            counts=counts,
            confidence=np.bincount(positions, confidence, minlength=bins) / counts,
            accuracy=np.bincount(positions, right, minlength=bins) / counts,
        )


def expected_calibration_error(
    targets: IntArray, probabilities: Scores, *, bins: int = BINS
) -> Figure:
    """Return the ECE (Guo et al. 2017, "On Calibration of Modern Neural Networks"), 0 to 1.

    The mean gap between confidence and accuracy over bins of equal width, weighted by the
    number of answers in each. It is biased upwards on few pictures.

    Raises:
        DataError: there are no pictures.
    """
    found = reliability_bins(targets, probabilities, bins=bins)
    filled = found.counts > 0
    if not filled.any():
        return undefined(NOTHING_KNOWN)
    gaps = np.abs(found.confidence[filled] - found.accuracy[filled])
    return Figure.of(float(np.average(gaps, weights=found.counts[filled])))


def calibration_error_by_chance(
    targets: IntArray, probabilities: Scores, *, bins: int = BINS
) -> Figure:
    """Return the ECE that a perfectly calibrated classifier would show on as many answers.

    Each answer is drawn right or wrong by its own confidence, 400 times (seeded): the mean ECE, and
    the range of the middle 95 %. An ECE within it is no evidence that anything is amiss
    (consistency resampling, Bröcker & Smith 2007). Answers are taken for independent: where
    pictures come in groups, or have several labels, chance reaches further.

    Raises:
        DataError: there are no pictures.
    """
    confidence, _ = _answers(targets, probabilities)
    if not len(confidence):
        return undefined(NOTHING_KNOWN)
    _, positions = _bins_of(confidence, bins)
    generator, gaps = np.random.default_rng(0), np.zeros(DRAWS)
    for position in np.unique(positions):
        chances = confidence[positions == position]
        if len(chances) > MANY:
            spread = np.sqrt((chances * (1 - chances)).sum())
            right = generator.normal(chances.sum(), spread, DRAWS)
        else:
            right = (generator.random((DRAWS, len(chances))) < chances).sum(axis=1)
        gaps += np.abs(chances.sum() - right)
    found = gaps / len(confidence)
    low, high = np.percentile(found, [2.5, 97.5])
    return Figure.of(float(found.mean())).with_interval((float(low), float(high)))


def adaptive_calibration_error(
    targets: IntArray, probabilities: Scores, *, bins: int = BINS
) -> Figure:
    """Return the ECE over bins of equal mass, 0 to 1 (Nguyen & O'Connor 2015; Nixon et al. 2019).

    As many answers lie in each bin, but for equal confidences, which stay together. Of a model that
    is nearly always sure, bins of equal width leave most of the answers in one; these do not. The
    same answers as in `reliability_bins`. It is biased upwards on few pictures too.

    Raises:
        DataError: there are no pictures.
    """
    confidence, right = _answers(targets, probabilities)
    if not len(confidence):
        return undefined(NOTHING_KNOWN)
    below = np.searchsorted(np.sort(confidence), confidence, side="left")
    positions = below * bins // len(confidence)
    gaps = np.abs(np.bincount(positions, confidence - right))
    return Figure.of(float(gaps.sum() / len(confidence)))


def _bins_of(
    confidence: npt.NDArray[np.float64], bins: int
) -> tuple[npt.NDArray[np.float64], IntArray]:
    """The edges of bins of equal width, and the bin of each answer."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return edges, (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)


def _answers(
    targets: IntArray, probabilities: Scores
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The confidence of each answer and whether it is right; see `reliability_bins`."""
    require_pictures(len(targets))
    if targets.ndim == 2:
        known = targets != UNKNOWN
        confidence, right = probabilities[known], targets[known] == 1
    else:
        confidence, right = probabilities.max(axis=1), predicted_classes(probabilities) == targets
    return confidence.astype(np.float64), right


def row_brier_scores(targets: IntArray, probabilities: Scores) -> npt.NDArray[np.float64]:
    """Return each picture's share of the Brier score, float64 [N]; see `brier_score`. Of several
    labels it is the sum over the known ones, divided by C."""
    errors = probabilities.astype(np.float64)
    if targets.ndim == 2:
        known = targets != UNKNOWN
        return np.asarray(np.where(known, (errors - targets) ** 2, 0.0).mean(axis=1))
    errors[np.arange(len(targets)), targets] -= 1.0
    return np.asarray((errors**2).sum(axis=1))


def brier_score(targets: IntArray, probabilities: Scores) -> Figure:
    """Return the Brier score (Brier 1950): the mean squared error of the probabilities.

    Multiclass: summed over the classes, mean over pictures, 0 (perfect) to 2. Multilabel: mean
    over all that is known, 0 to 1. Written out because scikit-learn has the multiclass form
    only since 1.7, newer than the oldest version that taxon allows.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    scores = row_brier_scores(targets, probabilities)
    shares = known_shares(targets)
    if not shares.any():
        return undefined(NOTHING_KNOWN)
    return Figure.of(float(scores.mean() / shares.mean()))
