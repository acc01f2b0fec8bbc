"""Figures of a task with exactly one class a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxon.core.labels import LabelSpace
from taxon.evaluation.case import Case
from taxon.evaluation.order import NO_ORDER, order_in_words
from taxon.metrics import (
    Figure,
    balanced_accuracy,
    cohen_kappa,
    cohen_kappa_quadratic,
    confusion_matrix,
    matthews,
    top_k_accuracy,
    top_k_hits,
    undefined,
)
from taxon.metrics.resampled import CountSamples, quadratic_kappa_samples

ONE_CLASS_ONLY = "defined for one class a picture; this task has several"


@dataclass(frozen=True)
class OneLabelFigures:
    """By their names in metrics.json; see `taxon.evaluation.Metrics`."""

    top1: Figure
    top5: Figure
    balanced_accuracy: Figure
    cohen_kappa: Figure
    cohen_kappa_quadratic: Figure
    matthews: Figure


def one_label_figures(
    case: Case,
    counts: CountSamples,
    label_space: LabelSpace,
    order: Sequence[int] | None,
) -> OneLabelFigures:
    """Measure what only one class a picture has; undefined for several labels.

    Args:
        order: all class positions from the lowest class to the highest; None: they have no order.
    """
    if label_space.task == "multilabel":
        return OneLabelFigures(*[undefined(ONE_CLASS_ONLY)] * 6)
    targets, predicted, probabilities = case.targets, case.predicted, case.probabilities
    right = predicted == targets
    return OneLabelFigures(
        top1=case.share_of_rows(Figure.of(float(right.mean())), right),
        top5=case.share_of_rows(
            top_k_accuracy(targets, probabilities, 5), top_k_hits(targets, probabilities, 5)
        ),
        # A mean over classes: of a rare one a few groups decide, however many there are in all.
        balanced_accuracy=case.figure(
            balanced_accuracy(targets, predicted), counts.balanced_accuracy
        ),
        cohen_kappa=case.figure(cohen_kappa(targets, predicted), counts.cohen_kappa),
        cohen_kappa_quadratic=_quadratic(case, label_space, order),
        matthews=case.figure(matthews(targets, predicted), counts.matthews),
    )


def confusion(case: Case) -> tuple[tuple[int, ...], ...]:
    """Counts, row = true class, column = predicted class."""
    counts = confusion_matrix(case.targets, case.predicted, case.probabilities.shape[1])
    return tuple(tuple(row) for row in counts.tolist())


def _quadratic(case: Case, label_space: LabelSpace, order: Sequence[int] | None) -> Figure:
    if order is None:
        return undefined(NO_ORDER)
    figure = cohen_kappa_quadratic(case.targets, case.predicted, order)
    if figure.value is None:
        return figure
    place = np.argsort(order)
    samples = quadratic_kappa_samples(case.bootstrap, place[case.targets], place[case.predicted])
    said = order_in_words(label_space.names, order)
    return case.figure(figure.model_copy(update={"reason": said}), samples)
