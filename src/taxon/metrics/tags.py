"""Figures that only a task with several labels a picture has.

What is unknown counts nowhere: the Hamming loss goes over what is known, the ranking over the known
tags of each picture, and the exact match over the pictures all of whose tags are known, since of
the others nobody can say that everything is right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.labels import UNKNOWN
from taxon.core.text import counted
from taxon.metrics.figure import NOTHING_KNOWN, Figure, undefined
from taxon.metrics.indicator import IntArray, Scores, indicator, known_shares, require_pictures

FloatArray = npt.NDArray[np.float64]


def row_wrong_shares(targets: IntArray, named: sparse.csr_matrix) -> FloatArray:
    """Return each picture's share of the Hamming loss, float64 [N]: wrong decisions, divided by C.

    Args:
        targets: int64 [N, C] of 0, 1 and -1 (unknown).
        named: indicator matrix [N, C] of the answers, 0 where it is unknown.
    """
    differing = abs(indicator(targets, targets.shape[1]) - named)
    return np.asarray(differing.sum(axis=1).ravel() / targets.shape[1], np.float64).ravel()


def hamming_loss(targets: IntArray, named: sparse.csr_matrix) -> Figure:
    """Return the share of all known yes and no that is answered wrongly, 0 (perfect) to 1.

    Arguments as `row_wrong_shares`.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    known = known_shares(targets)
    if not known.any():
        return undefined(NOTHING_KNOWN)
    return Figure.of(row_wrong_shares(targets, named).sum() / known.sum())


def exact_match(targets: IntArray, named: sparse.csr_matrix) -> Figure:
    """Return the share of pictures with every tag right (subset accuracy), 0 to 1.

    Over the pictures all of whose tags are known. Arguments as `row_wrong_shares`.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    complete = known_shares(targets) == 1.0
    if not complete.any():
        return undefined("of no picture all tags are known")
    right = row_wrong_shares(targets, named)[complete] == 0
    return Figure.of(right.mean(), _part_of(complete, "of the others some tags are unknown"))


def row_label_rankings(targets: IntArray, probabilities: Scores) -> FloatArray:
    """Return each picture's label-ranking average precision, float64 [N]; see
    `label_ranking_average_precision`. NaN where there is nothing to rank.

    Args:
        targets: int64 [N, C] of 0, 1 and -1 (unknown).
        probabilities: [N, C].
    """
    known, positive = targets != UNKNOWN, targets == 1
    totals = np.zeros(len(targets))
    for position in range(targets.shape[1]):
        rows = np.flatnonzero(positive[:, position])
        ahead = probabilities[rows] >= probabilities[rows, position][:, None]
        rank = (ahead & known[rows]).sum(axis=1)
        totals[rows] += (ahead & positive[rows]).sum(axis=1) / rank
    tags = positive.sum(axis=1)
    rankable = (tags > 0) & (tags < known.sum(axis=1))
    return np.where(rankable, totals / np.maximum(tags, 1), np.nan)


def label_ranking_average_precision(targets: IntArray, probabilities: Scores) -> Figure:
    """Return the label-ranking average precision (Tsoumakas et al. 2010), above 0 to 1.

    For each tag of a picture, the share of the tags ranked at least as high that the picture has
    too; mean over its tags, then over pictures. Of a picture that has all of its known tags, or
    none, any ranking is right: it is left out, where scikit-learn counts 1.

    Arguments as `row_label_rankings`.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    rankings = row_label_rankings(targets, probabilities)
    defined = np.isfinite(rankings)
    if not defined.any():
        return undefined("every picture has all of its known tags, or none")
    note = _part_of(defined, "the others have all of their known tags, or none")
    return Figure.of(rankings[defined].mean(), note)


def _part_of(rows: npt.NDArray[np.bool_], others: str) -> str | None:
    """Say over how many pictures a figure was taken, where it was not all."""
    if rows.all():
        return None
    return f"over {counted(int(rows.sum()), 'picture', 'pictures')} of {len(rows):,}; {others}"
