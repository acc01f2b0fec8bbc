"""The figures of two runs on the same pictures, and their paired differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import answer_confidence, named_classes, named_tags
from taxon.evaluation.comparison.summary import Paired
from taxon.evaluation.compute import RANKING_INTERVALS_UP_TO
from taxon.metrics import (
    Figure,
    GroupBootstrap,
    average_precision,
    balanced_accuracy,
    f1_averages,
    indicator,
    log_loss,
    mean_of_defined,
    undefined,
)
from taxon.metrics.bootstrap import FloatArray
from taxon.metrics.indicator import known_entries, known_shares
from taxon.metrics.paired import swap_test
from taxon.metrics.ranking import row_log_losses
from taxon.metrics.resampled import (
    CountSamples,
    count_samples,
    mean_over_classes,
    ranking_samples,
)

Targets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What a run says of N pictures, and by which policy it names classes."""

    table: PredictionTable
    label_space: LabelSpace
    policy: DecisionPolicy


@dataclass(frozen=True)
class Case:
    """The pictures that both are scored on.

    Attributes:
        known: bool [N, C]; None where all is known.
        truth: indicator [N, C].
    """

    targets: Targets
    label_space: LabelSpace
    bootstrap: GroupBootstrap
    known: npt.NDArray[np.bool_] | None
    truth: sparse.csr_matrix

    @classmethod
    def of(cls, targets: Targets, space: LabelSpace, groups: Targets | None) -> Case:
        """Prepare targets, int64 [N] or [N, C]."""
        bootstrap = GroupBootstrap(len(targets), groups)
        truth = indicator(targets, len(space.names))
        return cls(targets, space, bootstrap, known_entries(targets), truth)


@dataclass(frozen=True)
class Side:
    """One run's answers, scored.

    Attributes:
        named: indicator [N, C]; what is unknown counts as not named.
        said: bool [N, C], the same with what is unknown.
        right: bool [N]; of several tags every known one.
        confidence: float64 [N].
        counts: the figures of each resample that follow from counts.
    """

    probabilities: npt.NDArray[np.float32]
    named: sparse.csr_matrix
    said: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]
    confidence: FloatArray
    counts: CountSamples

    @classmethod
    def of(cls, answers: Answers, case: Case) -> Side:
        """Score the answers of one run by its own policy."""
        table, space, policy = answers.table, answers.label_space, answers.policy
        if space.task == "multiclass":
            predicted = named_classes(table.probabilities, space, policy)
            said = np.zeros(table.probabilities.shape, np.bool_)
            said[np.arange(len(said)), predicted] = True
            right = predicted == case.targets
        else:
            said = named_tags(table.probabilities, policy)
            right = ((said == (case.targets == 1)) | (case.targets == UNKNOWN)).all(axis=1)
        known = said if case.known is None else said & case.known
        named = sparse.csr_matrix(known.astype(np.int64))
        return cls(
            probabilities=table.probabilities,
            named=named,
            said=said,
            right=np.asarray(right, np.bool_),
            confidence=answer_confidence(table.probabilities, space, policy),
            counts=count_samples(case.bootstrap, case.truth, named),
        )


@dataclass(frozen=True)
class _Sums:
    """What the swap test needs: values [N, K] whose sums over pictures give the figure."""

    values: sparse.csr_matrix | npt.NDArray[Any]
    figure: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class _Measured:
    """One figure of one run: its value, and its values in the resamples, float64 [R]."""

    value: Figure
    samples: FloatArray
    sums: _Sums | None


def paired_figures(case: Case, a: Side, b: Side) -> dict[str, Paired]:
    """Return every figure of both with its difference, the headline first."""
    measure = _of_one_class if case.label_space.task == "multiclass" else _of_tags
    of_a, of_b = measure(case, a), measure(case, b)
    return {
        name: _paired(case.bootstrap, of_a[name], of_b[name], lower_is_better=name in LOWER)
        for name in of_a
    }


LOWER = frozenset({"log_loss", "average_distance"})


def paired(
    bootstrap: GroupBootstrap, a: Figure, b: Figure, samples_a: FloatArray, samples_b: FloatArray
) -> Paired:
    """Return the difference of a figure with the interval of the paired bootstrap.

    Args:
        samples_a, samples_b: float64 [R], the figure in the same resamples.
    """
    if a.value is None or b.value is None:
        missing = a if a.value is None else b
        return Paired(a=a, b=b, difference=undefined(missing.reason or "undefined"))
    difference = Figure.of(b.value - a.value)
    return Paired(
        a=bootstrap.with_interval(a, samples_a),
        b=bootstrap.with_interval(b, samples_b),
        difference=bootstrap.with_interval(difference, samples_b - samples_a),
    )


def _paired(
    bootstrap: GroupBootstrap, a: _Measured, b: _Measured, *, lower_is_better: bool
) -> Paired:
    found = paired(bootstrap, a.value, b.value, a.samples, b.samples)
    p_value = None
    if found.difference.value is not None and a.sums is not None and b.sums is not None:
        p_value = swap_test(bootstrap, a.sums.values, b.sums.values, a.sums.figure)
    return found.model_copy(update={"p_value": p_value, "lower_is_better": lower_is_better})


def _of_one_class(case: Case, side: Side) -> dict[str, _Measured]:
    predicted = np.asarray(side.said.argmax(axis=1), np.int64)
    counts, averages = side.counts, f1_averages(case.truth, side.named)
    balanced = balanced_accuracy(case.targets, predicted)
    figures = {
        "top1": _mean(case, side.right),
        "macro_f1": _of_counts(case, side, averages.macro, counts.macro_f1, _macro_f1),
        "balanced_accuracy": _of_counts(
            case, side, balanced, counts.balanced_accuracy, _balanced_accuracy
        ),
        "log_loss": _log_loss(case, side),
    }
    if case.label_space.is_taxonomy:
        heights = case.label_space.tree.lca_heights(case.targets, predicted)
        figures["average_distance"] = _mean(case, heights)
    return figures


def _of_tags(case: Case, side: Side) -> dict[str, _Measured]:
    counts, averages = side.counts, f1_averages(case.truth, side.named)
    return {
        "macro_f1": _of_counts(case, side, averages.macro, counts.macro_f1, _macro_f1),
        "micro_f1": _of_counts(case, side, averages.micro, counts.micro_f1, _micro_f1),
        "mAP": _mean_average_precision(case, side),
        "exact_match": _mean(case, side.right),
        "log_loss": _log_loss(case, side),
    }


def _mean(case: Case, values: npt.NDArray[Any]) -> _Measured:
    """Of a value per picture."""
    sums = _Sums(values.reshape(-1, 1), lambda totals: totals[0] / len(values))
    return _Measured(Figure.of(values.mean()), case.bootstrap.means(values), sums)


def _log_loss(case: Case, side: Side) -> _Measured:
    losses, shares = row_log_losses(case.targets, side.probabilities), known_shares(case.targets)
    # The denominator is the same for both, so that the test need not divide.
    return _Measured(
        log_loss(case.targets, side.probabilities),
        case.bootstrap.means(losses, shares),
        _Sums(losses.reshape(-1, 1), lambda totals: totals[0]),
    )


def _mean_average_precision(case: Case, side: Side) -> _Measured:
    value = mean_of_defined(average_precision(case.truth, side.probabilities, case.known))
    if side.probabilities.size > RANKING_INTERVALS_UP_TO:
        return _Measured(value, np.full(case.bootstrap.resamples, np.nan), None)
    _, samples = ranking_samples(case.bootstrap, case.truth, side.probabilities, case.known)
    return _Measured(value, mean_over_classes(samples), None)


# From true positives, times named (both [C, r]) and pictures of each class [C, 1] to a figure [r].
_CountFigure = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


def _of_counts(
    case: Case, side: Side, value: Figure, samples: FloatArray, figure: _CountFigure
) -> _Measured:
    support = np.asarray(case.truth.sum(axis=0), np.float64).reshape(-1, 1)
    classes = len(support)
    values = sparse.csr_matrix(sparse.hstack([case.truth.multiply(side.named), side.named]))
    return _Measured(
        value,
        samples,
        _Sums(values, lambda totals: figure(totals[:classes], totals[classes:], support)),
    )


def _macro_f1(hits: FloatArray, named: FloatArray, support: FloatArray) -> FloatArray:
    present = support[:, 0] > 0
    return np.asarray((2 * hits[present] / (support + named)[present]).mean(axis=0))


def _micro_f1(hits: FloatArray, named: FloatArray, support: FloatArray) -> FloatArray:
    # Never 0 below: where no class occurs and none is named, the figure is undefined before.
    return np.asarray(2 * hits.sum(axis=0) / (support.sum() + named.sum(axis=0)))


def _balanced_accuracy(hits: FloatArray, named: FloatArray, support: FloatArray) -> FloatArray:
    present = support[:, 0] > 0
    return np.asarray((hits[present] / support[present]).mean(axis=0))
