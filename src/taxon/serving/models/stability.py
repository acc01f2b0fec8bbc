"""The population stability index: how far a distribution has moved from another one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Half a count in each bin, so that an empty one gives a large figure and not an infinite one.
_SMOOTHING = 0.5


def population_stability_index(expected: Sequence[float], found: Sequence[float]) -> float:
    """Compare two histograms over the same bins.

    The sum over bins of (q - p) ln(q / p), the symmetrised Kullback-Leibler divergence of the
    shares p and q. By the custom of credit scoring (Siddiqi, 2006) below 0.1 is stable and above
    0.25 a shift. With few counts chance alone gives about (bins - 1) (1/m + 1/n) for m and n
    counts, so take enough of them.

    Args:
        expected: counts of the reference.
        found: counts of what is looked at.

    Raises:
        ValueError: other numbers of bins, or none.
    """
    if len(expected) != len(found) or not expected:
        raise ValueError(f"{len(expected)} and {len(found)} bins; the same number is needed")
    p, q = (np.asarray(each, np.float64) + _SMOOTHING for each in (expected, found))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())
