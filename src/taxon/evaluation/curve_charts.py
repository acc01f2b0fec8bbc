"""Charts of curves: ROC, precision and recall, risk and coverage."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from taxon.decision.policy import ALWAYS_UNSURE
from taxon.evaluation.curves import ThresholdCurve
from taxon.evaluation.drawing import Frame, axis_names, below, grid, polyline, svg
from taxon.evaluation.summary import SelectiveFigures

QUARTERS = (0, 0.25, 0.5, 0.75, 1)
FAINT = 30  # of more classes no single lines are drawn behind the others; they would be a blot


def roc_chart(
    curves: Sequence[ThresholdCurve],
    pooled: ThresholdCurve | None,
    chosen: ThresholdCurve | None = None,
) -> Markup:
    """Draw how many are found against how many false alarms that costs."""
    frame = _square()
    parts = [
        grid(frame, QUARTERS, "{:.0%}"),
        below(frame, QUARTERS, "{:.0%}"),
        axis_names(frame, "false positive rate", "true positive rate"),
        polyline(frame, "ideal", [(0, 0), (1, 1)]),
        *(polyline(frame, "faint", curve.roc()) for curve in curves),
    ]
    if pooled is not None:
        parts.append(polyline(frame, "second", pooled.roc()))
    if chosen is not None:
        parts.append(polyline(frame, "validation", chosen.roc(), "roc-line"))
        parts.append(_marks("roc"))
    return svg(428, 348, "ROC: true positive rate by false positive rate", parts, frame)


def precision_recall_chart(
    curves: Sequence[ThresholdCurve],
    pooled: ThresholdCurve | None,
    chosen: ThresholdCurve | None = None,
) -> Markup:
    """Draw how many of the named are right against how many are found."""
    frame = _square()
    parts = [
        grid(frame, QUARTERS, "{:.0%}"),
        below(frame, QUARTERS, "{:.0%}"),
        axis_names(frame, "recall", "precision"),
        *(polyline(frame, "faint", curve.precision_recall()) for curve in curves),
    ]
    if pooled is not None:
        parts.append(polyline(frame, "second", pooled.precision_recall()))
    if chosen is not None:
        parts.append(polyline(frame, "validation", chosen.precision_recall(), "pr-line"))
        parts.append(_marks("pr"))
    return svg(428, 348, "Precision by recall", parts, frame)


def risk_coverage_chart(figures: SelectiveFigures) -> Markup:
    """Draw the share of mistakes among the answers that are given, against how many are given."""
    highest = max((risk for _, risk, _ in figures.curve), default=0.0)
    top = next(limit for limit in (0.05, 0.1, 0.2, 0.4, 1.0) if highest <= limit)
    frame = Frame(62, 404, 14, 290, (0, 1), (0, top))
    ticks = [top * part / 4 for part in range(5)]
    parts = [
        grid(frame, ticks, "{:.1%}" if top < 0.2 else "{:.0%}"),
        below(frame, QUARTERS, "{:.0%}"),
        axis_names(frame, "coverage: share of answers given", "risk: share of them wrong"),
        polyline(frame, "validation", [(share, risk) for share, risk, _ in figures.curve]),
    ]
    share, risk = figures.coverage.value, figures.risk.value
    if 0 < figures.abstain_below < ALWAYS_UNSURE and share is not None and risk is not None:
        parts.append(
            f'<circle class="dot validation ring" cx="{frame.x(share)}" cy="{frame.y(risk)}" r="5">'
            f"<title>the limit in use: {share:.0%} answered, {risk:.1%} of them wrong</title>"
            "</circle>"
        )
    return svg(428, 348, "Risk by coverage", parts)


def _square() -> Frame:
    return Frame(62, 404, 14, 290, (0, 1), (0, 1))


def _marks(name: str) -> str:
    """Where a script puts the fitted and the chosen threshold."""
    return (
        f'<circle id="{name}-fitted" class="dot ring fitted" r="6"/>'
        f'<circle id="{name}-dot" class="dot validation" r="4.5"/>'
    )
