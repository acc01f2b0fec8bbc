"""How well a score tells two sets apart: AUC, its interval, and whether it can be chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from taxon.auditing.evidence import BoolArray, IntArray

SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class Separation:
    """How well a score tells some pictures from the others.

    Attributes:
        auc: 0 to 1; 0.5 is guessing.
        low, high: 95 % interval (Hanley and McNeil 1982).
        sure: not to be had by chance at the level of 1 %, corrected for all that was tried
            (Bonferroni).
    """

    auc: float
    low: float
    high: float
    sure: bool

    def in_words(self) -> str:
        """`AUC 0.93, 95 % interval 0.90 to 0.96`."""
        return f"AUC {self.auc:.2f}, 95 % interval {self.low:.2f} to {self.high:.2f}"


def separation(
    scores: npt.NDArray[np.floating], positive: BoolArray, units: IntArray, *, tried: int = 1
) -> Separation | None:
    """Compare the scores of some pictures with those of the others.

    Args:
        scores: float [N], out of fold.
        positive: bool [N], the pictures that should score high.
        units: int64 [N]; pictures of one unit count as one for the interval.
        tried: how many such comparisons are made.

    Returns:
        None where one of the sets is empty.
    """
    from scipy.stats import rankdata

    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return None
    ranks = rankdata(scores)
    auc = float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))
    first, second = len(np.unique(units[positive])), len(np.unique(units[~positive]))
    both = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    variance = auc * (1 - auc) + (first - 1) * both[0] + (second - 1) * both[1]
    error = float(np.sqrt(max(variance, 0.0) / (first * second)))
    chance = float(np.sqrt((first + second + 1) / (12 * first * second)))
    limit = -float(ndtri(SIGNIFICANCE / (2 * tried)))
    return Separation(
        auc=auc,
        low=max(0.0, auc - 1.96 * error),
        high=min(1.0, auc + 1.96 * error),
        sure=auc - 0.5 > limit * chance,
    )
