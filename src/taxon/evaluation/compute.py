"""Compute metrics.json from a prediction table and the true labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.errors import DataError
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import named_classes
from taxon.evaluation.decisions import scope_figures, selective_figures, set_figures
from taxon.evaluation.summary import (
    CalibrationFigures,
    ClassFigures,
    Metrics,
    RankingFigures,
)
from taxon.evaluation.taxonomy import level_figures, taxonomy_figures
from taxon.metrics import (
    Figure,
    GroupBootstrap,
    average_precision,
    balanced_accuracy,
    brier_score,
    class_scores,
    cohen_kappa,
    confusion_matrix,
    expected_calibration_error,
    f1_averages,
    indicator,
    log_loss,
    mean_of_defined,
    named_indicator,
    roc_auc,
    top_k_accuracy,
    top_k_hits,
    undefined,
)
from taxon.metrics.calibration import row_brier_scores
from taxon.metrics.indicator import known_entries, known_shares
from taxon.metrics.ranking import row_log_losses
from taxon.metrics.resampled import (
    CountSamples,
    count_samples,
    mean_over_classes,
    ranking_samples,
)

# Above this many probabilities (pictures times classes), intervals of AUC and average
# precision would take longer than 20 seconds, and are left out.
RANKING_INTERVALS_UP_TO = 20_000_000
ONE_CLASS_ONLY = "defined for one class a picture; this task has several"

Targets = npt.NDArray[np.int64]
Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Case:
    """What every figure is computed from; `truth` and `named` are indicators [N, C], both 0 where
    it is not `known`.

    Attributes:
        predicted: int64 [N], the classes that the answers name; empty for multilabel.
    """

    targets: Targets
    probabilities: npt.NDArray[np.float32]
    predicted: Targets
    known: npt.NDArray[np.bool_] | None
    truth: sparse.csr_matrix
    named: sparse.csr_matrix
    bootstrap: GroupBootstrap

    def figure(self, figure: Figure, samples: Samples) -> Figure:
        """Attach the interval."""
        return self.bootstrap.with_interval(figure, samples)

    def figure_of_mean(self, figure: Figure, rows: npt.NDArray[Any]) -> Figure:
        """Attach the interval of a figure that is the mean of a value per picture."""
        return self.figure(figure, self.bootstrap.means(rows))

    def figure_of_known(self, figure: Figure, rows: npt.NDArray[Any]) -> Figure:
        """The same of a value per picture that is a sum over its known classes, divided by C."""
        return self.figure(figure, self.bootstrap.means(rows, known_shares(self.targets)))


def compute_metrics(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    *,
    groups: npt.NDArray[np.int64] | None = None,
    about: dict[str, Any],
) -> Metrics:
    """Measure predictions against the truth, with 95 % intervals.

    The intervals come from a percentile bootstrap over groups: 1,000 resamples, seed 0.

    Args:
        table: calibrated predictions, [N, C].
        targets: int64 [N] of class positions (multiclass) or [N, C] of 0, 1 and, where it is
            unknown, -1 (multilabel).
        policy: for its thresholds, abstention limit and temperature.
        groups: int64 [N]; pictures with the same id (one patient, one part) are resampled
            together. None makes each picture its own group.
        about: kept as it is; must have a JSON form.

    Raises:
        DataError: there are no pictures, or the table's classes are not the label space's.
        ValueError: targets of the wrong shape or range.
    """
    case = _prepare(table, targets, label_space, policy, groups)
    counts = count_samples(case.bootstrap, case.truth, case.named)
    averages = f1_averages(case.truth, case.named)
    single = _single_class_figures(case, counts) if label_space.task == "multiclass" else None
    missing = undefined(ONE_CLASS_ONLY)
    auc_roc, average = _ranking(case, label_space.names)
    loss = case.figure_of_known(
        log_loss(targets, table.probabilities), row_log_losses(targets, table.probabilities)
    )
    return Metrics(
        task=label_space.task,
        n=len(table),
        classes=label_space.names,
        confusion=_confusion(case) if single else None,
        top1=single.top1 if single else missing,
        top5=single.top5 if single else missing,
        balanced_accuracy=single.balanced_accuracy if single else missing,
        cohen_kappa=single.cohen_kappa if single else missing,
        log_loss=loss,
        macro_f1=case.figure(averages.macro, counts.macro_f1),
        micro_f1=case.figure(averages.micro, counts.micro_f1),
        weighted_f1=case.figure(averages.weighted, counts.weighted_f1),
        auc_roc=auc_roc,
        average_precision=average,
        per_class=_per_class(case, counts, label_space, policy),
        calibration=_calibration(case, loss, policy),
        coverage=_coverage(case, policy) if single else missing,
        levels=level_figures(case.targets, case.probabilities, label_space, case.bootstrap),
        taxonomy=taxonomy_figures(
            case.targets, case.predicted, label_space, policy.taxonomy_rule, case.bootstrap
        ),
        selective=selective_figures(table, targets, label_space, policy, case.bootstrap),
        sets=set_figures(table, targets, label_space, policy, case.bootstrap),
        scope=scope_figures(table, policy, case.bootstrap),
        about=about,
    )


def _prepare(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    groups: npt.NDArray[np.int64] | None,
) -> _Case:
    """Check that table, targets and label space belong together."""
    if table.names != label_space.names:
        raise DataError(
            "the predictions are over other classes than the label space: received "
            f"{list(table.names[:5])}, expected {list(label_space.names[:5])}; "
            "predict again with the bundle that you evaluate"
        )
    if not np.isfinite(table.probabilities).all():
        raise DataError("a probability is not a number; the model's output cannot be scored")
    dimensions = 1 if label_space.task == "multiclass" else 2
    if targets.ndim != dimensions or len(targets) != len(table):
        raise ValueError(f"targets of shape {targets.shape} for {len(table)} predictions")
    classes = len(label_space.names)
    bootstrap = GroupBootstrap(len(table), groups)
    truth, known = indicator(targets, classes), known_entries(targets)
    if label_space.task == "multiclass":
        predicted = named_classes(table.probabilities, label_space, policy)
        named = indicator(predicted, classes)
    else:
        predicted = np.empty(0, np.int64)
        named = named_indicator(table.probabilities, policy.thresholds, known)
    return _Case(targets, table.probabilities, predicted, known, truth, named, bootstrap)


@dataclass(frozen=True)
class _SingleClassFigures:
    top1: Figure
    top5: Figure
    balanced_accuracy: Figure
    cohen_kappa: Figure


def _single_class_figures(case: _Case, counts: CountSamples) -> _SingleClassFigures:
    targets, predicted, probabilities = case.targets, case.predicted, case.probabilities
    right = predicted == targets
    return _SingleClassFigures(
        top1=case.figure_of_mean(Figure.of(float(right.mean())), right),
        top5=case.figure_of_mean(
            top_k_accuracy(targets, probabilities, 5), top_k_hits(targets, probabilities, 5)
        ),
        balanced_accuracy=case.figure(
            balanced_accuracy(targets, predicted), counts.balanced_accuracy
        ),
        cohen_kappa=case.figure(cohen_kappa(targets, predicted), counts.cohen_kappa),
    )


def _confusion(case: _Case) -> tuple[tuple[int, ...], ...]:
    classes = case.probabilities.shape[1]
    counts = confusion_matrix(case.targets, case.predicted, classes)
    return tuple(tuple(row) for row in counts.tolist())


def _ranking(case: _Case, names: tuple[str, ...]) -> tuple[RankingFigures, RankingFigures]:
    """AUC-ROC and average precision, with intervals where they can be had in time."""
    per_metric = (
        roc_auc(case.truth, case.probabilities, case.known),
        average_precision(case.truth, case.probabilities, case.known),
    )
    if case.probabilities.size > RANKING_INTERVALS_UP_TO:
        auc, average = (
            RankingFigures(
                macro=mean_of_defined(figures), per_class=dict(zip(names, figures, strict=True))
            )
            for figures in per_metric
        )
        return auc, average
    samples = ranking_samples(case.bootstrap, case.truth, case.probabilities, case.known)
    auc, average = (
        RankingFigures(
            macro=case.figure(mean_of_defined(figures), mean_over_classes(rows)),
            per_class={
                name: case.figure(figure, row)
                for name, figure, row in zip(names, figures, rows, strict=True)
            },
        )
        for figures, rows in zip(per_metric, samples, strict=True)
    )
    return auc, average


def _per_class(
    case: _Case, counts: CountSamples, label_space: LabelSpace, policy: DecisionPolicy
) -> dict[str, ClassFigures]:
    scores = class_scores(case.truth, case.named)
    multilabel = label_space.task == "multilabel"
    unknown = (case.targets == UNKNOWN).sum(axis=0) if multilabel else [0] * len(scores)
    return {
        name: ClassFigures(
            precision=case.figure(scores[position].precision, counts.precision[position]),
            recall=case.figure(scores[position].recall, counts.recall[position]),
            f1=case.figure(scores[position].f1, counts.f1[position]),
            support=scores[position].support,
            unknown=int(unknown[position]),
            threshold=policy.thresholds[position] if multilabel else None,
        )
        for position, name in enumerate(label_space.names)
    }


def _calibration(case: _Case, loss: Figure, policy: DecisionPolicy) -> CalibrationFigures:
    targets, probabilities = case.targets, case.probabilities
    return CalibrationFigures(
        # No interval: the ECE is biased upwards in every resample.
        ece=expected_calibration_error(targets, probabilities),
        brier=case.figure_of_known(
            brier_score(targets, probabilities), row_brier_scores(targets, probabilities)
        ),
        nll=loss,
        temperature=policy.temperature,
    )


def _coverage(case: _Case, policy: DecisionPolicy) -> Figure:
    # The same comparison as in `taxon.decision.decide`: `unsure` is below the limit.
    confidence = case.probabilities[np.arange(len(case.predicted)), case.predicted]
    sure = confidence.astype(np.float64) >= policy.abstain_below
    return case.figure_of_mean(Figure.of(float(sure.mean())), sure)
