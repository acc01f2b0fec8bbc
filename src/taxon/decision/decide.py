"""Decide: one row of probabilities -> what the classifier says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
    marks = mark(row, None if scope is None else np.array([scope]), label_space, policy)
    if marks.out_of_scope[0]:
        return Prediction(path=path, out_of_scope=True, top=scored)
    confidence, unsure = float(marks.confidence[0]), bool(marks.unsure[0])
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


@dataclass(frozen=True)
class Marks:
    """What the policy says of answers beside their names.

    Attributes:
        confidence: float64 [N], 0 to 1, also of pictures out of scope.
        out_of_scope: bool [N]; these pictures are not named.
        unsure: bool [N], never of a picture out of scope.
    """

    confidence: npt.NDArray[np.float64]
    out_of_scope: npt.NDArray[np.bool_]
    unsure: npt.NDArray[np.bool_]


def mark(
    probabilities: npt.NDArray[np.floating[Any]],
    scope: npt.NDArray[np.floating[Any]] | None,
    label_space: LabelSpace,
    policy: DecisionPolicy,
) -> Marks:
    """Say which answers are unsure and which pictures out of scope; the same for one and many.

    Args:
        probabilities: [N, C], calibrated.
        scope: [N], how much pictures are like those of the training, where the model says it.
    """
    confidence = answer_confidence(probabilities, label_space, policy)
    flagged = np.zeros(len(probabilities), bool)
    if policy.scope is not None and scope is not None:
        # Compared in float32, as the graph computes it.
        flagged = np.asarray(scope.astype(np.float32) < np.float32(policy.scope.limit))
    return Marks(confidence, flagged, (confidence < policy.abstain_below) & ~flagged)
