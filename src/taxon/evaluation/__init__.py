"""Evaluation: from predictions and targets to `metrics.json` and a report; imports no torch."""

from taxon.evaluation.compute import compute_metrics
from taxon.evaluation.report import write_report
from taxon.evaluation.summary import Metrics
from taxon.evaluation.terminal import summary_rows
from taxon.metrics import Figure

__all__ = ["Figure", "Metrics", "compute_metrics", "summary_rows", "write_report"]
