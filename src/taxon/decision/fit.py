"""Fit the decision policy on the calibration part, which the test never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import FloatArray, PredictionTable
from taxon.decision.policy import DecisionPolicy, FloatVector, calibrate

MINIMUM_POSITIVES = 5
ADJUSTED = (
    "logits are adjusted by class frequency: the probabilities hold for pictures among which all "
    "classes are equally frequent, and the share of right answers will differ from them where "
    "they are not"
)


@dataclass(frozen=True)
class PolicyFit:
    """A fitted policy, and what was found: plain sentences for the log and the report."""

    policy: DecisionPolicy
    notes: tuple[str, ...]


def fit_policy(
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    part: str,
    logit_adjustment: Sequence[float] | FloatVector | None = None,
) -> PolicyFit:
    """Fit temperature (Guo et al. 2017) or per-class F1 thresholds.

    The temperature is fitted without the adjustment: it describes the pictures as frequent as
    they are, and the adjustment then moves the calibrated logits (Menon et al. 2021).

    Args:
        table: predictions for the part; only its logits are used.
        targets: int64 [N] (multiclass) or [N, C] (multilabel; a label's threshold goes by the
            pictures where it is not -1, unknown).
        part: its name, kept in the policy.
        logit_adjustment: [C], added to the scaled logits.
    """
    fitted = _fit(table, targets, label_space, part)
    if logit_adjustment is None:
        return fitted
    return PolicyFit(fitted.policy.with_bias(logit_adjustment), (*fitted.notes, ADJUSTED))


def _fit(
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    part: str,
) -> PolicyFit:
    default = DecisionPolicy.default(label_space)
    if len(table) == 0:
        return PolicyFit(default, ("no pictures to calibrate on: probabilities are as trained",))
    if label_space.task == "multilabel":
        return _fit_thresholds(table, targets, label_space, part)
    before = _log_loss(table.logits, targets, 1.0)
    found = minimize_scalar(
        lambda log_temperature: _smoothed_loss(table.logits, targets, np.exp(log_temperature)),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    after = _log_loss(table.logits, targets, temperature)
    if after >= before:
        return PolicyFit(default, ("temperature scaling did not lower the log loss; left at 1",))
    scale = (1.0 / temperature,) * len(label_space.names)
    policy = default.model_copy(update={"scale": scale, "fitted_on": part})
    note = f"temperature {temperature:.2f} on {part}: log loss {before:.3f} -> {after:.3f}"
    return PolicyFit(policy, (note,))


def _log_loss(logits: FloatArray, targets: npt.NDArray[np.int64], temperature: float) -> float:
    rows = np.arange(len(targets))
    return float(-np.mean(_log_probabilities(logits, temperature)[rows, targets]))


def _smoothed_loss(logits: FloatArray, targets: npt.NDArray[np.int64], temperature: float) -> float:
    """The log loss with one more, imagined picture that might be of any class.

    Where the classifier makes no mistake on the part, the plain log loss would ask for ever more
    confidence; Platt (1999) smooths the targets for the same reason.
    """
    log_probabilities = _log_probabilities(logits, temperature)
    count = len(targets)
    total = log_probabilities[np.arange(count), targets].sum() + log_probabilities.mean()
    return float(-total / (count + 1))


def _log_probabilities(logits: FloatArray, temperature: float) -> npt.NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _fit_thresholds(
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    part: str,
) -> PolicyFit:
    """A threshold per class by F1; a class with few positives keeps 0.5, and the notes say so."""
    default = DecisionPolicy.default(label_space)
    probabilities = calibrate(table.logits, default, "multilabel")
    thresholds, notes = [], []
    for column, name in enumerate(label_space.names):
        known = targets[:, column] != UNKNOWN
        truth = targets[known, column]
        positives = int(truth.sum())
        if positives < MINIMUM_POSITIVES or positives == len(truth):
            thresholds.append(0.5)
            notes.append(f"'{name}' has {positives} of {len(truth)} in {part}: threshold 0.5")
        else:
            thresholds.append(best_f1_threshold(truth, probabilities[known, column]))
    policy = default.model_copy(update={"thresholds": tuple(thresholds), "fitted_on": part})
    return PolicyFit(policy, (f"thresholds by F1 on {part}", *notes))


def best_f1_threshold(truth: npt.NDArray[np.int64], probabilities: FloatArray) -> float:
    """Return the threshold with the highest F1, midway between two neighbouring scores.

    Args:
        truth: int64 [N] of 0 and 1, with at least one 1.
        probabilities: float32 [N].
    """
    order = np.argsort(-probabilities, kind="stable")
    scores = probabilities[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    # A cut between two equal scores cannot be made by any threshold.
    possible = np.append(scores[:-1] > scores[1:], True)
    cut = int(np.argmax(np.where(possible, f1, -1.0)))
    below = scores[cut + 1] if cut + 1 < len(scores) else 0.0
    middle = (scores[cut] + below) / 2
    # Probabilities are float32: between two neighbours the middle may round to the lower one.
    return float(middle if np.float32(middle) > below else scores[cut])
