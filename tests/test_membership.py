"""Whether a part of the pictures is worse by chance: reference values, and simulated truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact, permutation_test

from taxon.metrics import GroupBootstrap
from taxon.metrics.membership import membership_test


def test_the_p_value_is_that_of_fisher_and_of_scipy() -> None:
    inside = np.arange(60) < 30
    right = np.r_[np.ones(12), np.zeros(18), np.ones(23), np.zeros(7)]
    found = membership_test(GroupBootstrap(60), right, np.ones(60), inside)
    # Halves: Fisher's order by probability and ours by difference are the same.
    assert found == pytest.approx(fisher_exact([[12, 18], [23, 7]]).pvalue, abs=0.004)

    rng = np.random.default_rng(0)
    answers = rng.integers(1, 4, 40).astype(float)
    hits = rng.binomial(answers.astype(int), 0.6).astype(float)
    inside = np.arange(40) < 12

    def difference(rows: np.ndarray) -> float:
        rows = rows.astype(bool)
        return float(
            hits[rows].sum() / answers[rows].sum() - hits[~rows].sum() / answers[~rows].sum()
        )

    theirs = permutation_test(
        (inside.astype(int),), difference, permutation_type="pairings", n_resamples=9999, rng=rng
    )
    ours = membership_test(GroupBootstrap(40), hits, answers, inside)
    assert ours == pytest.approx(theirs.pvalue, abs=0.02)


GROUPS = np.repeat(np.arange(40), 20)
REPETITIONS = 50
Division = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _few_of_each(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two of twenty pictures of each group, whose pictures have nothing in common."""
    return GROUPS, np.tile(np.arange(20) < 2, 40)


def _whole_groups(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return GROUPS, (rng.random(40) < 0.3)[GROUPS]


def _across_groups(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return GROUPS, rng.random(800) < 0.3


def _singles(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Forty pictures alone, beside forty groups of twenty."""
    return np.concatenate([np.arange(40), 40 + GROUPS]), np.arange(840) < 40


@pytest.mark.parametrize("alike", [False, True], ids=["apart", "alike"])
@pytest.mark.parametrize("divide", [_few_of_each, _whole_groups, _across_groups, _singles])
def test_by_chance_at_most_one_in_twenty_is_worse(divide: Division, alike: bool) -> None:
    """With a known truth: whether pictures of a group are right together, or each by itself."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(REPETITIONS):
        groups, inside = divide(rng)
        right = rng.random(len(groups)) < 0.7
        right = right[np.unique(groups, return_index=True)[1]][groups] if alike else right
        bootstrap = GroupBootstrap(len(groups), groups)
        called += membership_test(bootstrap, right, np.ones(len(groups)), inside) < 0.05
    assert called <= binom.ppf(0.995, REPETITIONS, 0.05)


def test_groups_that_are_right_together_are_not_so_many_pictures() -> None:
    """Taken for pictures of their own, every third random part would be worse."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(40):
        groups, inside = _whole_groups(rng)
        right = (rng.random(40) < 0.7)[groups]
        called += membership_test(GroupBootstrap(800), right, np.ones(800), inside) < 0.05
    assert called > 12


def test_what_is_worse_is_found() -> None:
    rng = np.random.default_rng(0)
    groups, inside = _few_of_each(rng)
    right = rng.random(800) < np.where(inside, 0.4, 0.8)
    assert membership_test(GroupBootstrap(800, groups), right, np.ones(800), inside) < 0.001


def test_an_empty_side_is_no_evidence() -> None:
    everything = np.ones(5, np.bool_)
    assert membership_test(GroupBootstrap(5), np.ones(5), np.ones(5), everything) == 1.0
    assert membership_test(GroupBootstrap(5), np.ones(5), np.ones(5), ~everything) == 1.0
    # Those outside have no answers at all, here and in no other draw: nothing is shown.
    answers = np.array([1.0, 1.0, 0.0])
    found = membership_test(GroupBootstrap(3), np.zeros(3), answers, answers > 0)
    assert found == 1.0
