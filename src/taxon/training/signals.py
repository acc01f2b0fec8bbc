"""Stop requests: Ctrl-C and SIGTERM end a run after its step, with its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ELSEWHERE: ContextVar[Callable[[], bool] | None] = ContextVar("elsewhere", default=None)


@contextmanager
def stopped_elsewhere(asked: Callable[[], bool]) -> Iterator[None]:
    """Have stop requests heard too that reach this process in another way than by a signal."""
    token = _ELSEWHERE.set(asked)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


class StopSignals:
    """While it is open, the first signal asks for a stop, and a second one ends at once.

    Only the main thread may handle signals; elsewhere nothing changes.
    """

    def __init__(self) -> None:
        self._asked = False
        self._elsewhere = _ELSEWHERE.get()
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Whether somebody asked for a stop."""
        return self._asked or (self._elsewhere is not None and self._elsewhere())

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
