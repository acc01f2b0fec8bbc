"""The pictures to look at first: confident mistakes, doubtful hits, labels that look wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import named_classes, named_tags

MISTAKES = 60
HITS = 24
LABEL_ERRORS = 24
# Of clean photos, most pictures whose own label has a higher probability than this are merely hard.
DOUBTFUL = 0.1

Targets = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """One picture with what it is and what the classifier said of it.

    Attributes:
        id: the picture's.
        truth: what it is (multilabel: the class in question, with "not" where it is absent).
        answer: what the classifier said.
        confidence: in what it said, 0 to 1.
        column: the position of the class that the answer is about.
        cell: `ROW-COLUMN` in the confusion matrix, or empty (multilabel).
        own: of a label that looks wrong: the probability of that label.
    """

    id: str
    truth: str
    answer: str
    confidence: float
    column: int
    cell: str = ""
    own: float | None = None


def confident_mistakes(
    table: PredictionTable, targets: Targets, label_space: LabelSpace, policy: DecisionPolicy
) -> list[Shown]:
    """Return at most 60 wrong answers, the most confident first; multilabel: each wrong yes or no.

    Args:
        targets: int64 [N] or [N, C].
    """
    if label_space.task == "multiclass":
        predicted, confidence = class_answers(table, label_space, policy)
        wrong = np.flatnonzero(predicted != targets)
        order = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
        return [shown_class(table, targets, predicted, row) for row in order.tolist()]
    named = named_tags(table.probabilities, policy)
    certainty = np.where(named, table.probabilities, 1.0 - table.probabilities)
    rows, columns = np.nonzero((named != (targets == 1)) & (targets != UNKNOWN))
    order = np.argsort(-certainty[rows, columns], kind="stable")[:MISTAKES]
    return [
        _shown_tag(table, targets, named, row, column)
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    ]


def count_mistakes(
    table: PredictionTable, targets: Targets, label_space: LabelSpace, policy: DecisionPolicy
) -> int:
    """Return how many answers are wrong; multilabel: how many known yes and no are."""
    if label_space.task == "multiclass":
        return int((class_answers(table, label_space, policy)[0] != targets).sum())
    named = named_tags(table.probabilities, policy)
    return int(((named != (targets == 1)) & (targets != UNKNOWN)).sum())


def doubtful_hits(
    table: PredictionTable, targets: Targets, label_space: LabelSpace, policy: DecisionPolicy
) -> list[Shown]:
    """Return at most 24 right answers, the least confident first; multilabel: tags rightly named.

    Args:
        targets: int64 [N] or [N, C].
    """
    if label_space.task == "multiclass":
        predicted, confidence = class_answers(table, label_space, policy)
        right = np.flatnonzero(predicted == targets)
        order = right[np.argsort(confidence[right], kind="stable")][:HITS]
        return [shown_class(table, targets, predicted, row) for row in order.tolist()]
    named = named_tags(table.probabilities, policy)
    rows, columns = np.nonzero(named & (targets == 1))
    order = np.argsort(table.probabilities[rows, columns], kind="stable")[:HITS]
    return [
        _shown_tag(table, targets, named, row, column)
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    ]


def label_errors(
    table: PredictionTable, targets: Targets, label_space: LabelSpace, policy: DecisionPolicy
) -> list[Shown]:
    """Return at most 24 labels that look wrong, the most doubtful first.

    By cleanlab's label quality score (Northcutt et al. 2021; Kuan & Mueller 2022): the normalised
    margin, adjusted by each class's mean confidence, among pictures whose own label has at most
    10 % probability. The model must not have been trained on the pictures.

    Args:
        targets: int64 [N] or [N, C].
    """
    if label_space.task == "multilabel":
        return _tag_errors(table, targets, policy)
    quality = _label_quality(targets, table.probabilities.astype(np.float64))
    own = table.probabilities[np.arange(len(table)), targets]
    predicted, _ = class_answers(table, label_space, policy)
    doubtful = np.flatnonzero((own <= DOUBTFUL) & (predicted != targets))
    order = doubtful[np.argsort(quality[doubtful], kind="stable")][:LABEL_ERRORS]
    return [
        shown_class(table, targets, predicted, row, own=float(own[row])) for row in order.tolist()
    ]


def _tag_errors(table: PredictionTable, targets: Targets, policy: DecisionPolicy) -> list[Shown]:
    """The same for each tag, as a choice between yes and no, where it is known."""
    named = named_tags(table.probabilities, policy)
    found: list[tuple[float, int, int, float]] = []
    for column in range(len(table.names)):
        known = np.flatnonzero(targets[:, column] != UNKNOWN)
        given = targets[known, column]
        if len(np.unique(given)) < 2:
            continue
        yes = table.probabilities[known, column].astype(np.float64)
        quality = _label_quality(given, np.stack([1 - yes, yes], axis=1))
        own = np.where(given == 1, yes, 1 - yes)
        contradicted = (own <= DOUBTFUL) & (named[known, column] != (given == 1))
        found += [
            (float(quality[place]), int(known[place]), column, float(own[place]))
            for place in np.flatnonzero(contradicted)
        ]
    return [
        _shown_tag(table, targets, named, row, column, own=own)
        for _, row, column, own in sorted(found)[:LABEL_ERRORS]
    ]


def _label_quality(given: Targets, probabilities: Floats) -> Floats:
    from cleanlab.rank import get_label_quality_scores

    # The adjustment needs pictures of every class.
    complete = len(np.unique(given)) == probabilities.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab's, on classes that are rare
        scores = get_label_quality_scores(
            given,
            np.clip(probabilities, 1e-9, None),
            method="normalized_margin",
            adjust_pred_probs=complete,
        )
    return np.asarray(scores, np.float64)


def class_answers(
    table: PredictionTable, label_space: LabelSpace, policy: DecisionPolicy
) -> tuple[Targets, npt.NDArray[np.float32]]:
    """The named classes and their probabilities, [N] each."""
    predicted = named_classes(table.probabilities, label_space, policy)
    return predicted, table.probabilities[np.arange(len(table)), predicted]


def shown_class(
    table: PredictionTable,
    targets: Targets,
    predicted: Targets,
    row: int,
    own: float | None = None,
) -> Shown:
    truth, said = int(targets[row]), int(predicted[row])
    return Shown(
        id=table.ids[row],
        truth=table.names[truth],
        answer=table.names[said],
        confidence=float(table.probabilities[row, said]),
        column=said,
        cell=f"{truth}-{said}",
        own=own,
    )


def _shown_tag(
    table: PredictionTable,
    targets: Targets,
    named: npt.NDArray[np.bool_],
    row: int,
    column: int,
    own: float | None = None,
) -> Shown:
    name, probability = table.names[column], float(table.probabilities[row, column])
    said = bool(named[row, column])
    return Shown(
        id=table.ids[row],
        truth=name if targets[row, column] == 1 else f"not {name}",
        answer=name if said else f"not {name}",
        confidence=probability if said else 1.0 - probability,
        column=column,
        own=own,
    )
