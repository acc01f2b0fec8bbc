"""Figures of a task with several labels a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taxon.core.labels import Task
from taxon.evaluation.case import Case
from taxon.metrics import (
    Figure,
    exact_match,
    f1_averages,
    hamming_loss,
    label_ranking_average_precision,
    named_indicator,
    undefined,
)
from taxon.metrics.indicator import known_shares
from taxon.metrics.resampled import count_samples
from taxon.metrics.tags import row_label_rankings, row_wrong_shares

SEVERAL_LABELS_ONLY = "defined for several labels a picture; this task has one class"
HALF = 0.5


@dataclass(frozen=True)
class SeveralLabelFigures:
    """By their names in metrics.json; see `taxon.evaluation.Metrics`."""

    macro_f1_at_half: Figure
    micro_f1_at_half: Figure
    hamming_loss: Figure
    exact_match: Figure
    label_ranking_average_precision: Figure


def several_label_figures(case: Case, task: Task) -> SeveralLabelFigures:
    """Measure what only several labels a picture have; undefined for one class a picture."""
    if task == "multiclass":
        return SeveralLabelFigures(*[undefined(SEVERAL_LABELS_ONLY)] * 5)
    bootstrap, targets = case.bootstrap, case.targets
    at_half = named_indicator(case.probabilities, HALF, case.known)
    averages = f1_averages(case.truth, at_half)
    counts = count_samples(bootstrap, case.truth, at_half, case.known)
    known = known_shares(targets)
    wrong = row_wrong_shares(targets, case.named)
    complete = known == 1.0
    rankings = row_label_rankings(targets, case.probabilities)
    ranked = np.isfinite(rankings)
    return SeveralLabelFigures(
        macro_f1_at_half=case.figure(averages.macro, counts.macro_f1),
        micro_f1_at_half=case.share(averages.micro, counts.micro_f1),
        hamming_loss=case.share(
            hamming_loss(targets, case.named),
            bootstrap.means(wrong, known),
            bootstrap.concerned(known > 0),
        ),
        exact_match=case.share(
            exact_match(targets, case.named),
            bootstrap.means((wrong == 0) & complete, complete.astype(np.float64)),
            bootstrap.concerned(complete),
        ),
        label_ranking_average_precision=case.share(
            label_ranking_average_precision(targets, case.probabilities),
            bootstrap.means(np.nan_to_num(rankings), ranked.astype(np.float64)),
            bootstrap.concerned(ranked),
        ),
    )
