"""How fast pictures are answered: for the batch size, and for how long a new one would wait."""

from __future__ import annotations

import time
from collections.abc import Callable

_KEPT = 0.98  # of what is known, with each picture
_KNOWN = 20.0  # pictures, that what is known before counts for
_SECONDS = 0.5  # that the batch size may be measured
_GAIN = 0.97  # of what a picture costs, that a larger batch must come down to
_MOST_ROUNDS = 20
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Pace:
    """The seconds that a picture costs while there is work, over the latest fifty or so.

    What counts is the time from one answer's end to the next one's, so that decoding, which
    shares the cores, is in it; idle time is not.

    Args:
        seconds_each: as it is known before; 0: not at all.
    """

    def __init__(self, seconds_each: float = 0.0) -> None:
        self._pictures = _KNOWN if seconds_each else 0.0
        self._seconds = seconds_each * self._pictures
        self._ended = 0.0

    @property
    def seconds_each(self) -> float:
        """Seconds a picture; 0 where nothing is known."""
        return self._seconds / self._pictures if self._pictures else 0.0

    def note(self, pictures: int, first_arrived: float, ended: float) -> None:
        """Count a batch: how many pictures, when the first arrived, when it ended (one clock)."""
        kept = _KEPT**pictures
        self._pictures = kept * self._pictures + pictures
        self._seconds = kept * self._seconds + ended - max(first_arrived, self._ended)
        self._ended = ended

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
