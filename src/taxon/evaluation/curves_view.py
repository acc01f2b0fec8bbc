"""Curves and thresholds of each class, as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation.curve_charts import FAINT, precision_recall_chart, roc_chart
from taxon.evaluation.curves import ThresholdCurve, class_curves, pooled_curve
from taxon.evaluation.figures import Chart
from taxon.evaluation.gallery import Targets
from taxon.evaluation.summary import Metrics


@dataclass(frozen=True)
class CurvesView:
    """What is drawn, and what the page's script needs to draw other classes.

    Attributes:
        names: classes to choose from, in class order.
        chosen: the class that is shown first: the one with the lowest average precision.
        lines: whether lines of all classes lie behind.
        pooled: whether there is a line of all decisions together.
        data: by class, its counts at thresholds, AUC and average precision.
        left_out: classes without a curve: all pictures have them, or none, or the page was cut.
    """

    names: tuple[str, ...]
    chosen: str
    lines: bool
    pooled: bool
    roc: Markup
    precision_recall: Markup
    data: dict[str, dict[str, Any]]
    left_out: int

    def cut(self, most: int) -> CurvesView:
        """Return the view of the classes with the lowest average precision, `most` of them."""
        if len(self.names) <= most:
            return self
        weakest = set(
            sorted(self.names, key=lambda name: (_value(self.data[name]["ap"]), name))[:most]
        )
        names = tuple(name for name in self.names if name in weakest)
        return replace(
            self,
            names=names,
            data={name: self.data[name] for name in names},
            left_out=self.left_out + len(self.names) - len(names),
        )


def curves_view(
    metrics: Metrics,
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
) -> tuple[CurvesView, dict[str, Chart]] | None:
    """Return what to show and, for a paper, the same curves with no class chosen; None where no
    class has a curve.

    Args:
        targets: int64 [N] or [N, C].
    """
    curves = class_curves(table, targets, label_space, policy)
    if not curves:
        return None
    average = metrics.average_precision.per_class
    names = tuple(curves)
    chosen = min(names, key=lambda name: (_value(average[name].value), name))
    behind = list(curves.values()) if 1 < len(curves) <= FAINT else []
    pooled = pooled_curve(table, targets) if len(curves) > 1 else None
    view = CurvesView(
        names=names,
        chosen=chosen,
        lines=bool(behind),
        pooled=pooled is not None,
        roc=roc_chart(behind, pooled, curves[chosen]),
        precision_recall=precision_recall_chart(behind, pooled, curves[chosen]),
        data={name: _data(metrics, name, curves[name]) for name in names},
        left_out=len(label_space.names) - len(names),
    )
    lines = list(curves.values()) if len(curves) <= FAINT else []
    legend = tuple(
        (style, name)
        for style, name, drawn in (
            ("faint", "each class", lines),
            ("second", "all decisions together", pooled),
        )
        if drawn
    )
    charts = {
        "roc": Chart(roc_chart(lines, pooled), (*legend, ("ideal", "chance"))),
        "precision-recall": Chart(precision_recall_chart(lines, pooled), legend),
    }
    return view, charts


def _data(metrics: Metrics, name: str, curve: ThresholdCurve) -> dict[str, Any]:
    return {
        **curve.as_json(),
        "auc": metrics.auc_roc.per_class[name].value,
        "ap": metrics.average_precision.per_class[name].value,
    }


def _value(figure: float | None) -> float:
    return 2.0 if figure is None else figure
