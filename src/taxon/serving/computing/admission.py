"""Which pictures are taken in: so many at most, and none that would wait too long.

Clients that each wait for an answer before they ask again come to no harm by a long queue: it grows
no further. Where more requests keep coming than are answered, it does, and each of them would wait
as long as is allowed, though no more of them are answered than with a short queue. So in a crowd a
short wait is allowed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taxon.serving.computing.errors import Overloaded, TooMany
from taxon.serving.computing.pace import Pace
from taxon.serving.settings import ServingSettings

_ANSWERS = 6  # in a row, of which the fewest requests under way are taken
_MORE = 3  # of them than in the six answers before
_FEWEST = 8  # under way in a crowd; a few clients soon vary by three
_LATEST = 16  # requests
_MANY = 2  # refused ones among the latest: the crowd is still here
_CALM_SECONDS = 0.5  # with fewer, and it is gone
_LONE_TIMES = 3.0  # of what a lone picture takes, that may be waited in a crowd
_FOR_LOAD = ("queue", "wait")  # reasons of refusals
_WEIGHT = 0.1  # of the newest lone picture in the running mean


class Crowd:
    """Whether more requests keep coming than are answered.

    It comes when the fewest requests that were under way during six answers are three more than
    during the six before, those three more than during the six before them, and eight at least.
    Clients that wait for their answers make none, once all of them have begun: no more requests are
    under way than before, however many each of them asks for at once. It is gone after half a
    second in which fewer than two of sixteen are refused.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way = deque[int](maxlen=3 * _ANSWERS)
        self._refused = deque[bool](maxlen=_LATEST)
        self._ends = float("-inf")

    @property
    def here(self) -> bool:
        """Whether there is one now."""
        return self._clock() < self._ends

    def refused(self) -> None:
        """Count one for which there was no room, or that was turned away later."""
        self._refused.append(True)
        if self.here and sum(self._refused) >= _MANY:
            self._ends = self._clock() + _CALM_SECONDS

    def answered(self, under_way: int) -> None:
        """Count one that is done with, and how many are not."""
        self._refused.append(False)
        self._under_way.append(under_way)
        counts = list(self._under_way)
        if len(counts) < 3 * _ANSWERS:
            return
        first, second, third = (
            min(counts[begin : begin + _ANSWERS]) for begin in range(0, 3 * _ANSWERS, _ANSWERS)
        )
        if second >= first + _MORE and third >= max(second + _MORE, _FEWEST):
            self._under_way.clear()
            self._ends = self._clock() + _CALM_SECONDS


class Admission:
    """The places of an engine's pictures, each held from before decoding to the answer, so that
    decoding is bounded too.

    Args:
        settings: how many there are, and how long a wait is allowed at most.
        pace: at which pictures are answered.
        at_once: pictures computed side by side; twice as many are taken in, whatever the time.
        lone_seconds: what a picture takes that has nobody beside it; 0: not known yet.
        turn_away: called when a crowd comes, with the seconds that may be waited in it.
        clock: seconds.
    """

    def __init__(
        self,
        settings: ServingSettings,
        pace: Pace,
        at_once: int,
        lone_seconds: float,
        turn_away: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = settings.max_queue
        self._longest = settings.max_wait_ms / 1000
        self._pace = pace
        self._enough = 2 * at_once
        self._lone = lone_seconds
        self._turn_away = turn_away
        self._crowd = Crowd(clock)
        self._requests = 0
        self.taken = 0

    def note_lone(self, seconds: float) -> None:
        """Count a picture that had nobody beside it."""
        if self._crowd.here:  # those that come meanwhile, and are refused, take their share of it
            return
        self._lone += (_WEIGHT if self._lone else 1.0) * (seconds - self._lone)

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Hold places for the pictures of a request.

        Raises:
            TooMany: more than there are.
            Overloaded: too many are taken at the moment, or it would wait too long.
        """
        if count > self._most:
            raise TooMany(f"{count} pictures in one request; at most {self._most} are allowed")
        try:
            self._require_room(count)
            self.taken += count
            self._requests += 1
            try:
                yield
            finally:
                self.taken -= count
                self._requests -= 1
        except Overloaded as error:
            if error.reason in _FOR_LOAD:
                self._crowd.refused()
            raise
        except BaseException:
            self._answered()
            raise
        self._answered()

    def _answered(self) -> None:
        before = self._crowd.here
        self._crowd.answered(self._requests)
        if self._crowd.here and not before:
            self._turn_away(self._short_wait)

    def _require_room(self, count: int) -> None:
        wait = self._pace.wait(self.taken)
        if self.taken + count > self._most:
            raise Overloaded(
                f"the server is busy ({self.taken} of {self._most} places taken, {count} wanted); "
                "try again shortly",
                "queue",
                max(1.0, wait),
            )
        short = self._crowd.here and self.taken >= self._enough
        allowed = self._short_wait if short else self._longest
        if wait > allowed:
            raise Overloaded(
                f"the server is busy (a wait of {wait * 1000:.0f} ms, at most "
                f"{allowed * 1000:.0f} are allowed at the moment); try again shortly",
                "wait",
                max(1.0, wait),
            )

    @property
    def _short_wait(self) -> float:
        """Seconds that a request may wait in a crowd."""
        return min(self._longest, _LONE_TIMES * self._lone) if self._lone else self._longest


class Room:
    """Places alone, whatever the wait: for a process whose server refuses what is too much.

    Args:
        most: how many; a server's clients may leave while a process still computes for them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def note_lone(self, seconds: float) -> None:
        """Nothing follows from it."""

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Hold places for the pictures of a request.

        Raises:
            Overloaded: too many are taken at the moment.
        """
        if self.taken + count > self._most:
            raise Overloaded("a computing process is behind; try again shortly")
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count
