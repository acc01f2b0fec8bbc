"""Fit the decision policy on the calibration part, which the test never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.answers import answer_confidence, wrong_answers
from taxon.decision.fitting.abstention import fit_abstention
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
from taxon.decision.policy import DecisionPolicy, FloatVector, calibrate

ADJUSTED = (
    "logits are adjusted by class frequency: the probabilities hold for pictures among which all "
    "classes are equally frequent, and the share of right answers will differ from them where "
    "they are not"
)

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
    if not len(part):
        policy = _start(config, part)
        policy = policy if logit_adjustment is None else policy.with_bias(logit_adjustment)
        return PolicyFit(policy, ("no pictures to calibrate on: probabilities are as trained",))
    policy, notes = _answering(part, config, logit_adjustment)
    probabilities = calibrate(part.logits, policy, space.task)
    policy, found, broken = _with_abstention(policy, part, config, logit_adjustment)
    notes = (*notes, *found)
    if space.task == "multiclass":
        sets = fit_sets(part, probabilities, config)
        policy = policy.model_copy(update={"sets": sets.sets})
        notes = (*notes, *sets.notes)
    scope = fit_scope(part, evidence, config)
    policy = policy.model_copy(update={"scope": scope.scope})
    return PolicyFit(policy, (*notes, *scope.notes), scope.bank, broken)


def _start(config: DecisionConfig, part: CalibrationPart) -> DecisionPolicy:
    rules = {
        "taxonomy_rule": config.taxonomy_rule,
        "taxonomy_confidence": config.taxonomy_confidence,
    }
    return DecisionPolicy.default(part.label_space).model_copy(update=rules)


def _answering(
    part: CalibrationPart, config: DecisionConfig, adjustment: Adjustment | None
) -> tuple[DecisionPolicy, tuple[str, ...]]:
    """The policy with all that an answer's name depends on, and sentences."""
    fitted = _calibration(part, config)
    notes, bias = fitted.notes, np.array(fitted.bias)
    if adjustment is not None:
        bias = bias + np.asarray(adjustment, np.float64)
        notes = (*notes, ADJUSTED)
    update = {"scale": fitted.scale, "fitted_on": part.name}
    policy = _start(config, part).model_copy(update=update).with_bias(bias)
    probabilities = calibrate(part.logits, policy, part.label_space.task)
    policy, found = _with_answers(policy, part, probabilities, config)
    return policy, (*notes, *found)


def _calibration(part: CalibrationPart, config: DecisionConfig) -> CalibrationFit:
    if not config.calibrate:
        return unchanged(part)
    if part.label_space.task == "multilabel":
        return fit_platt(part, config.threshold_support)
    return fit_temperature(part)


def _with_answers(
    policy: DecisionPolicy,
    part: CalibrationPart,
    probabilities: FloatArray,
    config: DecisionConfig,
) -> tuple[DecisionPolicy, tuple[str, ...]]:
    """The policy with thresholds (multilabel) or costs (multiclass, where asked for)."""
    space = part.label_space
    target = _target_words(config)
    if space.task == "multilabel":
        if config.costs is not None:
            thresholds = tag_thresholds(config.costs, space)
            notes: tuple[str, ...] = ("thresholds by the costs of missed and false tags",)
        else:
            fitted = fit_thresholds(part, probabilities, config)
            thresholds, notes = fitted.thresholds, fitted.notes
        return policy.model_copy(update={"thresholds": thresholds, "target": target}), notes
    if config.costs is not None:
        costs = cost_matrix(config.costs, space)
        update = {"costs": costs, "target": target}
        return policy.model_copy(update=update), (
            "the class with the least expected cost is named",
        )
    if config.target != "f1":
        costs, note = costs_for_target(part, probabilities, config)
        return policy.model_copy(update={"costs": costs, "target": target}), (note,)
    return policy, ()


def _target_words(config: DecisionConfig) -> str:
    if config.costs is not None:
        return "costs"
    if config.target == "f1":
        return "F1"
    of = f" of '{config.target_class}'" if config.target_class else ""
    return f"{config.target}{of} at least {config.target_value:g}"


def _with_abstention(
    policy: DecisionPolicy,
    part: CalibrationPart,
    config: DecisionConfig,
    adjustment: Adjustment | None,
) -> tuple[DecisionPolicy, tuple[str, ...], tuple[str, ...]]:
    """The policy with its limit; sentences; and promises that cannot be kept."""
    if config.abstain_risk is None:
        return policy, (), ()
    # Of a picture with an unknown tag nobody can tell whether its answer is right.
    judged = (part.targets != UNKNOWN).reshape(len(part), -1).all(axis=1)
    part = part.select(np.flatnonzero(judged))
    if part.label_space.task == "multilabel" and config.costs is None:
        confidence, wrong = _held_out_answers(part, config, adjustment)
    else:
        confidence, wrong = _answers(part, policy)
    fitted = fit_abstention(
        confidence,
        wrong,
        risk=config.abstain_risk,
        certainty=config.abstain_confidence,
        part=part.name,
    )
    notes = [fitted.note]
    if len(np.unique(part.groups)) < len(part):
        notes.append("that bound takes pictures for independent, and some are of one group")
    policy = policy.model_copy(update={"abstain_below": fitted.abstain_below})
    return policy, tuple(notes), () if fitted.kept else (fitted.note,)


def _held_out_answers(
    part: CalibrationPart, config: DecisionConfig, adjustment: Adjustment | None
) -> tuple[FloatVector, Flags]:
    """Confidence and mistakes by policies that have not seen the picture.

    A threshold a tag, fitted on the same pictures, would make their answers look better than
    those of new ones.
    """
    divisions = list(folds(part.groups))
    if not divisions:
        return _answers(part, _answering(part, config, adjustment)[0])
    confidence, wrong = np.zeros(len(part)), np.zeros(len(part), bool)
    for rest, held in divisions:
        policy, _ = _answering(part.select(rest), config, adjustment)
        confidence[held], wrong[held] = _answers(part.select(held), policy)
    return confidence, wrong


def _answers(part: CalibrationPart, policy: DecisionPolicy) -> tuple[FloatVector, Flags]:
    """The confidence of each answer, and whether it is wrong."""
    probabilities = calibrate(part.logits, policy, part.label_space.task)
    confidence = answer_confidence(probabilities, part.label_space, policy)
    return confidence, wrong_answers(probabilities, part.targets, part.label_space, policy)
