"""Figures on the probabilities themselves: AUC-ROC, average precision and log loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn import metrics as sk

from taxon.core.labels import UNKNOWN
from taxon.metrics.figure import ABSENT, EVERYWHERE, NOTHING_KNOWN, Figure, undefined
from taxon.metrics.indicator import BoolArray, IntArray, Scores, require_pictures


def roc_auc(
    truth: sparse.csr_matrix, probabilities: Scores, known: BoolArray | None = None
) -> tuple[Figure, ...]:
    """Return the area under the ROC curve of each class against the rest, 0 to 1.

    It is the chance that a picture of the class scores higher than a picture that is not;
    0.5 is guessing. Undefined for a class with no pictures, or with all of them.

    Args:
        truth: indicator matrix [N, C].
        probabilities: [N, C].
        known: bool [N, C]: a class is scored on the pictures where it is known; None is all.

    Raises:
        DataError: there are no pictures.
    """
    return _per_class(truth, probabilities, known, sk.roc_auc_score, needs_negatives=True)


def average_precision(
    truth: sparse.csr_matrix, probabilities: Scores, known: BoolArray | None = None
) -> tuple[Figure, ...]:
    """Return the average precision of each class against the rest, 0 to 1.

    The area under the precision-recall curve as a step function, without interpolation. Its
    mean over the classes is mAP. Undefined for a class with no pictures; 1 by definition for
    a class that every picture has.

    Args:
        truth: indicator matrix [N, C].
        probabilities: [N, C].
        known: bool [N, C]: a class is scored on the pictures where it is known; None is all.

    Raises:
        DataError: there are no pictures.
    """
    metric = sk.average_precision_score
    return _per_class(truth, probabilities, known, metric, needs_negatives=False)


def _per_class(
    truth: sparse.csr_matrix,
    probabilities: Scores,
    known: BoolArray | None,
    metric: Callable[..., Any],
    *,
    needs_negatives: bool,
) -> tuple[Figure, ...]:
    pictures, classes = truth.shape
    require_pictures(pictures)
    columns = truth.tocsc()
    figures = []
    for position in range(classes):
        rows = slice(None) if known is None else known[:, position]
        column = columns[:, [position]].toarray().ravel()[rows]
        positives = int(column.sum())
        if positives == 0:
            figures.append(undefined(ABSENT))
        elif needs_negatives and positives == len(column):
            figures.append(undefined(EVERYWHERE))
        else:
            figures.append(Figure.of(metric(column, probabilities[rows, position])))
    return tuple(figures)


def log_loss(targets: IntArray, probabilities: Scores) -> Figure:
    """Return the mean negative log-likelihood (NLL) in nats; 0 is perfect.

    Multiclass: of the true class, mean over pictures. Multilabel: of each yes or no that is
    known, mean over them all; undefined where none is.

    Args:
        targets: int64 [N] or [N, C].
        probabilities: [N, C]; multiclass rows sum to 1.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    exact = probabilities.astype(np.float64)
    if targets.ndim == 2:
        known = targets != UNKNOWN
        if not known.any():
            return undefined(NOTHING_KNOWN)
        return Figure.of(sk.log_loss(targets[known], exact[known], labels=[0, 1]))
    # float32 rows sum to 1 only nearly; scikit-learn would warn.
    exact /= exact.sum(axis=1, keepdims=True)
    return Figure.of(sk.log_loss(targets, exact, labels=np.arange(exact.shape[1])))


def row_log_losses(targets: IntArray, probabilities: Scores) -> npt.NDArray[np.float64]:
    """Return each picture's share of `log_loss`, float64 [N], for its interval: of several labels
    the sum over the known ones, divided by C."""
    exact = probabilities.astype(np.float64)
    smallest = np.finfo(np.float64).eps
    if targets.ndim == 2:
        likelihood = np.where(targets == 1, exact, 1.0 - exact)
        losses = -np.log(likelihood.clip(smallest, 1.0))
        return np.asarray(np.where(targets != UNKNOWN, losses, 0.0).mean(axis=1))
    exact /= exact.sum(axis=1, keepdims=True)
    own = exact[np.arange(len(targets)), targets]
    return np.asarray(-np.log(own.clip(smallest, 1.0)))
