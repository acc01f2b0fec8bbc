"""From which score on a class is named: by F1, by a recall or a precision that is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig, Target
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.part import CalibrationPart, Targets, listed, stratified_folds

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
    """Choose a threshold for every tag.

    A tag with fewer than `threshold_support` examples (or counter-examples) takes the threshold
    that is chosen on all tags together. By F1, so does a tag whose own threshold would not do
    better on held-out folds; an own threshold is the median of those of the folds.

    Args:
        probabilities: float32 [N, C], calibrated.
    """
    names = part.label_space.names
    known = part.targets != UNKNOWN
    shared = shared_threshold(part.targets, probabilities, config)
    thresholds: list[float] = []
    rare, pooled, notes, broken = [], [], [], []
    for column, name in enumerate(names):
        rows = known[:, column]
        truth, scores = part.targets[rows, column], probabilities[rows, column]
        positives = int(truth.sum())
        if config.target_class not in (None, name):
            thresholds.append(0.5)
        elif min(positives, len(truth) - positives) < config.threshold_support:
            rare.append(name)
            thresholds.append(shared)
        elif config.target == "f1":
            own = own_f1_threshold(truth, scores, part.groups[rows], shared)
            if own is None:
                pooled.append(name)
            thresholds.append(shared if own is None else own)
        else:
            found = threshold_for(truth, scores, config.target, config.target_value)
            thresholds.append(found.threshold)
            start = f"named from {found.threshold:.3g} on, " if found.kept else ""
            notes.append(f"'{name}': {start}{found.words}")
            broken += [] if found.kept else notes[-1:]
    what = "F1" if config.target == "f1" else f"{config.target} of {config.target_value:g}"
    lead = f"thresholds by {what} on {part.name}"
    if rare:
        few = f"fewer than {config.threshold_support} examples or counter-examples"
        notes.append(f"{listed(rare)}: {few}: the shared threshold {shared:.2f}")
    if pooled:
        better = "own thresholds are not better on held-out folds"
        notes.append(f"{listed(pooled)}: {better}: the shared threshold {shared:.2f}")
    return ThresholdFit(tuple(thresholds), (lead, *notes), tuple(broken))


def shared_threshold(targets: Targets, probabilities: FloatArray, config: DecisionConfig) -> float:
    """Return one threshold for all tags: by the highest macro-F1, or the target over all answers.

    Args:
        targets: int64 [N, C], -1 is unknown.
        probabilities: float32 [N, C].
    """
    known = targets != UNKNOWN
    truth, scores = targets[known], probabilities[known]
    if not 0 < truth.sum() < len(truth):
        return 0.5
    if config.target != "f1":
        return threshold_for(truth, scores, config.target, config.target_value).threshold
    grid = np.arange(1, 100) / 100
    curves = [
        _f1_at(targets[known[:, column], column], probabilities[known[:, column], column], grid)
        for column in range(targets.shape[1])
        if (targets[:, column] == 1).any()
    ]
    means = np.mean(curves, axis=0)
    # Of equally good ones the middle: the ends lie next to a mistake.
    best = np.flatnonzero(means >= means.max() - 1e-12)
    return float(grid[best[len(best) // 2]])


def own_f1_threshold(
    truth: Targets, scores: Scores, groups: Targets, shared: float
) -> float | None:
    """Return a tag's own threshold by F1, or None where the shared one is as good.

    Args:
        truth: int64 [N] of 0 and 1.
        scores: [N].
        groups: int64 [N].
    """
    found: list[float] = []
    named_own, named_shared, held_truth = [], [], []
    for rest, held in stratified_folds(truth, groups):
        found.append(best_f1_threshold(truth[rest], scores[rest]))
        named_own.append(scores[held] >= np.float32(found[-1]))
        named_shared.append(scores[held] >= np.float32(shared))
        held_truth.append(truth[held])
    if not found:
        return None
    held = np.concatenate(held_truth)
    own, other = (_f1(held, np.concatenate(named)) for named in (named_own, named_shared))
    return float(np.median(found)) if own > other else None


def best_f1_threshold(truth: Targets, scores: Scores) -> float:
    """Return the threshold with the highest F1, midway between two neighbouring scores.

    Args:
        truth: int64 [N] of 0 and 1, with at least one 1.
        scores: [N].
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    # A cut between two equal scores cannot be made by any threshold.
    possible = np.append(ranked[:-1] > ranked[1:], True)
    return _below_cut(ranked, int(np.argmax(np.where(possible, f1, -1.0))))


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
    threshold = _below_cut(ranked, int(good[-1]))
    return TargetFit(threshold, _words(truth, scores, threshold))


def _below_cut(ranked: npt.NDArray[np.float64], cut: int) -> float:
    """A threshold between a falling sequence's element `cut` and the next."""
    below = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
    middle = (ranked[cut] + below) / 2
    # Probabilities are float32: between two neighbours the middle may round to the lower one.
    return float(middle if np.float32(middle) > below else ranked[cut])


def _words(truth: Targets, scores: Scores, threshold: float) -> str:
    named = scores >= np.float32(threshold)
    hits, positives = int((named & (truth == 1)).sum()), int(truth.sum())
    return (
        f"recall {hits / positives:.0%} of {positives} examples, "
        f"precision {hits / max(1, int(named.sum())):.0%}"
    )


def _f1_at(truth: Targets, scores: Scores, grid: npt.NDArray[np.float64]) -> Scores:
    named = scores[None, :] >= grid.astype(np.float32)[:, None]
    hits = (named & (truth == 1)[None, :]).sum(axis=1)
    return np.asarray(2 * hits / np.maximum(1, named.sum(axis=1) + truth.sum()))


def _f1(truth: Targets, named: npt.NDArray[np.bool_]) -> float:
    hits = int((named & (truth == 1)).sum())
    return 2 * hits / max(1, int(named.sum()) + int(truth.sum()))
