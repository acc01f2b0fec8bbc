"""Indicator matrices: one form of truth and answer for both tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.errors import DataError
from taxon.core.labels import UNKNOWN

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.floating[Any]]


def require_pictures(count: int) -> None:
    """Refuse an empty set.

    Raises:
        DataError: there are no pictures.
    """
    if count == 0:
        raise DataError(
            "there are no pictures to score (received 0, at least 1 is needed); "
            "check that the part that you evaluate is not empty (--split test|val|all)"
        )


def predicted_classes(scores: Scores) -> IntArray:
    """Return the most probable class of each picture, int64 [N].

    Of equal scores the earlier class wins, as in `taxon.decision.decide`.

    Args:
        scores: [N, C] probabilities or logits.
    """
    return np.asarray(scores.argmax(axis=1), np.int64)


def known_entries(targets: IntArray) -> BoolArray | None:
    """Return which entries of multilabel targets are known, bool [N, C]; None where all are."""
    known = targets != UNKNOWN
    return None if targets.ndim == 1 or known.all() else known


def known_shares(targets: IntArray) -> npt.NDArray[np.float64]:
    """Return the share of each picture's classes that is known, float64 [N]; 1 for multiclass."""
    if targets.ndim == 1:
        return np.ones(len(targets))
    return np.asarray((targets != UNKNOWN).mean(axis=1))


def indicator(targets: IntArray, classes: int) -> sparse.csr_matrix:
    """Return truth (or answers) as a sparse int64 matrix [N, C] of 0 and 1; unknown is 0.

    Args:
        targets: int64 [N] of class positions, or int64 [N, C] of 0, 1 and -1 (unknown).
        classes: C.

    Raises:
        DataError: there are no pictures.
        ValueError: a target is not in range, or the shape is wrong.
    """
    require_pictures(len(targets))
    if targets.ndim == 2:
        if targets.shape[1] != classes or not np.isin(targets, (0, 1, UNKNOWN)).all():
            raise ValueError(f"multilabel targets must be [N, {classes}] of 0, 1 and {UNKNOWN}")
        return sparse.csr_matrix((targets == 1).astype(np.int64))
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"a target is outside 0 to {classes - 1}")
    rows = np.arange(len(targets))
    ones = np.ones(len(targets), np.int64)
    return sparse.csr_matrix((ones, (rows, targets)), shape=(len(targets), classes))


def named_indicator(
    probabilities: Scores, thresholds: float | Sequence[float], known: BoolArray | None = None
) -> sparse.csr_matrix:
    """Return which classes a multilabel answer names, a sparse int64 matrix [N, C].

    A class is named from its threshold on (`>=`, in float32), as in `taxon.decision.decide`.

    Args:
        probabilities: [N, C].
        thresholds: one for all classes, or C of them.
        known: bool [N, C]. Where truth is unknown, the answer is taken for a right no, which no
            precision, recall or F1 counts. None: all is known.
    """
    named = probabilities >= np.asarray(thresholds, np.float32)
    if known is not None:
        named &= known
    return sparse.csr_matrix(named.astype(np.int64))


def padded(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Add an empty column; scikit-learn reads a single column as a binary target instead."""
    return sparse.csr_matrix(
        (matrix.data, matrix.indices, matrix.indptr),
        shape=(matrix.shape[0], matrix.shape[1] + 1),
    )
