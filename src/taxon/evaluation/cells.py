"""Pictures for the cells of the confusion matrix, within the budget of the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation.gallery import Shown, Targets, class_answers, shown_class

WRONG = 6  # pictures of a cell off the diagonal, at most
RIGHT = 4
NEW_PICTURES = 400  # beyond those of the galleries; each is decoded for the page


def cell_pictures(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    shown: Sequence[int],
) -> list[Shown]:
    """Return the pictures to show, the most needed first.

    One of every wrong cell, the fullest cell first, then one of every right cell, then a second
    one of each, and so on. In a wrong cell the most confident come first; on the diagonal the
    least and the most confident in turn.

    Args:
        targets: int64 [N].
        shown: positions of the classes that the matrix shows.
    """
    predicted, confidence = class_answers(table, label_space, policy)
    rows_of: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for row in np.argsort(-confidence, kind="stable").tolist():
        rows_of[int(targets[row]), int(predicted[row])].append(row)
    inside = set(shown)
    cells = sorted(
        (cell for cell in rows_of if inside.issuperset(cell)),
        key=lambda cell: (cell[0] == cell[1], -len(rows_of[cell]), cell),
    )
    chosen = [
        _from_both_ends(rows_of[cell])[:RIGHT] if cell[0] == cell[1] else rows_of[cell][:WRONG]
        for cell in cells
    ]
    turns = chain.from_iterable(zip_longest(*chosen))
    return [shown_class(table, targets, predicted, row) for row in turns if row is not None]


def _from_both_ends(rows: list[int]) -> list[int]:
    """The last, the first, the last but one, ... each once."""
    pairs = zip(reversed(rows), rows, strict=True)
    return list(dict.fromkeys(chain.from_iterable(pairs)))
