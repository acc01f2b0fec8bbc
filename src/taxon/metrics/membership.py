"""A part of the pictures beside the others: is its figure worse by more than chance?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.metrics.bootstrap import GroupBootstrap
from taxon.metrics.paired import EQUAL

# Many tests may share 5 % (Holm 1979): p-values must reach far below it.
PERMUTATIONS = 9_999
DRAWS_AT_ONCE = 2_000_000  # 16 MB

Floats = npt.NDArray[np.float64]


def membership_test(
    bootstrap: GroupBootstrap,
    right: npt.NDArray[Any],
    answers: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
) -> float:
    """Return the two-sided p-value of a permutation test of `right / answers`, inside and outside.

    Did it not matter whether a picture is inside, any others could be so: the p-value is the share
    of random draws of as many that differ at least as much (Phipson & Smyth 2010). What is drawn
    is a group's pictures inside, or its pictures outside, as a whole. The difference is divided by
    its standard error, so that it holds for pieces of unequal size too (Janssen 1997; Chung &
    Romano 2013). Unlike the bootstrap it holds for few pieces; k pieces of n cannot have a
    p-value below about k! (n - k)! / n!, so that one group alone hardly ever has a small one.

    Args:
        bootstrap: for the groups.
        right, answers: [N], what is summed over pictures and divided.
        inside: bool [N].

    Returns:
        Above 0, at most 1; 1 where one side is empty.
    """
    piece = np.unique(2 * bootstrap.group_of_picture + inside, return_inverse=True)[1]
    sums = np.stack([np.bincount(piece, right), np.bincount(piece, answers)], axis=1)
    chosen = np.unique(piece[inside])
    if len(chosen) in (0, len(sums)):
        return 1.0
    # Pieces with the same sums are alike, so that it is enough to draw how many of each are inside.
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    moments, total = _moments(kinds), _moments(sums).sum(axis=0)
    least = abs(_standardised(_moments(sums[chosen]).sum(axis=0)[None], total))
    generator = np.random.default_rng(0)
    block, as_large = max(1, DRAWS_AT_ONCE // len(kinds)), 0
    for start in range(0, PERMUTATIONS, block):
        size = min(block, PERMUTATIONS - start)
        draws = generator.multivariate_hypergeometric(counts, len(chosen), size, method="marginals")
        # A draw that leaves a side without answers has no difference: it counts as a large one.
        found = abs(_standardised(draws @ moments, total))
        as_large += int((~(found < least - EQUAL)).sum())
    return (1 + as_large) / (1 + PERMUTATIONS)


def _moments(sums: npt.NDArray[Any]) -> Floats:
    """What ratios and their errors follow from: right, answers and their products, [K, 5]."""
    right, answers = sums.T
    return np.stack([right, answers, right**2, right * answers, answers**2], axis=1)


def _standardised(inside: Floats, total: Floats) -> Floats:
    """The ratio inside less that outside in standard errors, from moments inside, [R, 5]; NaN
    where a side has no answers, infinite where neither side varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        (ours, our_error), (theirs, their_error) = map(_ratio, (inside, total - inside))
        return np.asarray((ours - theirs) / np.sqrt(our_error + their_error))


def _ratio(moments: Floats) -> tuple[Floats, Floats]:
    """The ratio of sums, and its squared standard error by linearisation (Cochran 1977)."""
    right, answers, squares, products, answers_squared = moments.T
    ratio = right / answers
    errors = squares - 2 * ratio * products + ratio**2 * answers_squared
    # Of what does not vary, rounding would leave a little.
    errors = np.where(errors < EQUAL * (1 + squares), 0.0, errors)
    return ratio, errors / answers**2
