"""How fast a backend answers: contenders take turns, so that a busy moment hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

WARM_UP = 3
LEAST_ROUNDS = 10
MOST_ROUNDS = 500


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    warm_up: int = WARM_UP,
    least: int = LEAST_ROUNDS,
) -> dict[str, npt.NDArray[np.float64]]:
    """Call all contenders in turn, round after round, and return milliseconds a call.

    The order within a round turns too, so that none always follows the same other.

    Args:
        contenders: name -> what to time.
        seconds: rounds go on for this long in all, but are at least `least`.
        warm_up: rounds before those that count.

    Returns:
        Of each contender float64 [rounds].
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names * warm_up:
        contenders[name]()
    start, rounds = time.perf_counter(), 0
    while rounds < least or (time.perf_counter() - start < seconds and rounds < MOST_ROUNDS):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            contenders[name]()
            times[name].append(1000 * (time.perf_counter() - began))
        rounds += 1
    return {name: np.array(values) for name, values in times.items()}
