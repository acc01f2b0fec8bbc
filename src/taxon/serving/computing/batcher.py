"""The dynamic batcher: requests that arrive together are computed together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

from taxon.core.predictions import ImageBatch
from taxon.inference import Outputs
from taxon.serving.computing.batch import Row, Source, failure_of, results_of
from taxon.serving.computing.errors import DeadlinePassed, Overloaded
from taxon.serving.computing.pace import Pace

_log = logging.getLogger("taxon.serving")


@dataclass(frozen=True, eq=False)
class _Waiting:
    source: Source
    answer: asyncio.Future[Row]
    arrived: float
    deadline: float
    together: bool


class Batcher:
    """Collects pictures into batches and computes them, in a thread for each lane.

    A batch's window opens when its first picture arrives. It closes with `max_batch_size`
    pictures, after `max_delay_ms`, or at once when no other picture is on its way: a lone
    request never waits for the clock. Pictures that arrive during a computation have their
    window running meanwhile, so under load batches fill up.

    Args:
        run: computes uint8 [N, 3, H, W]; called in the batcher's own threads only.
        max_batch_size: pictures in a batch at most.
        max_delay_ms: milliseconds that the first picture waits for more.
        max_queue: pictures waiting at most, those being computed not counted.
        on_their_way: how many pictures will be submitted soon (those being decoded); by default
            there may always be one.
        lanes: batches computed at once at most; free ones share what waits.
        run_alone: computes a batch while nothing else is computed, waits or is on its way; None:
            `run` does.
    """

    def __init__(
        self,
        run: Callable[[ImageBatch], Outputs],
        *,
        max_batch_size: int,
        max_delay_ms: float,
        max_queue: int,
        on_their_way: Callable[[], int] = lambda: 1,
        lanes: int = 1,
        run_alone: Callable[[ImageBatch], Outputs] | None = None,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_delay = max_delay_ms / 1000
        self._max_queue = max_queue
        self._on_their_way = on_their_way
        self._lanes = lanes
        self._run_alone = run_alone or run
        self._computing = 0
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.pace = Pace()

    @property
    def running(self) -> bool:
        """Whether pictures are accepted."""
        return self._task is not None and not self._task.done() and not self._stopping

    @property
    def depth(self) -> int:
        """How many pictures wait."""
        return len(self._queue)

    async def start(self) -> None:
        """Begin to compute; the batcher now belongs to the running event loop."""
        self._executor = ThreadPoolExecutor(self._lanes, thread_name_prefix="taxon-compute")
        self._stopping = False
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Accept nothing more, compute all that waits, and end the threads."""
        if self._task is None:
            return
        self._stopping = True
        self._changed.set()
        await self._task
        self._task = None
        self._executor.shutdown()

    def turn_away(self, longest: float) -> None:
        """Give lone pictures that would wait longer than so many seconds `Overloaded` at once."""
        turned_away = [
            one
            for place, one in enumerate(self._queue)
            if self.pace.wait(place + 1) > longest and not one.together and not one.answer.done()
        ]
        for one in turned_away:
            self._queue.remove(one)
            one.answer.set_exception(
                Overloaded("more requests come than can be answered; try again shortly", "wait")
            )

    def changed(self) -> None:
        """Say that fewer pictures are on their way than before."""
        self._changed.set()

    async def submit(
        self, source: Source, deadline: float = float("inf"), *, together: bool = False
    ) -> Row:
        """Compute one picture together with whatever else arrives; raises what `submit_many`
        raises.
        """
        return (await self.submit_many([source], deadline, together=together))[0]

    async def submit_many(
        self,
        sources: Sequence[Source],
        deadline: float = float("inf"),
        *,
        together: bool = True,
    ) -> list[Row]:
        """Compute several pictures; all are accepted, or none.

        Args:
            deadline: by the event loop's clock; what was not begun by then is not computed.
            together: whether other pictures are of no use without one of these; then none of them
                is turned away.

        Returns:
            One row a picture, in their order.

        Raises:
            Overloaded: the queue has no room for all of them, or the batcher is not running.
            DeadlinePassed: their time was over.
            ComputationFailed: the backend failed on a batch that one of them was in.
            TaxonError: what a source raised.
        """
        if not self.running:
            raise Overloaded(
                "the server is not accepting pictures; it is starting or stopping", "stopping"
            )
        if len(self._queue) + len(sources) > self._max_queue:
            raise Overloaded(
                f"the queue is full ({len(self._queue)} of {self._max_queue} places taken, "
                f"{len(sources)} wanted); try again shortly"
            )
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = [
            _Waiting(source, loop.create_future(), now, deadline, together) for source in sources
        ]
        self._queue.extend(waiting)
        self._changed.set()
        try:
            return await asyncio.gather(*(one.answer for one in waiting))
        except BaseException:
            for one in waiting:
                one.answer.cancel()  # nobody wants them without the one that failed
            raise

    def compute_here(self, source: Source) -> Row:
        """Compute a picture past the queue in the thread that calls; for one that has nobody beside
        it.

        Raises:
            ComputationFailed: the backend failed.
            TaxonError: what the source raised.
        """
        (result,) = results_of(self._run_alone, [source], [0.0])
        if isinstance(result, Row):
            return result
        raise result

    async def _work(self) -> None:
        free = asyncio.Semaphore(self._lanes)
        async with asyncio.TaskGroup() as computing:
            while await free.acquire() and (batch := await self._collect()):
                self._computing += 1
                task = computing.create_task(self._compute(batch))
                task.add_done_callback(lambda _: self._computed(free))

    def _computed(self, free: asyncio.Semaphore) -> None:
        self._computing -= 1
        free.release()

    async def _collect(self) -> list[_Waiting]:
        """Wait for the next batch; empty once the batcher stops and nothing is left."""
        while self._queue or not self._stopping:
            if not self._queue:
                await self._next_change()
                continue
            await self._window()
            # The other lanes that are free have their share.
            share = ceil(len(self._queue) / (self._lanes - self._computing))
            size = min(share, self._max_batch_size)
            if size:  # else all of them were turned away meanwhile
                return [self._queue.popleft() for _ in range(size)]
        return []

    async def _window(self) -> None:
        """Wait for pictures that are on their way, as long as the first one may."""
        closes = self._queue[0].arrived + self._max_delay
        loop = asyncio.get_running_loop()
        while 0 < len(self._queue) < self._max_batch_size and not self._stopping:
            if loop.time() >= closes or self._on_their_way() <= 0:
                break
            try:
                async with asyncio.timeout_at(closes):
                    await self._next_change()
            except TimeoutError:
                break

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _compute(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        # A request that was given up meanwhile has its future cancelled.
        batch = [one for one in batch if not one.answer.done() and not _late(one, begun)]
        if not batch:
            return
        alone = not (self._computing > 1 or self._queue or self._on_their_way() > 0)
        run = self._run_alone if alone else self._run
        sources, queued = [one.source for one in batch], [begun - one.arrived for one in batch]
        try:
            results = await loop.run_in_executor(self._executor, results_of, run, sources, queued)
        except Exception as error:  # no thread could be started, say: the batcher goes on
            _log.exception("a batch of %d could not be begun", len(batch))
            results = [failure_of(error)] * len(batch)
        self.pace.note(len(batch), batch[0].arrived, loop.time())
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if isinstance(result, Row):
                one.answer.set_result(result)
            else:
                one.answer.set_exception(result)


def _late(one: _Waiting, now: float) -> bool:
    """Whether its deadline is over; then it has its answer."""
    if now < one.deadline:
        return False
    one.answer.set_exception(DeadlinePassed("its time was over before it was computed"))
    return True
