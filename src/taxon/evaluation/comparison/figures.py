"""The figures of two runs on the same pictures, and their paired differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import answer_confidence, named_classes, named_tags
from taxon.evaluation.comparison.counts import (
    CountFigure,
    balanced_accuracy_of,
    macro_f1_of,
    micro_f1_of,
)
from taxon.evaluation.comparison.summary import Paired
from taxon.evaluation.compute import RANKING_INTERVALS_UP_TO
from taxon.metrics import (
    Figure,
    GroupBootstrap,
    average_precision,
    balanced_accuracy,
    class_scores,
    exact_match,
    f1_averages,
    indicator,
    log_loss,
    mean_of_defined,
    undefined,
)
from taxon.metrics.bootstrap import FloatArray
from taxon.metrics.indicator import known_entries, known_shares
from taxon.metrics.paired import swap_test
from taxon.metrics.per_class import ClassScores
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
class CommonPictures:
    """The pictures that both are scored on.

    Attributes:
        known: bool [N, C]; None where all is known.
        judged: bool [N]: of which all is known; of the others nobody can say that all is right.
        truth: indicator [N, C].
    """

    targets: Targets
    label_space: LabelSpace
    bootstrap: GroupBootstrap
    known: npt.NDArray[np.bool_] | None
    judged: npt.NDArray[np.bool_]
    truth: sparse.csr_matrix

    @classmethod
    def of(cls, targets: Targets, space: LabelSpace, groups: Targets | None) -> CommonPictures:
        """Prepare targets, int64 [N] or [N, C]."""
        bootstrap = GroupBootstrap(len(targets), groups)
        truth = indicator(targets, len(space.names))
        judged = known_shares(targets) == 1.0
        return cls(targets, space, bootstrap, known_entries(targets), judged, truth)


@dataclass(frozen=True)
class Side:
    """One run's answers, scored.

    Attributes:
        named: indicator [N, C]; what is unknown counts as not named.
        said: bool [N, C], the same with what is unknown.
        right: bool [N]; of several tags every one. False where the picture is not judged.
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
    def of(cls, answers: Answers, common: CommonPictures) -> Side:
        """Score the answers of one run by its own policy."""
        table, space, policy = answers.table, answers.label_space, answers.policy
        if space.task == "multiclass":
            predicted = named_classes(table.probabilities, space, policy)
            said = np.zeros(table.probabilities.shape, np.bool_)
            said[np.arange(len(said)), predicted] = True
            right = predicted == common.targets
        else:
            said = named_tags(table.probabilities, policy)
            right = (said == (common.targets == 1)).all(axis=1) & common.judged
        known = said if common.known is None else said & common.known
        named = sparse.csr_matrix(known.astype(np.int64))
        return cls(
            probabilities=table.probabilities,
            named=named,
            said=said,
            right=np.asarray(right, np.bool_),
            confidence=answer_confidence(table.probabilities, space, policy),
            counts=count_samples(common.bootstrap, common.truth, named),
        )


@dataclass(frozen=True)
class _Sums:
    """What the swap test needs: values [N, K] whose sums over pictures give the figure."""

    values: sparse.csr_matrix | npt.NDArray[Any]
    figure: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class _Measured:
    """One figure of one run with its own interval, and in the resamples, float64 [R]."""

    figure: Figure
    samples: FloatArray
    sums: _Sums | None


def paired_figures(common: CommonPictures, a: Side, b: Side) -> dict[str, Paired]:
    """Return every figure of both with its difference, the headline first."""
    measure = _of_one_class if common.label_space.task == "multiclass" else _of_tags
    of_a, of_b = measure(common, a), measure(common, b)
    return {
        name: _paired(common.bootstrap, of_a[name], of_b[name], lower_is_better=name in LOWER)
        for name in of_a
    }


LOWER = frozenset({"log_loss", "average_distance"})


def paired(
    bootstrap: GroupBootstrap, a: Figure, b: Figure, samples_a: FloatArray, samples_b: FloatArray
) -> Paired:
    """Return the difference of a figure with the interval of the paired bootstrap.

    Args:
        a, b: the figure of each, with its own interval.
        samples_a, samples_b: float64 [R], the figure in the same resamples.
    """
    if a.value is None or b.value is None:
        missing = a if a.value is None else b
        return Paired(a=a, b=b, difference=undefined(missing.reason or "undefined"))
    difference = Figure.of(b.value - a.value)
    found = bootstrap.with_interval(difference, samples_b - samples_a)
    return Paired(a=a, b=b, difference=found)


def class_figures(common: CommonPictures, side: Side) -> tuple[ClassScores, ...]:
    """Return the scores of each class; recall and F1 with their intervals as in metrics.json."""
    bootstrap, counts = common.bootstrap, side.counts
    groups = counts.groups_of
    return tuple(
        replace(
            scores,
            recall=bootstrap.with_share_interval(
                scores.recall, counts.recall[position], int(groups.true[position])
            ),
            f1=bootstrap.with_f1_interval(
                scores.f1, counts.f1[position], int(groups.either[position])
            ),
        )
        for position, scores in enumerate(class_scores(common.truth, side.named))
    )


def _paired(
    bootstrap: GroupBootstrap, a: _Measured, b: _Measured, *, lower_is_better: bool
) -> Paired:
    found = paired(bootstrap, a.figure, b.figure, a.samples, b.samples)
    p_value = None
    if found.difference.value is not None and a.sums is not None and b.sums is not None:
        p_value = swap_test(bootstrap, a.sums.values, b.sums.values, a.sums.figure)
    return found.model_copy(update={"p_value": p_value, "lower_is_better": lower_is_better})


def _of_one_class(common: CommonPictures, side: Side) -> dict[str, _Measured]:
    predicted = np.asarray(side.said.argmax(axis=1), np.int64)
    counts, averages = side.counts, f1_averages(common.truth, side.named)
    balanced = balanced_accuracy(common.targets, predicted)
    figures = {
        "top1": _share_of_right(common, side, Figure.of(side.right.mean())),
        "macro_f1": _of_counts(common, side, averages.macro, counts.macro_f1, macro_f1_of),
        "balanced_accuracy": _of_counts(
            common, side, balanced, counts.balanced_accuracy, balanced_accuracy_of
        ),
        "log_loss": _log_loss(common, side),
    }
    if common.label_space.is_taxonomy:
        heights = common.label_space.tree.lca_heights(common.targets, predicted)
        figures["average_distance"] = _mean_height(common, heights)
    return figures


def _of_tags(common: CommonPictures, side: Side) -> dict[str, _Measured]:
    counts, averages = side.counts, f1_averages(common.truth, side.named)
    return {
        "macro_f1": _of_counts(common, side, averages.macro, counts.macro_f1, macro_f1_of),
        "micro_f1": _of_counts(
            common, side, averages.micro, counts.micro_f1, micro_f1_of, is_share=True
        ),
        "mAP": _mean_average_precision(common, side),
        "exact_match": _share_of_right(common, side, exact_match(common.targets, side.named)),
        "log_loss": _log_loss(common, side),
    }


def _share_of_right(common: CommonPictures, side: Side, figure: Figure) -> _Measured:
    """Of the pictures that are judged; the others weigh nothing in any resample or swap."""
    judged, bootstrap = common.judged, common.bootstrap
    count = judged.sum()
    samples = bootstrap.means(side.right, judged.astype(np.float64))
    return _Measured(
        bootstrap.with_share_interval(figure, samples, bootstrap.concerned(judged)),
        samples,
        _Sums(side.right.reshape(-1, 1), lambda totals: totals[0] / count),
    )


def _mean_height(common: CommonPictures, heights: npt.NDArray[Any]) -> _Measured:
    samples = common.bootstrap.means(heights)
    return _Measured(
        common.bootstrap.with_interval(Figure.of(heights.mean()), samples),
        samples,
        _Sums(heights.reshape(-1, 1), lambda totals: totals[0] / len(heights)),
    )


def _log_loss(common: CommonPictures, side: Side) -> _Measured:
    losses, shares = (
        row_log_losses(common.targets, side.probabilities),
        known_shares(common.targets),
    )
    samples = common.bootstrap.means(losses, shares)
    # The denominator is the same for both, so that the test need not divide.
    return _Measured(
        common.bootstrap.with_interval(log_loss(common.targets, side.probabilities), samples),
        samples,
        _Sums(losses.reshape(-1, 1), lambda totals: totals[0]),
    )


def _mean_average_precision(common: CommonPictures, side: Side) -> _Measured:
    value = mean_of_defined(average_precision(common.truth, side.probabilities, common.known))
    if side.probabilities.size > RANKING_INTERVALS_UP_TO:
        return _Measured(value, np.full(common.bootstrap.resamples, np.nan), None)
    _, samples = ranking_samples(common.bootstrap, common.truth, side.probabilities, common.known)
    means = mean_over_classes(samples)
    return _Measured(common.bootstrap.with_interval(value, means), means, None)


def _of_counts(
    common: CommonPictures,
    side: Side,
    value: Figure,
    samples: FloatArray,
    figure: CountFigure,
    *,
    is_share: bool = False,
) -> _Measured:
    """Measure what follows from counts; a mean over classes is no share of pictures."""
    attach = common.bootstrap.with_share_interval if is_share else common.bootstrap.with_interval
    support = np.asarray(common.truth.sum(axis=0), np.float64).reshape(-1, 1)
    classes = len(support)
    values = sparse.csr_matrix(sparse.hstack([common.truth.multiply(side.named), side.named]))
    return _Measured(
        attach(value, samples),
        samples,
        _Sums(values, lambda totals: figure(totals[:classes], totals[classes:], support)),
    )
