"""Precision, recall and F1: per class and averaged, the same for both tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn import metrics as sk

from taxon.metrics.figure import ABSENT, EVERYWHERE, NOTHING_KNOWN, Figure, undefined
from taxon.metrics.indicator import BoolArray, padded, require_pictures


@dataclass(frozen=True)
class ClassScores:
    """How well one class is found.

    Attributes:
        precision: of the pictures named so, the share that is; undefined if never named.
        recall: of the pictures of the class, the share that was named so; in medicine, sensitivity.
        specificity: of the pictures that are not of the class, the share that was not named so.
        f1: their harmonic mean.
        support: how many pictures are of the class.
    """

    precision: Figure
    recall: Figure
    specificity: Figure
    f1: Figure
    support: int


@dataclass(frozen=True)
class F1Averages:
    """F1 over all classes.

    Attributes:
        macro: the plain mean over the classes that have pictures.
        micro: from the counts of all classes together; for multiclass equal to top-1.
        weighted: the mean weighted by support.
    """

    macro: Figure
    micro: Figure
    weighted: Figure


def class_scores(
    truth: sparse.csr_matrix, named: sparse.csr_matrix, known: BoolArray | None = None
) -> tuple[ClassScores, ...]:
    """Return the scores of each class, in class order.

    A class without pictures has no precision, recall or F1, even where it was named.

    Args:
        truth: indicator matrix [N, C].
        named: indicator matrix [N, C] of the answers.
        known: bool [N, C]: where a class is unknown, truth and answer are 0; None: all is known.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(truth.shape[0])
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        padded(truth), padded(named), labels=np.arange(truth.shape[1]), zero_division=0
    )
    supports, times_named = _column_sums(truth), _column_sums(named)
    specificity = _specificity(truth, named, known)
    scores = []
    for position, support in enumerate(supports.tolist()):
        if support == 0:
            absent = undefined(ABSENT)
            scores.append(ClassScores(absent, absent, specificity[position], absent, 0))
            continue
        scores.append(
            ClassScores(
                precision=Figure.of(precision[position])
                if times_named[position]
                else undefined("never predicted"),
                recall=Figure.of(recall[position]),
                specificity=specificity[position],
                f1=Figure.of(f1[position]),
                support=support,
            )
        )
    return tuple(scores)


def _specificity(
    truth: sparse.csr_matrix, named: sparse.csr_matrix, known: BoolArray | None
) -> list[Figure]:
    """Of each class; scikit-learn has it for two classes only, as the recall of the other one."""
    pictures, classes = truth.shape
    annotated = np.full(classes, pictures) if known is None else known.sum(axis=0)
    negatives = annotated - _column_sums(truth)
    alarms = _column_sums(named) - _column_sums(truth.multiply(named))
    return [
        Figure.of(1 - wrong / count)
        if count
        else undefined(EVERYWHERE if known_count else NOTHING_KNOWN)
        for wrong, count, known_count in zip(
            alarms.tolist(), negatives.tolist(), annotated.tolist(), strict=True
        )
    ]


def f1_averages(truth: sparse.csr_matrix, named: sparse.csr_matrix) -> F1Averages:
    """Return macro, micro and weighted F1.

    The macro average is over the classes that have pictures, and its reason says so where
    some have none; scikit-learn's default would count a class that is only predicted as 0.

    Args:
        truth: indicator matrix [N, C].
        named: indicator matrix [N, C] of the answers.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(truth.shape[0])
    classes = truth.shape[1]
    present = np.flatnonzero(_column_sums(truth))
    both = (padded(truth), padded(named))
    if len(present):
        note = None
        if len(present) < classes:
            note = f"mean over {len(present)} of {classes} classes; the others have no pictures"
        macro = Figure.of(
            sk.f1_score(*both, labels=present, average="macro", zero_division=0), note
        )
        weighted = Figure.of(
            sk.f1_score(*both, labels=present, average="weighted", zero_division=0)
        )
    else:
        macro = weighted = undefined("no picture has any of the classes")
    if truth.nnz or named.nnz:
        micro = Figure.of(
            sk.f1_score(*both, labels=np.arange(classes), average="micro", zero_division=0)
        )
    else:
        micro = undefined("no class occurs and none is predicted")
    return F1Averages(macro=macro, micro=micro, weighted=weighted)


def _column_sums(matrix: sparse.csr_matrix) -> npt.NDArray[np.int64]:
    return np.asarray(matrix.sum(axis=0), np.int64).ravel()
