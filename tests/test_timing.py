"""Contenders that are timed in turns: what counts, and how long it goes on; by our own clock."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from taxon.inference import timing
from taxon.inference.timing import take_turns


class Clock:
    """A clock that only calls move; they take longer right after another contender's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.last = ""
        self.turns: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> None:
        if self.last != name:
            self.turns.append(name)
        self.now += seconds if self.last == name else 2 * seconds
        self.last = name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_what_another_left_behind_does_not_count(clock: Clock) -> None:
    times = take_turns({"a": lambda: clock.call("a", 0.01), "b": lambda: clock.call("b", 0.03)})
    assert times["a"] == pytest.approx(10) and times["b"] == pytest.approx(30)
    # As much time for each, so more calls of the quick one.
    assert len(times["a"]) > 2 * len(times["b"]) and 2 <= clock.now < 4


def test_none_always_follows_the_same_other(clock: Clock) -> None:
    take_turns({name: partial(clock.call, name, 0.01) for name in "abc"})
    assert "".join(clock.turns).startswith("abcabcbcacab")


def test_a_call_of_seconds_counts_by_itself_and_three_will_do(clock: Clock) -> None:
    times = take_turns({"a": lambda: clock.call("a", 4.0), "b": lambda: clock.call("b", 4.0)})
    assert len(times["a"]) == len(times["b"]) == 3
    assert set(times["a"]) <= {4000, 8000}


def test_a_moment_is_enough(clock: Clock) -> None:
    times = take_turns({"a": lambda: clock.call("a", 0.01)}, seconds=0.02)
    assert len(times["a"]) >= 3 and times["a"] == pytest.approx(10)
