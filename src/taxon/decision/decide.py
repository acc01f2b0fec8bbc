"""Decide: one row of probabilities -> what the classifier says."""

from __future__ import annotations

import numpy as np

from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray, Prediction, Scored
from taxon.decision.policy import DecisionPolicy


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
    best = int(order[0])
    scored = tuple(
        Scored(label=label_space.names[position], probability=float(probabilities[position]))
        for position in order[:top]
    )
    confidence = float(probabilities[best])
    if label_space.task == "multilabel":
        named = np.flatnonzero(probabilities >= np.array(policy.thresholds, np.float32))
        return Prediction(
            path=path,
            confidence=confidence,
            labels=tuple(label_space.names[position] for position in named),
            top=scored,
        )
    label = label_space.names[best]
    return Prediction(
        path=path,
        label=label,
        confidence=confidence,
        labels=(label,),
        unsure=confidence < policy.abstain_below,
        taxonomy=_confident_path(probabilities, label_space, policy.taxonomy_confidence),
        top=scored,
    )


def _confident_path(
    probabilities: FloatArray, label_space: LabelSpace, confidence: float
) -> tuple[str, ...]:
    """From coarse to fine, the most probable node of each level while it is confident enough.

    A node's probability is the sum of its classes', so no child outranks its parent.
    """
    if not label_space.is_taxonomy:
        return ()
    path: tuple[str, ...] = ()
    for level in range(label_space.depth):
        nodes, positions = label_space.level(level)
        sums = np.bincount(positions, weights=probabilities, minlength=len(nodes))
        # Only below the node that was chosen one level up: a path does not change branches.
        below = [i for i, node in enumerate(nodes) if label_space.path(node)[:level] == path]
        best = max(below, key=lambda i: sums[i], default=None)
        if best is None or sums[best] < confidence:
            break
        path = label_space.path(nodes[best])
    return path
