"""How fast pictures are answered: for the batch size, and for how long a new one would wait."""

from __future__ import annotations

import time
from collections.abc import Callable

_WEIGHT = 0.1  # of the newest batch in the running mean
_SECONDS = 0.5  # that the batch size may be measured
_GAIN = 0.97  # of what a picture costs, that a larger batch must come down to
_MOST_ROUNDS = 20
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

    Round after round over all sizes, for half a second: single calls tell little where others
    have the machine too, and the least of several is what a size can do. Sizes that would take
    longer than all of that time are left out.

    Args:
        run: computes a batch of so many pictures.
        largest: not beyond this size.

    Returns:
        Batch size -> seconds a picture, up to the smallest size that is hardly worse than any.
    """
    started = clock()
    costs: dict[int, float] = {}
    sizes = sorted({*(each for each in SIZES if each < largest), largest})
    rounds = 0
    while rounds < _MOST_ROUNDS and (rounds == 0 or clock() - started < _SECONDS):
        for size in sizes:
            expected = size * min(costs.values(), default=0.0)
            if costs and clock() - started + expected > _SECONDS:
                break
            begun = clock()
            run(size)
            each = (clock() - begun) / size
            costs[size] = min(each, costs.get(size, each))
        rounds += 1
    enough = min(costs.values()) / _GAIN
    best = next(size for size in sorted(costs) if costs[size] <= enough)
    return {size: cost for size, cost in costs.items() if size <= best}
