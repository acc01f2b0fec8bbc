"""The charts of the report that are the same whatever its page has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation.charts import reliability_diagram
from taxon.evaluation.decisions_view import Abstention, abstention
from taxon.evaluation.figures import Chart
from taxon.evaluation.summary import Metrics
from taxon.evaluation.training_view import TrainingView, training_view
from taxon.metrics import reliability_bins


@dataclass(frozen=True)
class ReportCharts:
    """What is drawn of calibration, abstention and training.

    Attributes:
        calibrated: whether `reliability` shows the time before calibration too.
    """

    reliability: Markup
    calibrated: bool
    selective: Abstention | None
    training: TrainingView | None

    def files(self, curves: Mapping[str, Chart]) -> dict[str, Chart]:
        """All charts by the names of their files."""
        charts = {"reliability": Chart(self.reliability), **curves}
        if self.selective:
            charts["risk-coverage"] = Chart(self.selective.chart)
        for title, drawing, series in self.training.curves if self.training else ():
            legend = tuple((line.style, line.name) for line in series)
            charts[f"training-{title.split()[0].lower()}"] = Chart(drawing, legend)
        return charts


def report_charts(
    metrics: Metrics,
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    history: Sequence[dict[str, Any]],
) -> ReportCharts:
    """Draw them.

    Args:
        targets: int64 [N] or [N, C].
        history: one row an epoch.
    """
    reliability, calibrated = _reliability(metrics, table, targets, label_space)
    return ReportCharts(reliability, calibrated, abstention(metrics), training_view(history))


def _reliability(
    metrics: Metrics,
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
) -> tuple[Markup, bool]:
    """The diagram, and whether it shows the time before calibration too."""
    bins = reliability_bins(targets, table.probabilities)
    plain_policy = DecisionPolicy.default(label_space)
    uncalibrated = calibrate(table.logits, plain_policy, label_space.task)
    before = None
    if not np.allclose(uncalibrated, table.probabilities, atol=1e-3):
        before = reliability_bins(targets, uncalibrated)
    words = ("confidence", "share that is right")
    if metrics.task == "multilabel":
        words = ("probability", "share that has the class")
    drawing = reliability_diagram(bins, x_label=words[0], y_label=words[1], before=before)
    return drawing, before is not None
