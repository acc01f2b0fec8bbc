"""The figures of every bootstrap resample, computed for all resamples at once.

These repeat scikit-learn's definitions on weighted counts, because calling it a thousand times
would take minutes; the tests hold the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.metrics.bootstrap import FloatArray, GroupBootstrap
from taxon.metrics.indicator import BoolArray, IntArray, Scores


@dataclass(frozen=True)
class GroupsOfClasses:
    """Number of groups with any picture of a kind, int64 [C].

    Attributes:
        true: that is of the class.
        named: that is named so.
        either: that is of the class or named so.
        others: of which it is known that it is not of the class.
    """

    true: IntArray
    named: IntArray
    either: IntArray
    others: IntArray


@dataclass(frozen=True)
class CountSamples:
    """Figures that follow from counts, one a resample; NaN where a resample has none.

    Attributes:
        precision, recall, specificity, f1: float64 [C, R].
        balanced_accuracy, macro_f1, micro_f1, weighted_f1, cohen_kappa, matthews: float64 [R];
            the first and the last two have a meaning for multiclass only.
        groups_of: in how many groups each class is.
    """

    precision: FloatArray
    recall: FloatArray
    specificity: FloatArray
    f1: FloatArray
    balanced_accuracy: FloatArray
    macro_f1: FloatArray
    micro_f1: FloatArray
    weighted_f1: FloatArray
    cohen_kappa: FloatArray
    matthews: FloatArray
    groups_of: GroupsOfClasses


def count_samples(
    bootstrap: GroupBootstrap,
    truth: sparse.csr_matrix,
    named: sparse.csr_matrix,
    known: BoolArray | None = None,
) -> CountSamples:
    """Return the figures of each resample from true positives, support and times named.

    Args:
        truth: indicator matrix [N, C].
        named: indicator matrix [N, C] of the answers.
        known: bool [N, C]: where a class is unknown, truth and answer are 0; None: all is known.
    """
    pictures = np.ones((truth.shape[0], 1)) if known is None else known
    tables = [
        bootstrap.by_group(matrix) for matrix in (truth.multiply(named), truth, named, pictures)
    ]
    blocks = [[table @ weights for table in tables] for weights in bootstrap.weights()]
    hits, support, named_count, annotated = (
        np.concatenate(parts, axis=1).astype(np.float64) for parts in zip(*blocks, strict=True)
    )
    present = support > 0
    recall = _ratio(hits, support)
    negatives = annotated - support
    # As for the figure itself: a class without pictures has no F1, even where it was named.
    f1 = np.where(present, _ratio(2 * hits, support + named_count), np.nan)
    total = support.sum(axis=0)
    agreement = _ratio(hits.sum(axis=0), total)
    chance = _ratio((support * named_count).sum(axis=0), total**2)
    spreads = [1 - _ratio((counts**2).sum(axis=0), total**2) for counts in (support, named_count)]
    # Below 0 it gets where a picture has several labels only, and Matthews' figure no meaning.
    spread = np.sqrt(np.maximum(spreads[0] * spreads[1], 0.0))
    return CountSamples(
        precision=np.where(present, _ratio(hits, named_count), np.nan),
        recall=recall,
        specificity=_ratio(negatives - (named_count - hits), negatives),
        f1=f1,
        balanced_accuracy=mean_over_classes(recall),
        macro_f1=mean_over_classes(f1),
        micro_f1=_ratio(2 * hits.sum(axis=0), total + named_count.sum(axis=0)),
        weighted_f1=_ratio((np.nan_to_num(f1) * support).sum(axis=0), total),
        cohen_kappa=_ratio(agreement - chance, 1 - chance),
        matthews=_ratio(agreement - chance, spread),
        groups_of=_groups_of_classes(*tables[1:]),
    )


def _groups_of_classes(
    truth: sparse.csr_matrix, named: sparse.csr_matrix, pictures: sparse.csr_matrix
) -> GroupsOfClasses:
    """Count groups from tables [C, G] of pictures (the last one may have one row for all)."""
    if pictures.shape[0] == truth.shape[0]:
        others = pictures - truth
        others.eliminate_zeros()
        groups_of_others = others.getnnz(axis=1)
    else:
        sizes = pictures.toarray()[0]
        whole = truth.data == sizes[truth.indices]  # every picture of the group is of the class
        rows = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
        groups_of_others = len(sizes) - np.bincount(rows[whole], minlength=truth.shape[0])
    return GroupsOfClasses(
        true=truth.getnnz(axis=1),
        named=named.getnnz(axis=1),
        either=(truth + named).getnnz(axis=1),
        others=groups_of_others,
    )


def quadratic_kappa_samples(
    bootstrap: GroupBootstrap, true: npt.NDArray[np.int64], named: npt.NDArray[np.int64]
) -> FloatArray:
    """Return the quadratically weighted kappa of each resample, float64 [R].

    1 less the mean squared distance of truth and answer, divided by that of a truth and an answer
    drawn apart, which follows from the means and mean squares of both.

    Args:
        true, named: int64 [N], places in the order of the classes.
    """
    columns = np.stack([np.ones_like(true), true, named, true**2, named**2, (true - named) ** 2])
    count, *sums = bootstrap.sums(columns.T)
    mean_true, mean_named, square_true, square_named, distance = (part / count for part in sums)
    return 1 - _ratio(distance, square_true + square_named - 2 * mean_true * mean_named)


def ranking_samples(
    bootstrap: GroupBootstrap,
    truth: sparse.csr_matrix,
    probabilities: Scores,
    known: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return AUC-ROC and average precision of each class in each resample.

    Args:
        truth: indicator matrix [N, C].
        probabilities: [N, C].
        known: bool [N, C]: pictures where a class is unknown are absent for it; None is all.

    Returns:
        Two arrays float64 [C, R]; NaN where a resample has no positives (or, for AUC, no
        negatives).
    """
    columns = truth.tocsc()
    classes = truth.shape[1]
    auc, precision = (np.full((classes, bootstrap.resamples), np.nan) for _ in range(2))
    everyone, tables = np.arange(len(probabilities)), []
    for position in range(classes):
        positives = columns.indices[columns.indptr[position] : columns.indptr[position + 1]]
        rows = everyone if known is None else np.flatnonzero(known[:, position])
        tables.append(_score_cells(bootstrap, positives, rows, probabilities[:, position]))
    start = 0
    for weights in bootstrap.weights():
        block = slice(start, start + weights.shape[1])
        for position, (annotated, positive) in enumerate(tables):
            if positive.shape[0]:
                auc[position, block], precision[position, block] = _areas(
                    annotated @ weights, positive @ weights
                )
        start = block.stop
    return auc, precision


def _score_cells(
    bootstrap: GroupBootstrap,
    positives: npt.NDArray[np.int32],
    rows: npt.NDArray[np.intp],
    scores: Scores,
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Sort pictures into cells by score, for one class.

    Both areas depend only on what lies between and on the K distinct scores of the positives.
    Even cells 0, 2, ..., 2K are the gaps, odd cell 2k + 1 holds the ties with score k.

    Returns:
        All pictures of `rows` [2K + 1, G], and the positives [K, G] of each score.
    """
    steps = np.unique(scores[positives])
    left = np.searchsorted(steps, scores, side="left")
    right = np.searchsorted(steps, scores, side="right")
    everyone = bootstrap.place(rows, (left + right)[rows], 2 * len(steps) + 1)
    positive = bootstrap.place(positives.astype(np.int64), left[positives], len(steps))
    return everyone, positive


def _areas(
    everyone: npt.NDArray[np.float32], positive: npt.NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """Return AUC-ROC and average precision from counts by rising score, each float64 [r].

    Args:
        everyone: [2K + 1, r], all pictures in the cells of `_score_cells`.
        positive: [K, r], the positives at each score.
    """
    # Counts stay exact in float32 up to 16 million pictures; only products need float64.
    reached = np.cumsum(everyone[::-1], axis=0)[::-1]
    reached_positive = np.cumsum(positive[::-1], axis=0)[::-1]
    positives = reached_positive[0].astype(np.float64)
    negatives = reached[0] - positives
    precision = np.divide(
        reached_positive, reached[1::2], out=np.zeros_like(positive), where=reached[1::2] > 0
    )
    average_precision = _ratio(np.einsum("kr,kr->r", positive, precision, dtype=float), positives)
    # A positive beats the negatives below it, and half of those that tie with it.
    below = reached[0] - reached[1::2] - (reached_positive[0] - reached_positive)
    beaten = below + 0.5 * (everyone[1::2] - positive)
    wins = np.einsum("kr,kr->r", positive, beaten, dtype=float)
    return _ratio(wins, positives * negatives), average_precision


def mean_over_classes(samples: FloatArray) -> FloatArray:
    """Return the mean over the classes that a resample defines: [C, R] -> [R]."""
    defined = np.isfinite(samples)
    return _ratio(np.where(defined, samples, 0.0).sum(axis=0), defined.sum(axis=0))


def _ratio(numerator: npt.NDArray[np.floating], denominator: npt.NDArray[np.number]) -> FloatArray:
    """Divide; NaN where the denominator is 0."""
    numerator = np.asarray(numerator, np.float64)
    empty = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=empty, where=denominator != 0))
