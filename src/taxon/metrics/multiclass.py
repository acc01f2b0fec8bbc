"""Figures that only a task with exactly one class a picture has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from taxon.metrics.figure import Figure, undefined
from taxon.metrics.indicator import IntArray, Scores, require_pictures

ONE_CLASS = "all targets and predictions are of one class"


def top_k_hits(targets: IntArray, scores: Scores, k: int) -> npt.NDArray[np.bool_]:
    """Return whether the true class is among the k most probable, bool [N].

    Of equal scores the earlier class comes first. scikit-learn's `top_k_accuracy_score` puts
    the later one first, so that its top-1 can differ from the accuracy of the answers.

    Args:
        targets: int64 [N].
        scores: [N, C] probabilities or logits.
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    earlier = np.arange(scores.shape[1])[None, :] < targets[:, None]
    ahead = (scores > own) | ((scores == own) & earlier)
    return np.asarray(ahead.sum(axis=1) < k)


def top_k_accuracy(targets: IntArray, scores: Scores, k: int) -> Figure:
    """Return the share of pictures whose true class is among the k most probable, 0 to 1.

    Undefined for k > 1 when there are k classes or fewer: it would be 1 whatever the model.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    classes = scores.shape[1]
    if k > 1 and classes <= k:
        return undefined(f"top-{k} needs more than {k} classes; there are {classes}")
    return Figure.of(float(top_k_hits(targets, scores, k).mean()))


def balanced_accuracy(targets: IntArray, predicted: IntArray) -> Figure:
    """Return the mean recall over the classes that occur in the targets, 0 to 1.

    The same number as scikit-learn's `balanced_accuracy_score`, without its warning when a
    class is predicted that does not occur.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    present = np.unique(targets)
    return Figure.of(sk.recall_score(targets, predicted, labels=present, average="macro"))


def cohen_kappa(targets: IntArray, predicted: IntArray) -> Figure:
    """Return Cohen's kappa (Cohen 1960): agreement beyond chance, -1 to 1.

    Undefined when targets and predictions are all of one and the same class: chance alone
    agrees everywhere then.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    if len(np.union1d(targets, predicted)) == 1:
        return undefined(ONE_CLASS)
    return Figure.of(sk.cohen_kappa_score(targets, predicted))


def cohen_kappa_quadratic(targets: IntArray, predicted: IntArray, order: Sequence[int]) -> Figure:
    """Return the quadratically weighted kappa (Cohen 1968) of ordered classes, -1 to 1.

    A mistake weighs the square of its distance in the order: of five grades, one grade off is a
    sixteenth of four grades off. Undefined when targets and predictions are all of one class.

    Args:
        order: all class positions, from the lowest class to the highest.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    if len(np.union1d(targets, predicted)) == 1:
        return undefined(ONE_CLASS)
    return Figure.of(sk.cohen_kappa_score(targets, predicted, labels=order, weights="quadratic"))


def matthews(targets: IntArray, predicted: IntArray) -> Figure:
    """Return the Matthews correlation of several classes (Gorodkin 2004), -1 to 1.

    0 is chance, 1 is perfect; for two classes it is the correlation of truth and answer. Undefined
    when all targets, or all predictions, are of one class: nothing can go together then.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    for what, classes in (("targets", targets), ("predictions", predicted)):
        if len(np.unique(classes)) == 1:
            return undefined(f"all {what} are of one class")
    return Figure.of(sk.matthews_corrcoef(targets, predicted))


def confusion_matrix(targets: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """Return counts int64 [C, C]: row = true class, column = predicted class.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    counts = sk.confusion_matrix(targets, predicted, labels=np.arange(classes))
    return np.asarray(counts, np.int64)
