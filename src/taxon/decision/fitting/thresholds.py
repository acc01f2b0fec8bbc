"""From which score on a class is named: by F1, by a recall or a precision that is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig, Target
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.cuts import below_cut
from taxon.decision.fitting.f1_thresholds import fit_f1_thresholds
from taxon.decision.fitting.part import CalibrationPart, Targets, listed

Scores = npt.NDArray[np.floating]
NEVER = float(np.nextafter(np.float32(1.0), np.float32(2.0)))  # above every probability


@dataclass(frozen=True)
class ThresholdFit:
    """A threshold for each tag; what was found, in sentences; of these, targets not to be kept."""

    thresholds: tuple[float, ...]
    notes: tuple[str, ...]
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetFit:
    """A threshold for a recall or a precision, words on it, and whether it can be kept.

    A threshold of 0 names every picture, one above 1 none.
    """

    threshold: float
    words: str
    kept: bool = True


def fit_thresholds(
    part: CalibrationPart, probabilities: FloatArray, config: DecisionConfig
) -> ThresholdFit:
    """Choose a threshold for every tag, by F1 or by the recall or precision that is asked for.

    A tag with fewer than `threshold_support` examples (or counter-examples) takes the threshold
    that is chosen on all tags together. Where one tag has a target, the others keep theirs by F1.

    Args:
        probabilities: float32 [N, C], calibrated.
    """
    if config.target != "f1" and config.target_class is None:
        return _by_target(part, probabilities, config)
    by_f1 = fit_f1_thresholds(part, probabilities, config.threshold_support)
    if config.target_class is None:
        return ThresholdFit(by_f1.thresholds, by_f1.notes)
    asked = _by_target(part, probabilities, config)
    thresholds = tuple(
        asked.thresholds[column] if name == config.target_class else by_f1.thresholds[column]
        for column, name in enumerate(part.label_space.names)
    )
    return ThresholdFit(thresholds, (*asked.notes, *by_f1.notes), asked.broken)


def _by_target(
    part: CalibrationPart, probabilities: FloatArray, config: DecisionConfig
) -> ThresholdFit:
    """The thresholds of a recall or precision; of tags that have no target they mean nothing."""
    known = part.targets != UNKNOWN
    shared = _shared_threshold(part.targets[known], probabilities[known], config)
    thresholds: list[float] = []
    rare, notes, broken = [], [], []
    for column, name in enumerate(part.label_space.names):
        rows = known[:, column]
        truth, scores = part.targets[rows, column], probabilities[rows, column]
        positives = int(truth.sum())
        if config.target_class not in (None, name):
            thresholds.append(shared)
        elif min(positives, len(truth) - positives) < config.threshold_support:
            rare.append(name)
            thresholds.append(shared)
        else:
            found = threshold_for(truth, scores, config.target, config.target_value)
            thresholds.append(found.threshold)
            start = f"named from {found.threshold:.3g} on, " if found.kept else ""
            notes.append(f"'{name}': {start}{found.words}")
            broken += [] if found.kept else notes[-1:]
    lead = f"thresholds by {config.target} of {config.target_value:g} on {part.name}"
    if rare:
        few = f"fewer than {config.threshold_support} examples or counter-examples"
        notes.append(f"{listed(rare)}: {few}: the shared threshold {shared:.2f}")
    return ThresholdFit(tuple(thresholds), (lead, *notes), tuple(broken))


def _shared_threshold(truth: Targets, scores: Scores, config: DecisionConfig) -> float:
    """One threshold that reaches the target over all answers together, both [K]."""
    if not 0 < truth.sum() < len(truth):
        return 0.5
    return threshold_for(truth, scores, config.target, config.target_value).threshold


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
