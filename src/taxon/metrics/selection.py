"""The light figures that the training loop computes after each epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import metrics as sk

from taxon.core.labels import Task
from taxon.metrics.figure import mean_of_defined
from taxon.metrics.indicator import (
    IntArray,
    Scores,
    indicator,
    known_entries,
    named_indicator,
    padded,
    predicted_classes,
    require_pictures,
)
from taxon.metrics.multiclass import top_k_accuracy
from taxon.metrics.ranking import average_precision


def selection_score(
    task: Task,
    targets: IntArray,
    scores: Scores,
    thresholds: float | Sequence[float] = 0.5,
) -> float:
    """Return the macro-F1 by which the best epoch is chosen, 0 to 1.

    Taken over the classes that occur in the targets or in the predictions (scikit-learn's
    default), so that inventing a class costs something even where validation has none of it.

    Args:
        targets: int64 [N] (multiclass) or [N, C] (multilabel; -1 counts nowhere).
        scores: [N, C]; for multiclass probabilities or logits, for multilabel probabilities,
            or logits when `thresholds` are logits too (0.0 is a probability of one half).
        thresholds: multilabel only, one for all classes or C of them.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    if task == "multiclass":
        predicted = predicted_classes(scores)
        return float(sk.f1_score(targets, predicted, average="macro", zero_division=0))
    truth = indicator(targets, scores.shape[1])
    named = named_indicator(scores, thresholds, known_entries(targets))
    occurring = np.flatnonzero(np.asarray((truth + named).sum(axis=0)).ravel())
    if not len(occurring):
        # Nothing to find and nothing named: no epoch is better than another.
        return 0.0
    return float(
        sk.f1_score(
            padded(truth), padded(named), labels=occurring, average="macro", zero_division=0
        )
    )


def headline(
    task: Task,
    targets: IntArray,
    scores: Scores,
    thresholds: float | Sequence[float] = 0.5,
) -> dict[str, float]:
    """Return `macro_f1` with `top1` (multiclass) or `mAP` (multilabel), each 0 to 1.

    `mAP` is left out when no class has a picture. Arguments and errors as `selection_score`.
    """
    figures = {"macro_f1": selection_score(task, targets, scores, thresholds)}
    if task == "multiclass":
        name, figure = "top1", top_k_accuracy(targets, scores, 1)
    else:
        truth = indicator(targets, scores.shape[1])
        figures_of_classes = average_precision(truth, scores, known_entries(targets))
        name, figure = "mAP", mean_of_defined(figures_of_classes)
    if figure.value is not None:
        figures[name] = figure.value
    return figures
