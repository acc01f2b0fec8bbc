"""Calibration: one temperature (multiclass), or a scale and a bias a tag (multilabel).

Whether it helps is asked on held-out folds of the part: what is fitted on a part always looks
better on that part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.part import CalibrationPart, Targets, folds, listed, stratified_folds
from taxon.decision.policy import DecisionPolicy, calibrate
from taxon.metrics import expected_calibration_error, log_loss

Floats = npt.NDArray[np.float64]
# An expected calibration error that rises by no more than this is within the noise of a few
# hundred answers (Roelofs et al. 2022); the log loss decides.
ECE_TOLERANCE = 0.02
EXTREME_SCALE = 20.0


@dataclass(frozen=True)
class CalibrationFit:
    """A scale and a bias for each logit, and what was found, in sentences."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    notes: tuple[str, ...]


def unchanged(part: CalibrationPart, *notes: str) -> CalibrationFit:
    """The fit that leaves the logits as they are."""
    count = len(part.label_space.names)
    return CalibrationFit((1.0,) * count, (0.0,) * count, notes)


def fit_temperature(part: CalibrationPart) -> CalibrationFit:
    """Fit one temperature for all classes (Guo et al. 2017); refused where it does not help."""
    count = len(part.label_space.names)
    before, after = np.zeros_like(part.logits), np.zeros_like(part.logits)
    held_out: list[int] = []
    for rest, held in folds(part.groups):
        temperature = best_temperature(part.logits[rest], part.targets[rest])
        before[held] = part.logits[held]
        after[held] = part.logits[held] / np.float32(temperature)
        held_out.extend(held.tolist())
    if not held_out:
        return unchanged(part, f"{part.name} has one group alone: probabilities are as trained")
    verdict = _compare(part, before, after)
    temperature = best_temperature(part.logits, part.targets)
    if not verdict.helps:
        return unchanged(
            part, f"temperature {temperature:.2f} refused, left at 1: {verdict.sentence}"
        )
    note = f"temperature {temperature:.2f} on {part.name}: {verdict.sentence}"
    return CalibrationFit((1.0 / temperature,) * count, (0.0,) * count, (note,))


def best_temperature(logits: FloatArray, targets: Targets) -> float:
    """Return the temperature with the least smoothed log loss, 0.05 to 20.

    Where the classifier makes no mistake on the part, the plain log loss would ask for ever more
    confidence. So one more, imagined picture counts that might be of any class; Platt (1999)
    smooths the targets for the same reason.

    Args:
        logits: float32 [N, C].
        targets: int64 [N].
    """
    rows, exact = np.arange(len(targets)), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = exact / np.exp(log_temperature)
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        total = log_probabilities[rows, targets].sum() + log_probabilities.mean()
        return float(-total / (len(targets) + 1))

    bounds = (-np.log(EXTREME_SCALE), np.log(EXTREME_SCALE))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def fit_platt(part: CalibrationPart, support: int) -> CalibrationFit:
    """Fit a scale and a bias a tag (Platt 1999); each is refused where it does not help.

    A tag with fewer than `support` examples, or counter-examples, takes what is fitted on all
    tags together.
    """
    names, notes = part.label_space.names, []
    everything = _columns_together(part)
    shared, shared_verdict = _platt_with_verdict(*everything)
    if shared == IDENTITY:
        notes.append(f"a scale and bias over all tags refused: {shared_verdict}")
    scales, biases = [], []
    refused, rare = [], []
    for column, name in enumerate(names):
        known = part.targets[:, column] != UNKNOWN
        truth = part.targets[known, column]
        positives = int(truth.sum())
        if min(positives, len(truth) - positives) < support:
            rare.append(name)
            found = shared
        else:
            found, _ = _platt_with_verdict(part.logits[known, column], truth, part.groups[known])
            if found == IDENTITY:
                refused.append(name)
        scales.append(found[0])
        biases.append(found[1])
    fitted = len(names) - len(rare) - len(refused)
    if fitted:
        notes.append(f"scale and bias fitted for {fitted} of {len(names)} tags on {part.name}")
    if rare:
        notes.append(
            f"{listed(rare)}: fewer than {support} examples or counter-examples in {part.name}; "
            f"{'not calibrated' if shared == IDENTITY else 'calibrated as all tags together'}"
        )
    if refused:
        notes.append(f"{listed(refused)}: left as trained, held-out log loss would not fall")
    return CalibrationFit(tuple(scales), tuple(biases), tuple(notes))


IDENTITY = (1.0, 0.0)


def best_platt(logits: FloatArray, truth: Targets) -> tuple[float, float]:
    """Return (scale, bias) with the least log loss, the targets smoothed as Platt (1999) does.

    Args:
        logits: float32 [N].
        truth: int64 [N] of 0 and 1.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    goal = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    exact = logits.astype(np.float64)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scaled = parameters[0] * exact + parameters[1]
        value = np.logaddexp(0.0, scaled) - goal * scaled
        slope = 0.5 * (1.0 + np.tanh(0.5 * scaled)) - goal
        return float(value.mean()), np.array([(slope * exact).mean(), slope.mean()])

    # A scale above 0: calibration never turns the order of pictures around.
    bounds = [(1 / EXTREME_SCALE, EXTREME_SCALE), (None, None)]
    found = minimize(loss, np.array(IDENTITY), jac=True, bounds=bounds, method="L-BFGS-B").x
    return float(found[0]), float(found[1])


def _platt_with_verdict(
    logits: FloatArray, truth: Targets, groups: Targets
) -> tuple[tuple[float, float], str]:
    """(scale, bias), or the identity with the reason where held-out folds do not get better."""
    before, after = [], []
    for rest, held in stratified_folds(truth, groups):
        scale, bias = best_platt(logits[rest], truth[rest])
        before.append(_tag_losses(logits[held], truth[held]))
        after.append(_tag_losses(np.float32(scale) * logits[held] + np.float32(bias), truth[held]))
    if not before:
        return IDENTITY, "too few examples to hold some out"
    old, new = (float(np.concatenate(losses).mean()) for losses in (before, after))
    if new >= old:
        return IDENTITY, f"held-out log loss would be {new:.4f} and is {old:.4f}"
    return best_platt(logits, truth), f"held-out log loss {old:.4f} -> {new:.4f}"


def _tag_losses(logits: FloatArray, truth: Targets) -> Floats:
    exact = logits.astype(np.float64)
    return np.asarray(np.logaddexp(0.0, exact) - truth * exact)


def _columns_together(part: CalibrationPart) -> tuple[FloatArray, Targets, Targets]:
    known = part.targets != UNKNOWN
    groups = np.broadcast_to(part.groups[:, None], part.targets.shape)
    return part.logits[known], part.targets[known], groups[known]


@dataclass(frozen=True)
class _Verdict:
    helps: bool
    sentence: str


def _compare(part: CalibrationPart, before: FloatArray, after: FloatArray) -> _Verdict:
    """Compare log loss and ECE of held-out logits before and after."""
    plain, task = DecisionPolicy.default(part.label_space), part.label_space.task
    old, new = calibrate(before, plain, task), calibrate(after, plain, task)
    losses = [log_loss(part.targets, each).value or 0.0 for each in (old, new)]
    errors = [expected_calibration_error(part.targets, each).value or 0.0 for each in (old, new)]
    sentence = (
        f"held-out log loss {losses[0]:.3f} -> {losses[1]:.3f}, "
        f"ECE {100 * errors[0]:.1f} -> {100 * errors[1]:.1f} %"
    )
    return _Verdict(losses[1] < losses[0] and errors[1] <= errors[0] + ECE_TOLERANCE, sentence)
