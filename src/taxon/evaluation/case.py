"""What every figure of one part is computed from, and how figures get their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.errors import DataError
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import named_classes
from taxon.metrics import Figure, GroupBootstrap, indicator, named_indicator
from taxon.metrics.indicator import known_entries, known_shares

Targets = npt.NDArray[np.int64]
Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Truth and answers of one part.

    Attributes:
        targets: int64 [N] or [N, C].
        probabilities: float32 [N, C], calibrated.
        predicted: int64 [N], the classes that the answers name; empty for multilabel.
        known: bool [N, C]; None where all is known.
        truth, named: indicators [N, C], both 0 where it is not `known`.
        bootstrap: the resamples of every interval.
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

    def share(self, figure: Figure, samples: Samples, concerned: int | None = None) -> Figure:
        """Attach the interval of a share, taken over so many groups; None is all."""
        return self.bootstrap.with_share_interval(figure, samples, concerned)

    def f1_of_class(self, figure: Figure, samples: Samples, concerned: int) -> Figure:
        """The same for the F1 of a class, over the groups that have it or are named so."""
        return self.bootstrap.with_f1_interval(figure, samples, concerned)

    def share_of_rows(self, figure: Figure, rows: npt.NDArray[Any]) -> Figure:
        """Attach the interval of a share that is the mean of yes or no over all pictures."""
        return self.share(figure, self.bootstrap.means(rows))

    def figure_of_known(self, figure: Figure, rows: npt.NDArray[Any]) -> Figure:
        """Attach the interval of a figure that is the mean of a value per picture: of several
        labels the sum over those of a picture that are known, divided by C."""
        return self.figure(figure, self.bootstrap.means(rows, known_shares(self.targets)))


def make_case(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    groups: npt.NDArray[np.int64] | None,
) -> Case:
    """Check that table, targets and label space belong together, and let the policy answer.

    Raises:
        DataError: there are no pictures, the table's classes are not the label space's, or an
            output is not a number.
        ValueError: targets of the wrong shape or range.
    """
    if table.names != label_space.names:
        raise DataError(
            "the predictions are over other classes than the label space: received "
            f"{list(table.names[:5])}, expected {list(label_space.names[:5])}; "
            "predict again with the bundle that you evaluate"
        )
    if not np.isfinite(table.probabilities).all() or np.isnan(table.logits).any():
        raise DataError(
            "a probability or logit is not a number; the model's output cannot be scored"
        )
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
    return Case(targets, table.probabilities, predicted, known, truth, named, bootstrap)
