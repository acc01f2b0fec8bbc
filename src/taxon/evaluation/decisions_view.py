"""Abstention, prediction sets, out-of-scope pictures and slices, as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from taxon.evaluation.curve_charts import risk_coverage_chart
from taxon.evaluation.summary import Metrics, SelectiveFigures, SliceFigures
from taxon.metrics import Figure

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
WEAKEST_SETS = 10
SLICES = 60
NAMES = {
    "top1": "Top-1",
    "top5": "Top-5",
    "macro_f1": "Macro-F1",
    "micro_f1": "Micro-F1",
    "weighted_f1": "Weighted F1",
    "balanced_accuracy": "Balanced accuracy",
    "mAP": "mAP",
    "average_precision": "mAP",
    "auc_roc": "AUC-ROC",
    "log_loss": "Log loss",
    "coverage": "Coverage",
}
NO_SHARES = ("log_loss", "cohen_kappa")


@dataclass(frozen=True)
class Abstention:
    """Risk and coverage.

    Attributes:
        rows: (coverage, risk, the limit that gives it), for a few coverages.
    """

    figures: SelectiveFigures
    chart: Markup
    rows: tuple[tuple[float, float, float], ...]


def abstention(metrics: Metrics) -> Abstention | None:
    """Return what abstaining does on this part, or None where it was not measured."""
    figures = metrics.selective
    if figures is None or not figures.curve:
        return None
    rows = {min(figures.curve, key=lambda point: abs(point[0] - share)) for share in COVERAGES}
    return Abstention(figures, risk_coverage_chart(figures), tuple(sorted(rows, reverse=True)))


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
    """Slices, the worst first.

    Attributes:
        keys: of the figures, in the order of the columns.
        names: their headings.
        shares: by key, whether it is printed as per cent.
        rows: with each slice whether it is certainly worse than the rest: the interval of the
            difference lies below 0.
        more: how many slices are left out.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    shares: dict[str, bool]
    rows: tuple[tuple[SliceFigures, bool], ...]
    more: int


def slices_view(metrics: Metrics) -> SlicesView | None:
    """Return the slices to show, or None where there are none."""
    if not metrics.slices:
        return None
    keys = tuple(dict.fromkeys(key for each in metrics.slices for key in each.figures))
    rows = tuple(
        (each, each.difference.ci95 is not None and each.difference.ci95[1] < 0)
        for each in metrics.slices[:SLICES]
    )
    return SlicesView(
        keys=keys,
        names=tuple(NAMES.get(key, key.replace("_", " ")) for key in keys),
        shares={key: key not in NO_SHARES for key in keys},
        rows=rows,
        more=len(metrics.slices) - len(rows),
    )


def points(share: float | None) -> str:
    """Write a difference of shares as `-3.2 points`; a dash for None."""
    if share is None:
        return "–"
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}") + " points"
