"""Which class a multiclass answer names, which tags a multilabel one, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.decision.policy import DecisionPolicy

Probabilities = npt.NDArray[np.floating[Any]]


def answer_scores(
    probabilities: Probabilities, label_space: LabelSpace, policy: DecisionPolicy
) -> Probabilities:
    """Return by what a multiclass answer is chosen, [N, C]; the highest is named.

    The probabilities; or with costs (Elkan 2001, "The Foundations of Cost-Sensitive Learning") the
    expected cost below 0; or with `least-risk` (Karthik et al. 2021, "No Cost Likelihood
    Manipulation at Test Time for Making Better Mistakes in Deep Networks") how close a class is
    expected to be to the true one, so that the class is named whose lowest common ancestor with
    the truth has the least expected height.

    Args:
        probabilities: [N, C]; rows sum to 1.
    """
    if policy.costs is not None:
        return -(probabilities.astype(np.float64) @ np.array(policy.costs, np.float64))
    if policy.taxonomy_rule == "most-probable" or not label_space.is_taxonomy:
        return probabilities
    return label_space.tree.closeness(probabilities)


def named_classes(
    probabilities: Probabilities, label_space: LabelSpace, policy: DecisionPolicy
) -> npt.NDArray[np.int64]:
    """Return the class that a multiclass answer names, int64 [N]; of equal ones the earlier.

    Args:
        probabilities: [N, C]; rows sum to 1.
    """
    scores = answer_scores(probabilities, label_space, policy)
    return np.asarray(scores.argmax(axis=1), np.int64)


def named_tags(probabilities: Probabilities, policy: DecisionPolicy) -> npt.NDArray[np.bool_]:
    """Return which tags a multilabel answer names, bool [N, C]: from their thresholds on."""
    return np.asarray(probabilities >= np.array(policy.thresholds, np.float32))


def answer_confidence(
    probabilities: Probabilities, label_space: LabelSpace, policy: DecisionPolicy
) -> npt.NDArray[np.float64]:
    """Return how probable it is that the answer is right, float64 [N], 0 to 1.

    Multiclass: the probability of the named class. Multilabel: that every yes and every no is
    right, as if tags were independent.

    Args:
        probabilities: [N, C], calibrated.
    """
    exact = probabilities.astype(np.float64)
    if label_space.task == "multilabel":
        return np.asarray(
            np.where(named_tags(probabilities, policy), exact, 1 - exact).prod(axis=1)
        )
    named = named_classes(probabilities, label_space, policy)
    return np.asarray(exact[np.arange(len(exact)), named])


def wrong_answers(
    probabilities: Probabilities,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    policy: DecisionPolicy,
) -> npt.NDArray[np.bool_]:
    """Return whether each answer is wrong, bool [N]: of several tags, any that is known.

    Args:
        probabilities: [N, C], calibrated.
        targets: int64 [N] (multiclass), or [N, C] of 0, 1 and -1, which is unknown (multilabel).
    """
    if label_space.task == "multilabel":
        differs = named_tags(probabilities, policy) != (targets == 1)
        return np.asarray((differs & (targets != UNKNOWN)).any(axis=1))
    return np.asarray(named_classes(probabilities, label_space, policy) != targets)
