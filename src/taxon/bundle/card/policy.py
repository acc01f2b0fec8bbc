"""The decision policy in words: how probabilities become an answer."""

from __future__ import annotations

from taxon.bundle.card.tables import SHOWN_CLASSES, code, prose, table
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.decision.policy import ALWAYS_UNSURE

_SHOWN_COSTS = 10
_SCOPES = {
    "energy": "the energy of its logits (Liu et al. 2020)",
    "nearest": "how near it is to a training picture in feature space (Sun et al. 2022)",
    "both": "the energy of its logits (Liu et al. 2020) and how near it is to a training picture "
    "in feature space (Sun et al. 2022)",
}
_SETS = {
    "lac": "the classes that are probable enough (LAC, Sadinle et al. 2019)",
    "raps": "the most probable classes, more of them for a harder picture (RAPS, Angelopoulos et "
    "al. 2021)",
}


def policy_lines(policy: DecisionPolicy, label_space: LabelSpace) -> list[str]:
    """Return the lines of Markdown on what the model answers, `decision.json` in words."""
    fitted = (
        f"What follows was fitted on the {policy.fitted_on} part, on which the network was not "
        "trained."
        if policy.fitted_on != "defaults"
        else "Nothing of it was fitted: these are the defaults."
    )
    points = [
        _calibration(policy, label_space),
        _choice(policy, label_space),
        _abstention(policy),
        _sets(policy),
        _scope(policy),
    ]
    if label_space.is_taxonomy:
        points.append(
            "**Path.** An answer over the taxonomy goes down to the deepest node with a "
            f"probability of at least {policy.taxonomy_confidence:g}."
        )
    tables = [*_thresholds(policy, label_space), *_costs(policy, label_space)]
    return [fitted, "", *(f"- {point}" for point in points if point), *tables]


def _calibration(policy: DecisionPolicy, label_space: LabelSpace) -> str:
    squash = "sigmoid" if label_space.task == "multilabel" else "softmax"
    begin = "**Probabilities.** "
    if policy.temperature == 1.0:
        return f"{begin}The {squash} of the logits as they were trained, at temperature 1."
    if policy.temperature is not None:
        return (
            f"{begin}Logits are divided by a temperature of {policy.temperature:.2f} before the "
            f"{squash} (Guo et al. 2017)."
        )
    return (
        f"{begin}Logits are multiplied by a scale and get a bias, for each class, before the "
        f"{squash}; `decision.json` holds them."
    )


def _choice(policy: DecisionPolicy, label_space: LabelSpace) -> str:
    begin = "**Answer.** "
    if label_space.task == "multilabel":
        # `recall of 'crack' at least 0.9` is asked of one tag.
        others = "; those of the other tags for F1" if " of '" in policy.target else ""
        return (
            f"{begin}Every tag whose probability reaches its threshold; thresholds were chosen for "
            f"{prose(policy.target)}{others}."
        )
    if policy.costs is not None:
        chosen = "" if policy.target == "costs" else f", chosen for {prose(policy.target)}"
        return (
            f"{begin}The class with the least expected cost (Elkan 2001), by the costs "
            f"below{chosen}."
        )
    if policy.taxonomy_rule == "least-risk" and label_space.is_taxonomy:
        return (
            f"{begin}The class whose mistakes are expected to be the nearest in the taxonomy "
            "(Karthik et al. 2021), which need not be the most probable one."
        )
    return f"{begin}The most probable class."


def _abstention(policy: DecisionPolicy) -> str:
    if policy.abstain_below == 0.0:
        return "**Abstention.** None: no answer is marked unsure."
    if policy.abstain_below == ALWAYS_UNSURE:
        return (
            "**Abstention.** Every answer is marked `unsure`: the risk that was asked for could "
            "not be promised."
        )
    return (
        f"**Abstention.** An answer with a confidence below {policy.abstain_below:.3f} is marked "
        "`unsure`: somebody should look at the picture."
    )


def _sets(policy: DecisionPolicy) -> str:
    if policy.sets is None:
        return ""
    whom = "for every class" if len(policy.sets.limits) > 1 else "over all pictures"
    return (
        f"**Prediction sets.** Beside its answer the model gives {_SETS[policy.sets.method]}, so "
        f"that the true one is among them for {100 * policy.sets.coverage:g} % of the pictures, "
        f"{whom}."
    )


def _scope(policy: DecisionPolicy) -> str:
    if policy.scope is None:
        return "**Out of scope.** Not looked for."
    return (
        "**Out of scope.** A picture of something else gets `out_of_scope` for an answer, told by "
        f"{_SCOPES[policy.scope.method]}; so do {100 * (1 - policy.scope.in_scope_share):.1f} % of "
        "the pictures that are in scope."
    )


def _thresholds(policy: DecisionPolicy, label_space: LabelSpace) -> list[str]:
    if label_space.task != "multilabel":
        return []
    if len(label_space.names) > SHOWN_CLASSES:
        return ["", "The thresholds of the tags are in `decision.json`."]
    rows = [
        [code(name), f"{threshold:.3f}"]
        for name, threshold in zip(label_space.names, policy.thresholds, strict=True)
    ]
    return ["", *table(["Tag", "Named from"], rows)]


def _costs(policy: DecisionPolicy, label_space: LabelSpace) -> list[str]:
    if policy.costs is None:
        return []
    if len(label_space.names) > _SHOWN_COSTS:
        return ["", "The costs are in `decision.json`."]
    rows = [
        [code(name), *(f"{cost:g}" for cost in costs)]
        for name, costs in zip(label_space.names, policy.costs, strict=True)
    ]
    header = ["True class, named as", *(code(name) for name in label_space.names)]
    return ["", *table(header, rows)]
