"""Stratify: hand out units to parts so that every part has its share of every label.

First by iterative stratification (Sechidis et al. 2011), which hands out the rarest label first,
here applied to units of several pictures; then by exchanging units between parts for as long as
that brings the counts closer to the shares. The first step alone misses the parts' sizes where
pictures have several labels: the labels come out even, the pictures do not.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from taxon.data.splitting.units import Units

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CANDIDATES = 200  # kinds of units of each part that are tried against each other
_ROUNDS = 1000  # each exchange lowers the cost, so the search ends by itself long before
_TOLERANCE = 1e-9


def stratify(units: Units, shares: Floats, fixed: Counts, rng: np.random.Generator) -> Counts:
    """Return the part of each unit.

    Args:
        units: U units.
        shares: float64 [parts], of the whole; the first part takes what the others leave. A
            part with the share 0 gets nothing but what is fixed.
        fixed: int64 [U], the part that a unit must have, or -1.
    """
    wanted = _wanted(units, shares)
    chosen = _hand_out(units, wanted, shares > 0, fixed.copy(), rng)
    parts = np.flatnonzero(shares > 0)
    exchanges = _Exchanges(units, wanted, fixed < 0, chosen)
    exchanges.fill(parts)
    exchanges.run(parts)
    return chosen


def _wanted(units: Units, shares: Floats) -> Floats:
    """float64 [parts, columns]: a part's share of every column, and at least one of each label."""
    totals = np.bincount(units.kinds, minlength=len(units.patterns)) @ units.patterns
    least = np.minimum(totals, 1)[None, :] * (shares > 0)[:, None]
    wanted = np.maximum(totals[None, :] * shares[:, None], least)
    wanted[0] = totals - wanted[1:].sum(axis=0)
    return np.asarray(wanted)


def _held(units: Units, chosen: Counts, parts: int) -> Counts:
    """int64 [parts, columns]: what every part holds of each column."""
    held = np.zeros((parts, units.patterns.shape[1]), np.int64)
    for part in range(parts):
        count = np.bincount(units.kinds[chosen == part], minlength=len(units.patterns))
        held[part] = count @ units.patterns
    return held


def _hand_out(
    units: Units,
    wanted: Floats,
    is_open: npt.NDArray[np.bool_],
    chosen: Counts,
    rng: np.random.Generator,
) -> Counts:
    """Give each unit to the part that still wants its rarest label most; the last units of a
    label go to the parts that have none of it, however large the first ones were."""
    patterns, kinds = units.patterns, units.kinds
    held = _held(units, chosen, len(wanted))
    wants = wanted - held
    lacking = (held == 0) & is_open[:, None]
    order = rng.permutation(len(kinds))
    remaining = (wanted - held).sum(axis=0)[:-1]
    while (chosen < 0).any():
        rarest = int(np.argmin(np.where(remaining > 0, remaining, np.inf)))
        holders = order[(chosen[order] < 0) & (patterns[kinds[order], rarest] > 0)]
        # Large groups first: a part that is nearly full cannot take them any more.
        holders = holders[np.argsort(-patterns[kinds[holders], rarest], kind="stable")]
        for done, unit in enumerate(holders):
            pattern = patterns[kinds[unit]]
            without = lacking[:, rarest]
            allowed = without if without.sum() >= len(holders) - done else is_open
            want = np.where(allowed, wants[:, rarest], -np.inf)
            best = np.flatnonzero(want >= want.max() - _TOLERANCE)
            part = int(best[np.argmax(wants[best, -1])])
            chosen[unit] = part
            lacking[part] &= pattern == 0
            wants[part] -= pattern
            remaining -= pattern[:-1]
        remaining[rarest] = 0
    return chosen


class _Exchanges:
    """Exchanges units between parts while that lowers the sum of (held - wanted)^2 / wanted over
    parts, labels and sizes; the last unit of a label stays in its part."""

    def __init__(
        self, units: Units, wanted: Floats, movable: npt.NDArray[np.bool_], chosen: Counts
    ) -> None:
        self._kinds, self._movable, self._wanted = units.kinds, movable, wanted
        self._classes = units.classes
        self._patterns = units.patterns.astype(np.float64)
        self._squares = self._patterns**2
        self._weights = 1 / np.maximum(wanted, 1)
        self._held = _held(units, chosen, len(wanted)).astype(np.float64)
        self._chosen = chosen  # changed in place

    def fill(self, parts: npt.NDArray[np.intp]) -> None:
        """Give each of these parts a unit of every label that it lacks and another can spare:
        a unit of several labels may have been handed out for the sake of another one."""
        for part, label in product(parts, range(self._classes)):
            if self._held[part, label]:
                continue
            with_label = self._patterns[:, label] > 0
            offers = []
            for source in parts:
                cost = np.where(with_label, self._cost_of_moving(source, part), np.inf)
                kinds = self._candidates(source, cost)
                offers += [(cost[kind], source, kind) for kind in kinds[:1] if with_label[kind]]
            if offers:
                _, source, kind = min(offers)
                self._move(self._first(source, np.array([kind])), source, part)

    def run(self, parts: npt.NDArray[np.intp]) -> None:
        """Go on between these parts until nothing helps any more."""
        for _ in range(_ROUNDS):
            helped = [self._exchange(here, there) for here, there in combinations(parts, 2)]
            if not any(helped):
                break

    def _exchange(self, here: int, there: int) -> bool:
        """Make the one exchange that helps most: a unit or none for another or none."""
        leaves, comes = self._cost_of_moving(here, there), self._cost_of_moving(there, here)
        given, taken = self._candidates(here, leaves), self._candidates(there, comes)
        both = self._weights[here] + self._weights[there]
        shared = (self._patterns[given] * both) @ self._patterns[taken].T
        # The last row and column stand for no unit at all.
        cost = np.zeros((len(given) + 1, len(taken) + 1))
        cost[:-1] += leaves[given, None]
        cost[:, :-1] += comes[None, taken]
        cost[:-1, :-1] -= 2 * shared
        row, column = np.unravel_index(np.argmin(cost), cost.shape)
        if cost[row, column] > -_TOLERANCE:
            return False
        leaving = self._first(here, given[row : row + 1])
        coming = self._first(there, taken[column : column + 1])
        self._move(leaving, here, there)
        self._move(coming, there, here)
        return True

    def _cost_of_moving(self, source: int, target: int) -> Floats:
        """float64 [P]: what it costs when a unit of each kind leaves one part for another."""
        slopes = 2 * self._weights * (self._held - self._wanted)
        curve = self._squares @ (self._weights[source] + self._weights[target])
        return np.asarray(curve + self._patterns @ (slopes[target] - slopes[source]))

    def _candidates(self, part: int, cost: Floats) -> npt.NDArray[np.intp]:
        """The kinds of units that a part can give away without losing a label, the cheapest
        first."""
        at_hand = self._kinds[self._movable & (self._chosen == part)]
        kinds = np.flatnonzero(np.bincount(at_hand, minlength=len(cost)))
        kinds = kinds[np.argsort(cost[kinds], kind="stable")[: 2 * _CANDIDATES]]
        labels = self._patterns[kinds, : self._classes]
        keeps = ((labels == 0) | (self._held[part, : self._classes] > labels)).all(axis=1)
        return np.asarray(kinds[keeps][:_CANDIDATES])

    def _first(self, part: int, kind: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """The first unit of a kind in a part; none of no kind."""
        if not len(kind):
            return kind
        here = self._movable & (self._chosen == part) & (self._kinds == kind[0])
        return np.flatnonzero(here)[:1]

    def _move(self, unit: npt.NDArray[np.intp], source: int, target: int) -> None:
        pattern = self._patterns[self._kinds[unit]].sum(axis=0)
        self._chosen[unit] = target
        self._held[source] -= pattern
        self._held[target] += pattern
