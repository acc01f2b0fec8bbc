"""Abstention, prediction sets, out-of-scope pictures and slices, as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import wrong_answers
from taxon.decision.policy import ALWAYS_UNSURE
from taxon.evaluation.curve_charts import risk_coverage_chart
from taxon.evaluation.gallery import Targets
from taxon.evaluation.summary import Metrics, SelectiveFigures, SliceFigures
from taxon.evaluation.wording import percent
from taxon.metrics import Figure

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
WEAKEST_SETS = 10
SLICES = 60
NAMES = {"top1": "Top-1", "micro_f1": "Micro-F1", "macro_f1": "Macro-F1"}
NO_PROMISE = "every answer is unsure: the risk that was asked for could not be promised"


@dataclass(frozen=True)
class Abstention:
    """Risk and coverage.

    Attributes:
        rows: (coverage, risk, the limit that gives it), for a few coverages.
        limit: the limit in use, in words.
        limited: whether there is one that an answer can reach.
        ring: whether the chart marks it: where no answer of this part is sure there is no risk.
    """

    figures: SelectiveFigures
    chart: Markup
    rows: tuple[tuple[float, float, float], ...]
    limit: str
    limited: bool
    ring: bool


def abstention(metrics: Metrics) -> Abstention | None:
    """Return what abstaining does on this part, or None where it was not measured."""
    figures = metrics.selective
    if figures is None or not figures.curve:
        return None
    rows = {min(figures.curve, key=lambda point: abs(point[0] - share)) for share in COVERAGES}
    below = figures.abstain_below
    limited = 0 < below < ALWAYS_UNSURE
    words = "none: every answer is given" if below == 0 else NO_PROMISE
    return Abstention(
        figures=figures,
        chart=risk_coverage_chart(figures),
        rows=tuple(sorted(rows, reverse=True)),
        limit=percent(below) if limited else words,
        limited=limited,
        ring=limited and None not in (figures.coverage.value, figures.risk.value),
    )


def scope_note(
    metrics: Metrics,
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
) -> str:
    """Say what the out-of-scope flag would change in the figures; empty where there is no flag.

    Figures score every picture by the class it would have; the flag is measured apart.
    """
    if metrics.scope is None or table.scope is None:
        return ""
    # The same comparison as in `taxon.decision.decide`.
    flagged = table.scope < np.float32(metrics.scope.limit)
    right = flagged & ~wrong_answers(table.probabilities, targets, label_space, policy)
    pictures = int(flagged.sum())
    return (
        f"All figures are without the out-of-scope flag, which would leave {pictures:,} of these "
        f"pictures unnamed, {int(right.sum()):,} of them right."
    )


def weakest_sets(metrics: Metrics) -> list[tuple[str, Figure]]:
    """Return the classes whose sets hold the true class least often, at most 10."""
    if metrics.sets is None:
        return []
    known = [
        (figure.value, name)
        for name, figure in metrics.sets.per_class.items()
        if figure.value is not None
    ]
    return [(name, metrics.sets.per_class[name]) for _, name in sorted(known)[:WEAKEST_SETS]]


@dataclass(frozen=True)
class SlicesView:
    """Slices: those worse than the rest beyond chance, then the others, the worst first.

    Attributes:
        keys: of the figures, in the order of the columns.
        names: their headings.
        more: how many slices are left out.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[SliceFigures, ...]
    more: int


def slices_view(metrics: Metrics) -> SlicesView | None:
    """Return the slices to show, at most 60 and all that are worse beyond chance; None where there
    are none."""
    if not metrics.slices:
        return None
    keys = tuple(dict.fromkeys(key for each in metrics.slices for key in each.figures))
    weak = [each for each in metrics.slices if each.is_weak]
    others = [each for each in metrics.slices if not each.is_weak]
    rows = (*weak, *others[: max(0, SLICES - len(weak))])
    return SlicesView(
        keys=keys,
        names=tuple(NAMES.get(key, key) for key in keys),
        rows=rows,
        more=len(metrics.slices) - len(rows),
    )
