"""What the processes of a Ray job and the command that waits for them tell each other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from taxon.core.errors import InputError
from taxon.training import Event, Listener, StepDone

_PATIENCE = 0.5  # seconds that the command waits for news before it looks after signals
_HELD = 0.2  # seconds that a step's event waits for others: one message for many


class Told(InputError):
    """What is wrong with one machine; said by the command that waits."""


class _Post:
    """The actor."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._failure: Exception | None = None
        self._begun = 0

    async def tell(self, events: list[Event]) -> None:
        """Take what happened."""
        self._events += events
        self._news.set()

    async def heard(self) -> list[Event]:
        """Hand out what happened since; after a moment, nothing."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._news.wait()
        except TimeoutError:
            return []
        self._news.clear()
        events, self._events = self._events, []
        return events

    async def stop(self) -> None:
        """Ask for a stop."""
        self._stop.set()

    async def stopped(self) -> None:
        """Wait until somebody asks for a stop."""
        await self._stop.wait()

    async def fail(self, error: Exception) -> None:
        """Take the first error for which no retry would help."""
        self._failure = self._failure or error

    async def failure(self) -> Exception | None:
        """Hand it out."""
        return self._failure

    async def begin(self) -> int:
        """Count a try; how many there were before."""
        self._begun += 1
        return self._begun - 1

    async def begun(self) -> bool:
        """Whether there was one."""
        return self._begun > 0


@dataclass(frozen=True)
class Wire:
    """One end of it; can be sent to other processes.

    Attributes:
        actor: Ray's handle.
    """

    actor: Any

    def heard(self) -> list[Event]:
        """What happened since the last time; waits for a moment where there is nothing."""
        events: list[Event] = self._ask("heard")
        return events

    def stop(self) -> None:
        """Ask the processes for a stop."""
        self._ask("stop")

    def fail(self, error: Exception) -> None:
        """Say for what no retry would help."""
        self._ask("fail", error)

    def failure(self) -> Exception | None:
        """For what no retry would help."""
        failure: Exception | None = self._ask("failure")
        return failure

    def begin(self) -> int:
        """How many tries there were before this one."""
        return int(self._ask("begin"))

    def begun(self) -> bool:
        """Whether the first process is at work."""
        return bool(self._ask("begun"))

    def stopped(self) -> Callable[[], bool]:
        """Return what says whether somebody asked for a stop."""
        asked = threading.Event()

        def wait() -> None:
            self._ask("stopped")
            asked.set()

        threading.Thread(target=wait, name="taxon-stop", daemon=True).start()
        return asked.is_set

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Yield a listener whose events the waiting command hears, all of them by the end."""
        held: list[Event] = []
        sent = time.monotonic()

        def listen(event: Event) -> None:
            nonlocal sent
            held.append(event)
            if not isinstance(event, StepDone) or time.monotonic() - sent > _HELD:
                self.actor.tell.remote(list(held))
                held.clear()
                sent = time.monotonic()

        try:
            yield listen
        finally:
            self._ask("tell", list(held))

    def _ask(self, name: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self.actor, name).remote(*arguments))


@contextmanager
def open_post() -> Iterator[Wire]:
    """Open one beside this process, and end it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_Post).options(num_cpus=0, scheduling_strategy=here).remote()
    try:
        yield Wire(actor)
    finally:
        ray.kill(actor)
