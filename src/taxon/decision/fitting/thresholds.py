"""From which score on a class is named: by F1, by a recall or a precision that is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from taxon.config.decision import DecisionConfig
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.f1_thresholds import fit_f1_thresholds
from taxon.decision.fitting.part import CalibrationPart, Targets, listed
from taxon.decision.fitting.targets import Scores, threshold_for


@dataclass(frozen=True)
class ThresholdFit:
    """A threshold for each tag; what was found, in sentences; of these, targets not to be kept."""

    thresholds: tuple[float, ...]
    notes: tuple[str, ...]
    broken: tuple[str, ...] = ()


def fit_thresholds(
    part: CalibrationPart, probabilities: FloatArray, config: DecisionConfig
) -> ThresholdFit:
    """Choose a threshold for every tag, by F1 or by the recall or precision that is asked for.

    A tag with fewer than `threshold_support` examples (or counter-examples) takes the threshold
    that is chosen on all tags together. Where one tag has a target, the others keep theirs by F1.

    Args:
        probabilities: float32 [N, C], calibrated.
    """
    names, target = part.label_space.names, config.target_class
    if config.target != "f1" and target is None:
        return _by_target(part, probabilities, config, names)
    by_f1 = fit_f1_thresholds(part, probabilities, config.threshold_support, besides=target)
    if target is None:
        return ThresholdFit(by_f1.thresholds, by_f1.notes)
    asked = _by_target(part, probabilities, config, (target,))
    thresholds = tuple(
        asked.thresholds[0] if name == target else threshold
        for name, threshold in zip(names, by_f1.thresholds, strict=True)
    )
    return ThresholdFit(thresholds, (*asked.notes, *by_f1.notes), asked.broken)


def _by_target(
    part: CalibrationPart,
    probabilities: FloatArray,
    config: DecisionConfig,
    names: tuple[str, ...],
) -> ThresholdFit:
    """Thresholds of these tags for the recall or precision that is asked for."""
    known = part.targets != UNKNOWN
    shared = _shared_threshold(part.targets[known], probabilities[known], config)
    thresholds: list[float] = []
    rare, notes, broken = [], [], []
    for name in names:
        column = part.label_space.names.index(name)
        rows = known[:, column]
        truth, scores = part.targets[rows, column], probabilities[rows, column]
        positives = int(truth.sum())
        if min(positives, len(truth) - positives) < config.threshold_support:
            rare.append(name)
            thresholds.append(shared)
        else:
            found = threshold_for(truth, scores, config.target, config.target_value)
            thresholds.append(found.threshold)
            start = f"named from {found.threshold:.3g} on, " if found.kept else ""
            notes.append(f"'{name}': {start}{found.words}")
            broken += [] if found.kept else notes[-1:]
    lead = f"thresholds by {config.target} of {config.target_value:g} on {part.name}"
    if rare:
        few = f"fewer than {config.threshold_support} examples or counter-examples"
        notes.append(f"{listed(rare)}: {few}: the shared threshold {shared:.2f}")
    return ThresholdFit(tuple(thresholds), (lead, *notes), tuple(broken))


def _shared_threshold(truth: Targets, scores: Scores, config: DecisionConfig) -> float:
    """One threshold that reaches the target over all answers together, both [K]."""
    if not 0 < truth.sum() < len(truth):
        return 0.5
    return threshold_for(truth, scores, config.target, config.target_value).threshold
