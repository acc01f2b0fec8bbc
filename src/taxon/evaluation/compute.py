"""Compute metrics.json from a prediction table and the true labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation.case import Case, Targets, make_case
from taxon.evaluation.decisions import scope_figures, selective_figures, set_figures
from taxon.evaluation.one_label import confusion, one_label_figures
from taxon.evaluation.order import class_order
from taxon.evaluation.several_labels import several_label_figures
from taxon.evaluation.slice_columns import SliceColumn
from taxon.evaluation.slices import slice_figures
from taxon.evaluation.summary import (
    CalibrationFigures,
    ClassFigures,
    Metrics,
    RankingFigures,
    SelectiveFigures,
    UncalibratedFigures,
)
from taxon.evaluation.taxonomy import level_figures, taxonomy_figures
from taxon.metrics import (
    Figure,
    adaptive_calibration_error,
    average_precision,
    brier_score,
    calibration_error_by_chance,
    class_scores,
    expected_calibration_error,
    f1_averages,
    log_loss,
    mean_of_defined,
    roc_auc,
    undefined,
)
from taxon.metrics.calibration import row_brier_scores
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


def compute_metrics(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    *,
    groups: npt.NDArray[np.int64] | None = None,
    ordered: Sequence[str] | None = None,
    slices: Sequence[SliceColumn] = (),
    about: dict[str, Any],
) -> Metrics:
    """Measure predictions against the truth, with 95 % intervals.

    The intervals come from a percentile bootstrap over groups: 1,000 resamples, seed 0; a share of
    exactly 0 or 1 has the exact binomial end (`taxon.metrics.bootstrap`).

    Args:
        table: calibrated predictions, [N, C].
        targets: int64 [N] of class positions (multiclass) or [N, C] of 0, 1 and, where it is
            unknown, -1 (multilabel).
        policy: for its thresholds, abstention limit and temperature.
        groups: int64 [N]; pictures with the same id (one patient, one part) are resampled
            together. None makes each picture its own group.
        ordered: all classes from the lowest to the highest, for the quadratically weighted kappa;
            None: see `class_order`.
        slices: the columns by whose values the pictures are scored apart.
        about: kept as it is; must have a JSON form.

    Raises:
        ConfigError: `ordered` is not exactly the classes.
        DataError: there are no pictures, or the table's classes are not the label space's.
        ValueError: targets of the wrong shape or range.
    """
    order = class_order(label_space, ordered)
    case = make_case(table, targets, label_space, policy, groups)
    counts = count_samples(case.bootstrap, case.truth, case.named, case.known)
    averages = f1_averages(case.truth, case.named)
    one = one_label_figures(case, counts, label_space, order)
    several = several_label_figures(case, label_space.task)
    auc_roc, average = _ranking(case, label_space.names)
    loss = case.figure_of_known(
        log_loss(targets, table.probabilities), row_log_losses(targets, table.probabilities)
    )
    selective = selective_figures(table, targets, label_space, policy, case.bootstrap)
    return Metrics(
        task=label_space.task,
        n=len(table),
        classes=label_space.names,
        confusion=confusion(case) if label_space.task == "multiclass" else None,
        top1=one.top1,
        top5=one.top5,
        balanced_accuracy=one.balanced_accuracy,
        cohen_kappa=one.cohen_kappa,
        cohen_kappa_quadratic=one.cohen_kappa_quadratic,
        matthews=one.matthews,
        log_loss=loss,
        macro_f1=case.figure(averages.macro, counts.macro_f1),
        micro_f1=case.share(averages.micro, counts.micro_f1),
        weighted_f1=case.figure(averages.weighted, counts.weighted_f1),
        macro_f1_at_half=several.macro_f1_at_half,
        micro_f1_at_half=several.micro_f1_at_half,
        hamming_loss=several.hamming_loss,
        exact_match=several.exact_match,
        label_ranking_average_precision=several.label_ranking_average_precision,
        auc_roc=auc_roc,
        average_precision=average,
        per_class=_per_class(case, counts, label_space, policy),
        calibration=_calibration(case, table, label_space, policy, loss),
        coverage=_coverage(selective, policy),
        levels=level_figures(case.targets, case.probabilities, label_space, case.bootstrap),
        taxonomy=taxonomy_figures(
            case.targets, case.predicted, label_space, policy.taxonomy_rule, case.bootstrap
        ),
        selective=selective,
        sets=set_figures(table, targets, label_space, policy, case.bootstrap),
        scope=scope_figures(table, label_space, policy, case.bootstrap),
        slices=slice_figures(case, label_space.task, slices),
        about=about,
    )


def _coverage(selective: SelectiveFigures | None, policy: DecisionPolicy) -> Figure:
    """The share of answers that are given: sure, and in scope."""
    if selective is None:
        return undefined("of no picture all tags are known")
    if policy.abstain_below == 0 and policy.scope is None:
        return Figure.of(1.0, "every picture is answered: there is no limit")
    return selective.coverage


def _ranking(case: Case, names: tuple[str, ...]) -> tuple[RankingFigures, RankingFigures]:
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
    case: Case, counts: CountSamples, label_space: LabelSpace, policy: DecisionPolicy
) -> dict[str, ClassFigures]:
    multilabel = label_space.task == "multilabel"
    scores = class_scores(case.truth, case.named, case.known)
    unknown = (case.targets == UNKNOWN).sum(axis=0) if multilabel else [0] * len(scores)
    groups = counts.groups_of
    return {
        name: ClassFigures(
            precision=case.share(
                scores[place].precision, counts.precision[place], int(groups.named[place])
            ),
            recall=case.share(scores[place].recall, counts.recall[place], int(groups.true[place])),
            specificity=case.share(
                scores[place].specificity, counts.specificity[place], int(groups.others[place])
            ),
            f1=case.f1_of_class(scores[place].f1, counts.f1[place], int(groups.either[place])),
            support=scores[place].support,
            unknown=int(unknown[place]),
            threshold=policy.thresholds[place] if multilabel else None,
        )
        for place, name in enumerate(label_space.names)
    }


def _calibration(
    case: Case,
    table: PredictionTable,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    loss: Figure,
) -> CalibrationFigures:
    targets, probabilities = case.targets, case.probabilities
    before = calibrate(table.logits, DecisionPolicy.default(label_space), label_space.task)
    return CalibrationFigures(
        # No interval, since the ECE is biased upwards in every resample; what chance makes of it
        # stands beside it instead.
        ece=expected_calibration_error(targets, probabilities),
        ece_by_chance=calibration_error_by_chance(targets, probabilities),
        adaptive_ece=adaptive_calibration_error(targets, probabilities),
        brier=case.figure_of_known(
            brier_score(targets, probabilities), row_brier_scores(targets, probabilities)
        ),
        nll=loss,
        uncalibrated=UncalibratedFigures(
            ece=expected_calibration_error(targets, before),
            nll=log_loss(targets, before),
            brier=brier_score(targets, before),
        ),
        temperature=policy.temperature,
    )
