"""How large batches should be: what a picture costs in batches of growing size."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 0.5  # that the batch size may be measured
_GAIN = 0.97  # of what a picture costs, that a larger batch must come down to
_MOST_ROUNDS = 20
SIZES = (1, 2, 4, 8, 16, 32, 64)


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
