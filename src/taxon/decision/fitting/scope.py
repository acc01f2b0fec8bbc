"""Fit the out-of-scope score: which one, by a leave-class-out test, and from where it flags."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig
from taxon.core.predictions import FloatArray, ScopeMethod
from taxon.decision.fitting.part import CalibrationPart
from taxon.decision.policy import Scope
from taxon.decision.scope import energy, nearest_similarity, scope_scores, unit_rows

METHODS: tuple[ScopeMethod, ...] = ("both", "energy", "nearest")
FEWEST_PICTURES = 20
# The test stays within seconds: so many classes are left out, and heads see so many directions.
MOST_LEFT_OUT = 10
DIRECTIONS = 64
REGULARISATION = 0.1
# Of similarities from -1 to 1 and of energies alike: float32 has six digits more.
SMALLEST_DEVIATION = 1e-4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScopeEvidence:
    """What the score is fitted on beside the logits.

    Attributes:
        features: float32 [N, F], of the calibration part, as the head gets them.
        bank: float32 [M, F], of training pictures.
        bank_targets: int64 [M] (multiclass), or [M, C] (multilabel).
    """

    features: FloatArray
    bank: FloatArray
    bank_targets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScopeFit:
    """The fitted scope and its bank (rows of length 1), None where there is none; sentences."""

    scope: Scope | None
    bank: FloatArray | None
    notes: tuple[str, ...]


def fit_scope(
    part: CalibrationPart, evidence: ScopeEvidence | None, config: DecisionConfig
) -> ScopeFit:
    """Choose the score and its limit."""
    if config.out_of_scope == "none":
        return ScopeFit(None, None, ())
    if len(part) < FEWEST_PICTURES:
        few = f"{part.name} has {len(part)} pictures, at least {FEWEST_PICTURES} are needed"
        return _no_scope(few)
    if evidence is None:
        return _no_scope("there is no training picture to compare with")
    method, words = _choose(part, evidence, config)
    bank = unit_rows(evidence.bank).astype(np.float32)
    task = part.label_space.task
    moments = (
        None if method == "nearest" else _moments(energy(part.logits, task)),
        None if method == "energy" else _moments(nearest_similarity(evidence.features, bank)),
    )
    if any(pair is not None and pair[1] < SMALLEST_DEVIATION for pair in moments):
        # Divided by so little, the last bits of a runtime would decide.
        return _no_scope("its score is the same for all pictures")
    scope = Scope(
        method=method,
        energy=moments[0],
        nearest=moments[1],
        limit=0.0,
        in_scope_share=config.in_scope_share,
    )
    scores = np.sort(scope_scores(part.logits, evidence.features, bank, scope, task))
    # Split conformal prediction: a new picture like these is below the k-th smallest score with
    # a chance of at most k / (n + 1).
    rank = max(1, math.floor((1 - config.in_scope_share) * (len(scores) + 1) + 1e-9))
    share = 1 - rank / (len(scores) + 1)
    scope = scope.model_copy(update={"limit": float(scores[rank - 1]), "in_scope_share": share})
    notes = [
        f"out of scope by {_WORDS[method]}{words}; {1 - share:.1%} of pictures like those of "
        f"{part.name} are flagged by mistake"
    ]
    if share < config.in_scope_share - 1e-9:
        notes.append(
            f"with {len(part)} pictures no lower share of mistaken flags can be promised than "
            f"{1 - share:.1%} (asked for: {1 - config.in_scope_share:.1%})"
        )
    if method != "energy" and (missing := _not_in_bank(part, evidence)):
        notes.append(
            f"{missing} classes have no picture among the {len(bank)} that new ones are compared "
            "with: more of theirs are flagged"
        )
    return ScopeFit(scope, None if method == "energy" else bank, tuple(notes))


def _no_scope(reason: str) -> ScopeFit:
    return ScopeFit(None, None, (f"pictures out of scope are not flagged: {reason}",))


def _not_in_bank(part: CalibrationPart, evidence: ScopeEvidence) -> int:
    """How many classes no picture of the bank has."""
    targets = evidence.bank_targets
    if targets.ndim == 2:
        return int((~(targets == 1).any(axis=0)).sum())
    return len(part.label_space.names) - len(np.unique(targets))


_WORDS = {
    "energy": "the energy of the logits",
    "nearest": "the nearest training picture",
    "both": "the energy of the logits and the nearest training picture",
}


def _moments(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std())


def _choose(
    part: CalibrationPart, evidence: ScopeEvidence, config: DecisionConfig
) -> tuple[ScopeMethod, str]:
    """The method, and why, in words."""
    if config.out_of_scope in METHODS:
        return config.out_of_scope, ""
    if part.label_space.task == "multilabel":
        return "nearest", " (of several tags a picture no class can be left out)"
    found = list(leave_class_out(part, evidence))
    if not found:
        return "both", " (too few classes to leave some out)"
    rows = np.array(found)
    means = rows.mean(axis=0)
    best = int(means.argmax())
    # One alone can fail badly where the two together do not: it must be better beyond chance.
    gains = rows[:, best] - rows[:, 0]
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    chosen = best if means[best] - means[0] > 2 * error else 0
    figures = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(METHODS, means, strict=True))
    return METHODS[chosen], f" (AUC-ROC over {len(rows)} left-out classes: {figures})"


def leave_class_out(part: CalibrationPart, evidence: ScopeEvidence) -> Iterator[Floats]:
    """Yield, for each class left out, the AUC-ROC of each of `METHODS`, float64 [3].

    The bank loses the class, and a logistic head is fitted anew without it: the trained head has
    learned that these pictures are none of the others, which nobody tells it of pictures of
    something else, and would make the energy look much better than it is. Of a taxonomy, whole
    branches are left out.

    Args:
        part: multiclass.
    """
    from sklearn.metrics import roc_auc_score

    of_class = part.label_space.tree.levels[0].node_of_class
    own, bank_own = of_class[part.targets], of_class[evidence.bank_targets]
    nodes = [node for node in np.unique(own) if 0 < (own == node).sum() < len(own)]
    bank = unit_rows(evidence.bank)
    directions, bank_directions = _principal(evidence)
    step = max(1, len(nodes) // MOST_LEFT_OUT)
    for node in nodes[::step][:MOST_LEFT_OUT]:
        inside, kept = own != node, bank_own != node
        targets = evidence.bank_targets[kept]
        if len(np.unique(targets)) < 2:
            continue
        logits = _head_logits(bank_directions[kept], targets, directions)
        parts = (energy(logits, "multiclass"), nearest_similarity(evidence.features, bank[kept]))
        both = sum((each - each[inside].mean()) / max(each[inside].std(), 1e-6) for each in parts)
        yield np.array([roc_auc_score(inside, each) for each in (both, *parts)])


def _principal(evidence: ScopeEvidence) -> tuple[Floats, Floats]:
    """The features of part and bank along the bank's main directions, of a common scale."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(DIRECTIONS, *evidence.bank.shape)
    reduce = make_pipeline(StandardScaler(), PCA(count, svd_solver="full"))
    bank = reduce.fit_transform(evidence.bank.astype(np.float64))
    scale = max(float(bank.std()), 1e-12)
    return reduce.transform(evidence.features.astype(np.float64)) / scale, bank / scale


def _head_logits(rows: Floats, targets: npt.NDArray[np.int64], asked: Floats) -> Floats:
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=REGULARISATION, max_iter=300).fit(rows, targets)
    scores = np.asarray(head.decision_function(asked))
    # Of two classes scikit-learn gives one logit, of the second against the first.
    return np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores
