"""Decide: one row of probabilities -> what the classifier says."""

from __future__ import annotations

import numpy as np

from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray, Prediction, Scored
from taxon.decision.policy import DecisionPolicy
from taxon.decision.taxonomy import confident_path, named_classes


def decide(
    path: str,
    probabilities: FloatArray,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    *,
    top: int = 5,
) -> Prediction:
    """Apply the policy to one picture.

    Args:
        path: the picture's name in the answer.
        probabilities: float32 [C], calibrated.
        top: how many of the most probable classes to list.
    """
    # A stable sort: of equal probabilities the earlier class comes first, everywhere.
    order = np.argsort(-probabilities, kind="stable")
    scored = tuple(
        Scored(label=label_space.names[position], probability=float(probabilities[position]))
        for position in order[:top]
    )
    if label_space.task == "multilabel":
        tags = np.flatnonzero(probabilities >= np.array(policy.thresholds, np.float32))
        return Prediction(
            path=path,
            confidence=float(probabilities[order[0]]),
            labels=tuple(label_space.names[position] for position in tags),
            top=scored,
        )
    named = int(named_classes(probabilities[None], label_space, policy.taxonomy_rule)[0])
    label, confidence = label_space.names[named], float(probabilities[named])
    return Prediction(
        path=path,
        label=label,
        confidence=confidence,
        labels=(label,),
        unsure=confidence < policy.abstain_below,
        taxonomy=confident_path(probabilities, label_space, policy.taxonomy_confidence),
        top=scored,
    )
