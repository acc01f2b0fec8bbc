"""Fit the decision policy on the calibration part, which the test never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.answers import answer_confidence, wrong_answers
from taxon.decision.fitting.abstention import AbstentionFit, fit_abstention
from taxon.decision.fitting.calibration import (
    CalibrationFit,
    fit_platt,
    fit_temperature,
    unchanged,
)
from taxon.decision.fitting.costs import cost_matrix, costs_for_target, tag_thresholds
from taxon.decision.fitting.part import CalibrationPart, folds
from taxon.decision.fitting.requirements import require_decidable
from taxon.decision.fitting.scope import ScopeEvidence, fit_scope
from taxon.decision.fitting.sets import fit_sets
from taxon.decision.fitting.thresholds import fit_thresholds
from taxon.decision.policy import ALWAYS_UNSURE, DecisionPolicy, FloatVector, calibrate

ADJUSTED = (
    "logits are adjusted by class frequency: the probabilities hold for pictures among which all "
    "classes are equally frequent, and the share of right answers will differ from them where "
    "they are not"
)

GROUPED = "bounds, sets and flags take pictures for independent, and some of"
CHOSEN_ON = "that part chose the epoch too: expect a little more"
DEFAULT_COVERAGE = DecisionConfig().set_coverage

Adjustment = Sequence[float] | FloatVector
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PolicyFit:
    """A fitted policy, and what was found.

    Attributes:
        bank: float32 [M, F], features of training pictures by which the graph tells what is out
            of scope, rows of length 1; None where the policy has no use for it.
        notes: plain sentences for the log and the report.
        broken: of these, promises that were asked for and cannot be kept.
    """

    policy: DecisionPolicy
    notes: tuple[str, ...]
    bank: FloatArray | None = None
    broken: tuple[str, ...] = ()


def fit_policy(
    part: CalibrationPart,
    config: DecisionConfig,
    *,
    logit_adjustment: Adjustment | None = None,
    evidence: ScopeEvidence | None = None,
) -> PolicyFit:
    """Fit, in this order: calibration, thresholds or costs, abstention, prediction sets, scope.

    Each is fitted on what the ones before make of the part. The temperature is fitted without the
    adjustment: it describes the pictures as frequent as they are, and the adjustment then moves
    the calibrated logits (Menon et al. 2021).

    Args:
        logit_adjustment: [C], added to the scaled logits.
        evidence: for the scope; None: nothing is flagged.

    Raises:
        ConfigError: a class of the configuration that there is not.
    """
    space = part.label_space
    require_decidable(config, space)
    answering = _answering(part, config, logit_adjustment)
    policy, notes, broken = answering.policy, answering.notes, answering.broken
    if not len(part):
        return _without_pictures(answering, config)
    abstention = _abstention(part, config, logit_adjustment, policy)
    if abstention is not None:
        policy = policy.model_copy(update={"abstain_below": abstention.abstain_below})
        notes = (*notes, abstention.note)
        broken = (*broken, *(() if abstention.kept else (abstention.note,)))
    if space.task == "multiclass":
        sets = fit_sets(part, calibrate(part.logits, policy, space.task), config)
        policy = policy.model_copy(update={"sets": sets.sets})
        notes = (*notes, *sets.notes)
        if sets.sets is None and config.set_coverage not in (None, DEFAULT_COVERAGE):
            broken = (*broken, *sets.notes)
    scope = fit_scope(part, evidence, config)
    policy = policy.model_copy(update={"scope": scope.scope})
    notes = (*notes, *scope.notes)
    if len(np.unique(part.groups)) < len(part):
        notes = (*notes, f"{GROUPED} {part.name} share a group")
    return PolicyFit(policy, notes, scope.bank, broken)


@dataclass(frozen=True)
class _Answering:
    """The policy with all that an answer's name depends on; sentences; promises not kept."""

    policy: DecisionPolicy
    notes: tuple[str, ...]
    broken: tuple[str, ...] = ()


def _without_pictures(answering: _Answering, config: DecisionConfig) -> PolicyFit:
    """Costs need no pictures; what does is not promised."""
    nothing = "no pictures to calibrate on: probabilities are as trained"
    asked = [f"target={config.target}"] if config.target != "f1" else []
    update: dict[str, object] = {}
    if config.abstain_risk is not None:
        asked.append(f"abstain_risk={config.abstain_risk:g}")
        update["abstain_below"] = ALWAYS_UNSURE
    broken = (f"{nothing}; {', '.join(asked)} cannot be promised",) if asked else ()
    policy = answering.policy.model_copy(update=update)
    return PolicyFit(policy, broken or (nothing,), broken=broken)


def _answering(
    part: CalibrationPart, config: DecisionConfig, adjustment: Adjustment | None
) -> _Answering:
    fitted = _calibration(part, config)
    notes, bias = fitted.notes, np.array(fitted.bias)
    if adjustment is not None:
        bias = bias + np.asarray(adjustment, np.float64)
        notes = (*notes, ADJUSTED)
    policy = (
        DecisionPolicy.default(part.label_space)
        .model_copy(
            update={
                "scale": fitted.scale,
                "taxonomy_rule": config.taxonomy_rule,
                "taxonomy_confidence": config.taxonomy_confidence,
                "fitted_on": part.name if len(part) else "defaults",
            }
        )
        .with_bias(bias)
    )
    named = _with_names(policy, part, config)
    return _Answering(named.policy, (*notes, *named.notes), named.broken)


def _calibration(part: CalibrationPart, config: DecisionConfig) -> CalibrationFit:
    if not config.calibrate or not len(part):
        return unchanged(part)
    if part.label_space.task == "multilabel":
        return fit_platt(part, config.threshold_support)
    return fit_temperature(part)


def _with_names(
    policy: DecisionPolicy, part: CalibrationPart, config: DecisionConfig
) -> _Answering:
    """The policy with thresholds (multilabel) or costs (multiclass, where asked for)."""
    space, target = part.label_space, _target_words(config)
    probabilities = calibrate(part.logits, policy, space.task)
    if space.task == "multilabel":
        if config.costs is not None:
            update = {"thresholds": tag_thresholds(config.costs, space), "target": target}
            note = "thresholds by the costs of missed and false tags"
            return _Answering(policy.model_copy(update=update), (note,))
        if not len(part):
            return _Answering(policy, ())
        fitted = fit_thresholds(part, probabilities, config)
        update = {"thresholds": fitted.thresholds, "target": target}
        return _Answering(policy.model_copy(update=update), fitted.notes, fitted.broken)
    if config.costs is not None:
        matrix = {"costs": cost_matrix(config.costs, space), "target": target}
        note = "the class with the least expected cost is named"
        return _Answering(policy.model_copy(update=matrix), (note,))
    if config.target == "f1" or not len(part):
        return _Answering(policy, ())
    found = costs_for_target(part, probabilities, config)
    matrix = {"costs": found.costs, "target": target}
    broken = () if found.kept else (found.note,)
    return _Answering(policy.model_copy(update=matrix), (found.note,), broken)


def _target_words(config: DecisionConfig) -> str:
    if config.costs is not None:
        return "costs"
    if config.target == "f1":
        return "F1"
    of = f" of '{config.target_class}'" if config.target_class else ""
    return f"{config.target}{of} at least {config.target_value:g}"


def _abstention(
    part: CalibrationPart,
    config: DecisionConfig,
    adjustment: Adjustment | None,
    policy: DecisionPolicy,
) -> AbstentionFit | None:
    """The limit below which an answer is unsure; None where no risk was asked for."""
    if config.abstain_risk is None:
        return None
    # Of a picture with an unknown tag nobody can tell whether its answer is right.
    judged = (part.targets != UNKNOWN).reshape(len(part), -1).all(axis=1)
    part = part.select(np.flatnonzero(judged))
    confidence, wrong = _held_out_answers(part, config, adjustment, policy)
    fitted = fit_abstention(
        confidence,
        wrong,
        risk=config.abstain_risk,
        certainty=config.abstain_confidence,
        part=part.name,
    )
    if fitted.kept and part.name == "validation":
        return replace(fitted, note=f"{fitted.note} ({CHOSEN_ON})")
    return fitted


def _held_out_answers(
    part: CalibrationPart,
    config: DecisionConfig,
    adjustment: Adjustment | None,
    policy: DecisionPolicy,
) -> tuple[FloatVector, Flags]:
    """Confidence and mistakes by policies that have not seen the picture.

    What is fitted on the same pictures, a threshold a tag above all, would make their answers look
    better than those of new ones.
    """
    divisions = list(folds(part.groups))
    if not divisions:
        return _answers(part, policy)
    confidence, wrong = np.zeros(len(part)), np.zeros(len(part), bool)
    for rest, held in divisions:
        others = _answering(part.select(rest), config, adjustment).policy
        confidence[held], wrong[held] = _answers(part.select(held), others)
    return confidence, wrong


def _answers(part: CalibrationPart, policy: DecisionPolicy) -> tuple[FloatVector, Flags]:
    """The confidence of each answer, and whether it is wrong."""
    probabilities = calibrate(part.logits, policy, part.label_space.task)
    confidence = answer_confidence(probabilities, part.label_space, policy)
    return confidence, wrong_answers(probabilities, part.targets, part.label_space, policy)
