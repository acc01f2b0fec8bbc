"""How fast a backend answers: contenders take turns, so that a busy moment hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

LEAST_ROUNDS = 5
# Large networks take seconds a call: after this many times the seconds asked for, three will do.
PATIENCE = 5
FEWEST_ROUNDS = 3
LONGEST_TURN = 0.2  # seconds, of calls that take less
# Milliseconds that a call takes at least so that what others left behind hardly matters.
LONG_CALL = 500.0


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
) -> dict[str, npt.NDArray[np.float64]]:
    """Call all contenders in turn, round after round, and return milliseconds a call.

    A turn is several calls, of which the first does not count: the threads of the runtime before
    still turn in circles, waiting for more work, and share the cores. Single calls in turn beside
    ONNX Runtime double PyTorch's time for a small network (benchmarks/RESULTS.md). The order within
    a round turns too, so that none always follows the same other.

    Args:
        contenders: name -> what to time.
        seconds: rounds go on for this long in all, but are at least five, or three where calls
            take so long that five would take five times as long.

    Returns:
        Of each contender float64 [calls].
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    turn = min(LONGEST_TURN, seconds / (LEAST_ROUNDS * len(names)))
    for name in names:
        _take_turn(contenders[name], turn)
    start, rounds = time.perf_counter(), 0
    while _goes_on(rounds, time.perf_counter() - start, seconds):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            times[name] += _take_turn(contenders[name], turn)
        rounds += 1
    return {name: np.array(values) for name, values in times.items()}


def _take_turn(call: Callable[[], object], seconds: float) -> list[float]:
    """Call for so long, twice at least, and return the milliseconds of all calls but the first.

    A call that takes long counts by itself.
    """
    found: list[float] = []
    start = time.perf_counter()
    while True:
        began = time.perf_counter()
        call()
        ended = time.perf_counter()
        found.append(1000 * (ended - began))
        if found[0] >= LONG_CALL:
            return found
        if len(found) > 1 and ended - start >= seconds:
            return found[1:]


def _goes_on(rounds: int, elapsed: float, seconds: float) -> bool:
    if rounds < FEWEST_ROUNDS or elapsed < seconds:
        return True
    return rounds < LEAST_ROUNDS and elapsed < PATIENCE * seconds
