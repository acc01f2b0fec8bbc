"""The clock of a run: what is left, from the estimate and from what was measured since."""

from __future__ import annotations

import time
from collections.abc import Iterable


class Clock:
    """Counts steps of known expected length, and corrects the rest by the pace so far.

    Args:
        steps: expected seconds of each step of the run, in order.

    Attributes:
        expected: the whole run's seconds, as estimated before it began.
    """

    def __init__(self, steps: Iterable[float]) -> None:
        self._steps = tuple(steps)
        self.expected = sum(self._steps)
        self._taken = 0
        self._expected_so_far = 0.0
        self._started = time.perf_counter()

    def step(self) -> None:
        """A step is done."""
        self._expected_so_far += self._steps[self._taken]
        self._taken += 1

    def skip(self, steps: int) -> None:
        """These steps will not be taken."""
        left = self._steps[self._taken : self._taken + steps]
        self._steps = self._steps[: self._taken] + self._steps[self._taken + len(left) :]
        self.expected -= sum(left)

    def seconds_left(self) -> float:
        """Expected seconds of what is left, times how much slower the run is than expected."""
        left = self.expected - self._expected_so_far
        if not self._expected_so_far:
            return left
        pace = (time.perf_counter() - self._started) / self._expected_so_far
        return max(0.0, left * pace)
