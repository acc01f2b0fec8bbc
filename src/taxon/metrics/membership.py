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


def membership_test(
    bootstrap: GroupBootstrap,
    right: npt.NDArray[Any],
    answers: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
) -> float:
    """Return the two-sided p-value of a permutation test of `right / answers`, inside and outside.

    Did it not matter whether a picture is inside, any others could be so: the p-value is the share
    of random draws of as many that make a difference at least as large (Phipson & Smyth 2010).
    What is drawn is a group's pictures inside, or its pictures outside, as a whole. Unlike the
    bootstrap it holds for few pictures, and where a group lies on both sides it errs on the safe
    one.

    Args:
        bootstrap: for the groups.
        right, answers: [N], what is summed over pictures and divided.
        inside: bool [N].

    Returns:
        Above 0, at most 1; 1 where one side is empty.
    """
    unit = np.unique(2 * bootstrap.group_of_picture + inside, return_inverse=True)[1]
    sums = np.stack([np.bincount(unit, right), np.bincount(unit, answers)], axis=1)
    drawn = len(np.unique(unit[inside]))
    if drawn in (0, len(sums)):
        return 1.0
    # Units with the same sums are alike, so that it is enough to draw how many of each come inside.
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    generator, total = np.random.default_rng(0), sums.sum(axis=0)
    least = abs(_difference(np.array([[right[inside].sum(), answers[inside].sum()]]), total))
    block, as_large = max(1, DRAWS_AT_ONCE // len(kinds)), 0
    for start in range(0, PERMUTATIONS, block):
        size = min(block, PERMUTATIONS - start)
        draws = generator.multivariate_hypergeometric(counts, drawn, size, method="marginals")
        # A draw that leaves a side without answers has no difference: it counts as a large one.
        as_large += int((~(abs(_difference(draws @ kinds, total)) < least - EQUAL)).sum())
    return (1 + as_large) / (1 + PERMUTATIONS)


def _difference(inside: npt.NDArray[Any], total: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The ratio inside less that outside, from sums inside, [R, 2]; NaN where a side has none."""
    outside = total - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(inside[:, 0] / inside[:, 1] - outside[:, 0] / outside[:, 1])
