"""Decide: one row of probabilities -> what the classifier says."""

from __future__ import annotations

import numpy as np

from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray, Prediction, Scored
from taxon.decision.answers import answer_confidence, named_classes, named_tags
from taxon.decision.policy import DecisionPolicy
from taxon.decision.sets import prediction_sets
from taxon.decision.taxonomy import confident_path


def decide(
    path: str,
    probabilities: FloatArray,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    *,
    top: int = 5,
    scope: float | None = None,
) -> Prediction:
    """Apply the policy to one picture.

    Args:
        path: the picture's name in the answer.
        probabilities: float32 [C], calibrated.
        top: how many of the most probable classes to list.
        scope: how much the picture is like those of the training, where the model says it.
    """
    row, names = probabilities[None], label_space.names
    # A stable sort: of equal probabilities the earlier class comes first, everywhere.
    order = np.argsort(-probabilities, kind="stable")
    scored = tuple(
        Scored(label=names[position], probability=float(probabilities[position]))
        for position in order[:top]
    )
    if is_out_of_scope(scope, policy):
        return Prediction(path=path, out_of_scope=True, top=scored)
    confidence = float(answer_confidence(row, label_space, policy)[0])
    unsure = confidence < policy.abstain_below
    if label_space.task == "multilabel":
        tags = tuple(names[position] for position in np.flatnonzero(named_tags(row, policy)[0]))
        return Prediction(path=path, confidence=confidence, labels=tags, unsure=unsure, top=scored)
    named = named_classes(row, label_space, policy)
    label = names[named[0]]
    prediction_set = None
    if policy.sets is not None:
        inside = prediction_sets(row, named, policy.sets)[0]
        prediction_set = tuple(names[position] for position in order if inside[position])
    return Prediction(
        path=path,
        label=label,
        confidence=confidence,
        labels=(label,),
        unsure=unsure,
        prediction_set=prediction_set,
        taxonomy=confident_path(probabilities, label_space, policy.taxonomy_confidence),
        top=scored,
    )


def is_out_of_scope(scope: float | None, policy: DecisionPolicy) -> bool:
    """Whether a picture with this score is of something else than the model was trained on."""
    if policy.scope is None or scope is None:
        return False
    # Compared in float32, as the graph computes it.
    return bool(np.float32(scope) < np.float32(policy.scope.limit))
