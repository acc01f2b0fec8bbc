"""How fast pictures are answered: for the batch size, and for how long a new one would wait."""

from __future__ import annotations

import time
from collections.abc import Callable

_WEIGHT = 0.1  # of the newest batch in the running mean
_SECONDS = 0.5  # that the batch size may be measured
_GAIN = 0.97  # a larger batch must cost at most this much a picture
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Pace:
    """The seconds that a picture costs while there is work: a running mean over batches.

    What counts is the time from one batch's end to the next one's, so that decoding, which
    shares the cores, is in it; idle time is not.
    """

    def __init__(self, seconds_each: float = 0.0) -> None:
        self.seconds_each = seconds_each  # 0: nothing measured yet
        self._ended = 0.0

    def note(self, pictures: int, first_arrived: float, ended: float) -> None:
        """Count a batch: how many pictures, when the first arrived, when it ended (one clock)."""
        each = (ended - max(first_arrived, self._ended)) / pictures
        self._ended = ended
        if self.seconds_each:
            self.seconds_each += _WEIGHT * (each - self.seconds_each)
        else:
            self.seconds_each = each

    def wait(self, pictures: int) -> float:
        """Seconds until so many pictures are answered."""
        return pictures * self.seconds_each


def best_batch_size(
    run: Callable[[int], object], largest: int, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Measure the seconds a picture costs in batches of growing size.

    It stops where a larger batch no longer pays, or after half a second.

    Args:
        run: computes a batch of so many pictures.
        largest: not beyond this size.

    Returns:
        Batch size -> seconds a picture; the last one is the size to take.
    """
    started = clock()
    costs: dict[int, float] = {}
    for size in sorted({*(each for each in SIZES if each < largest), largest}):
        expected = 2 * size * min(costs.values(), default=0.0)
        if clock() - started + expected > _SECONDS:
            break
        run(size)  # memory of this size is taken now
        begun = clock()
        run(size)
        each = (clock() - begun) / size
        if costs and each > _GAIN * min(costs.values()):
            break
        costs[size] = each
    return costs
