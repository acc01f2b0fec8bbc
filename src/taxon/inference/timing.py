"""How fast a backend answers: contenders take turns, so that a busy moment hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

WARM_UP = 3
LEAST_ROUNDS = 10
# Large networks take seconds a call: after this many times the seconds asked for, three will do.
PATIENCE = 5
FEWEST_ROUNDS = 3


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    warm_up: int = WARM_UP,
    least: int = LEAST_ROUNDS,
    pause: float = 0.0,
) -> dict[str, npt.NDArray[np.float64]]:
    """Call all contenders in turn, round after round, and return milliseconds a call.

    The order within a round turns too, so that none always follows the same other.

    Args:
        contenders: name -> what to time.
        seconds: rounds go on for this long in all, but are at least `least`, or three where calls
            take so long that `least` would take five times as long.
        warm_up: rounds before those that count; fewer where they take that long.
        least: rounds that count, at least.
        pause: seconds before each call. Runtimes let their threads wait for more work by turning
            in circles, milliseconds long; the next contender would have to share its cores.

    Returns:
        Of each contender float64 [rounds].
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for _ in range(warm_up):
        for name in names:
            contenders[name]()
        if time.perf_counter() - start > seconds:
            break
    start, rounds = time.perf_counter(), 0
    while _goes_on(rounds, time.perf_counter() - start, seconds, least):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            began = time.perf_counter()
            contenders[name]()
            times[name].append(1000 * (time.perf_counter() - began))
        rounds += 1
    return {name: np.array(values) for name, values in times.items()}


def _goes_on(rounds: int, elapsed: float, seconds: float, least: int) -> bool:
    if rounds < FEWEST_ROUNDS or elapsed < seconds:
        return True
    return rounds < least and elapsed < PATIENCE * seconds
