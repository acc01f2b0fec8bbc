"""Metrics: plain functions on arrays, with scikit-learn inside; imports only core.

Every function here takes N pictures over C classes, in the column order of the label space:
`targets` is int64 [N] of class positions (multiclass) or int64 [N, C] of 0, 1 and, where nobody
annotated it, -1 (multilabel); `probabilities` is float [N, C]. What is unknown counts nowhere: a
class's figures are those on the pictures where it is known. A figure that the data does not define
is a `Figure` without value and with a reason: never 0, never a crash. No pictures at all is a
`DataError`.
"""

from taxon.metrics.bootstrap import GroupBootstrap, exact_interval, interval
from taxon.metrics.calibration import (
    ReliabilityBins,
    adaptive_calibration_error,
    brier_score,
    calibration_error_by_chance,
    expected_calibration_error,
    reliability_bins,
)
from taxon.metrics.figure import Figure, mean_of_defined, undefined
from taxon.metrics.indicator import indicator, named_indicator, predicted_classes
from taxon.metrics.multiclass import (
    balanced_accuracy,
    cohen_kappa,
    cohen_kappa_quadratic,
    confusion_matrix,
    matthews,
    top_k_accuracy,
    top_k_hits,
)
from taxon.metrics.per_class import ClassScores, F1Averages, class_scores, f1_averages
from taxon.metrics.ranking import average_precision, log_loss, roc_auc
from taxon.metrics.selection import headline, selection_score
from taxon.metrics.tags import exact_match, hamming_loss, label_ranking_average_precision
from taxon.metrics.taxonomy import TaxonomyScores, taxonomy_scores

__all__ = [
    "ClassScores",
    "F1Averages",
    "Figure",
    "GroupBootstrap",
    "ReliabilityBins",
    "TaxonomyScores",
    "adaptive_calibration_error",
    "average_precision",
    "balanced_accuracy",
    "brier_score",
    "calibration_error_by_chance",
    "class_scores",
    "cohen_kappa",
    "cohen_kappa_quadratic",
    "confusion_matrix",
    "exact_interval",
    "exact_match",
    "expected_calibration_error",
    "f1_averages",
    "hamming_loss",
    "headline",
    "indicator",
    "interval",
    "label_ranking_average_precision",
    "log_loss",
    "matthews",
    "mean_of_defined",
    "named_indicator",
    "predicted_classes",
    "reliability_bins",
    "roc_auc",
    "selection_score",
    "taxonomy_scores",
    "top_k_accuracy",
    "top_k_hits",
    "undefined",
]
