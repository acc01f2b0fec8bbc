"""Two classifiers on the same pictures: is their difference more than chance?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.stats import binomtest

from taxon.metrics.bootstrap import FloatArray, GroupBootstrap

SWAPS_AT_ONCE = 4_000_000  # as the weights of the bootstrap: 16 MB at a time
EQUAL = 1e-9  # figures nearer than this differ by rounding only


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the p-value of McNemar's exact test (McNemar 1947), two-sided.

    Were the two equally good, each picture that only one has right would be as likely one's as
    the other's: a binomial with one half. Pictures are taken for independent.

    Args:
        only_a, only_b: pictures that only the one, or only the other, has right.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> FloatArray:
    """Return p-values corrected for their number (Holm 1979), in their order.

    Rejecting those below 0.05 rejects a true hypothesis among them in at most 5 % of cases.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    factors = np.arange(len(values), 0, -1)
    corrected[order] = np.maximum.accumulate(values[order] * factors).clip(max=1.0)
    return corrected


def swap_test(
    bootstrap: GroupBootstrap,
    a: sparse.csr_matrix | npt.NDArray[Any],
    b: sparse.csr_matrix | npt.NDArray[Any],
    figure: Callable[[FloatArray], FloatArray],
) -> float:
    """Return the p-value of a figure's difference by approximate randomisation (Noreen 1989).

    Were the two equally good, nothing would change if they swapped their answers to some groups
    of pictures. The p-value is the share of random swaps that make a difference at least as large
    as theirs. Unlike the bootstrap it holds for few pictures that differ, and unlike McNemar's
    test for grouped pictures and for any figure that follows from sums.

    Args:
        bootstrap: for the groups and how many swaps to draw.
        a, b: [N, K], K values a picture (right or wrong, a loss) of each.
        figure: from sums of these over all pictures, [K, r], to the figure, [r].

    Returns:
        Above 0, at most 1.
    """
    sums = [bootstrap.by_group(values).astype(np.float64) for values in (a, b)]
    moves = sparse.csr_matrix(sums[1] - sums[0])
    moves.eliminate_zeros()
    differing = np.unique(moves.indices)
    if not len(differing):
        return 1.0
    moves = moves[:, differing]
    of_a, of_b = (np.asarray(values.sum(axis=1), np.float64).reshape(-1, 1) for values in sums)
    least = abs(figure(of_b) - figure(of_a)).item() - EQUAL
    generator = np.random.default_rng(0)
    block = max(1, SWAPS_AT_ONCE // len(differing))
    as_large = 0
    for start in range(0, bootstrap.resamples, block):
        size = min(block, bootstrap.resamples - start)
        moved = moves @ generator.integers(0, 2, (len(differing), size)).astype(np.float64)
        as_large += int((abs(figure(of_b - moved) - figure(of_a + moved)) >= least).sum())
    return (1 + as_large) / (1 + bootstrap.resamples)
