"""The dynamic batcher: requests that arrive together are computed together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from taxon.core.errors import TaxonError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference import Outputs

_log = logging.getLogger("taxon.serving")


class Overloaded(TaxonError):
    """There is no room for more pictures at the moment; the same request may work later."""


class ComputationFailed(TaxonError):
    """The backend failed on the batch that this picture was in; the cause is chained."""


@dataclass(frozen=True)
class Row:
    """The outputs for one picture: float32 [C] each, probabilities calibrated, and its scope where
    the model gives one."""

    logits: FloatArray
    probabilities: FloatArray
    scope: float | None = None


@dataclass(frozen=True)
class _Waiting:
    image: ImageBatch
    answer: asyncio.Future[Row]
    arrived: float


class Batcher:
    """Collects pictures into batches and computes them, one batch at a time, in one thread.

    A batch's window opens when its first picture arrives and closes after `max_delay_ms` or
    with `max_batch_size` pictures. Pictures that arrive during a computation have their
    window running meanwhile, so under load batches fill up and nobody waits for the clock.

    Args:
        run: computes uint8 [N, 3, H, W]; called in the batcher's own thread only.
        max_batch_size: pictures in a batch at most.
        max_delay_ms: milliseconds that the first picture waits for more.
        max_queue: pictures waiting at most, those being computed not counted.
    """

    def __init__(
        self,
        run: Callable[[ImageBatch], Outputs],
        *,
        max_batch_size: int,
        max_delay_ms: float,
        max_queue: int,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_delay = max_delay_ms / 1000
        self._max_queue = max_queue
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether pictures are accepted."""
        return self._task is not None and not self._task.done() and not self._stopping

    async def start(self) -> None:
        """Begin to compute; the batcher now belongs to the running event loop."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="taxon-compute")
        self._stopping = False
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Accept nothing more, compute all that waits, and end the thread."""
        if self._task is None:
            return
        self._stopping = True
        self._changed.set()
        await self._task
        self._task = None
        self._executor.shutdown()

    async def submit(self, image: ImageBatch) -> Row:
        """Compute one picture, uint8 [3, H, W], together with whatever else arrives.

        Raises:
            Overloaded: the queue is full (raised at once), or the batcher is not running.
            ComputationFailed: the backend failed on its batch.
        """
        return (await self.submit_many([image]))[0]

    async def submit_many(self, images: Sequence[ImageBatch]) -> list[Row]:
        """Compute several pictures, uint8 [3, H, W] each; all are accepted, or none.

        Returns:
            One row a picture, in their order.

        Raises:
            Overloaded: the queue has no room for all of them, or the batcher is not running.
            ComputationFailed: the backend failed on a batch that one of them was in.
        """
        if not self.running:
            raise Overloaded("the server is not accepting pictures; it is starting or stopping")
        if len(self._queue) + len(images) > self._max_queue:
            raise Overloaded(
                f"the queue is full ({len(self._queue)} of {self._max_queue} places taken, "
                f"{len(images)} wanted); try again shortly"
            )
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = [_Waiting(image, loop.create_future(), now) for image in images]
        self._queue.extend(waiting)
        self._changed.set()
        return await asyncio.gather(*(one.answer for one in waiting))

    async def _work(self) -> None:
        while batch := await self._collect():
            await self._compute(batch)

    async def _collect(self) -> list[_Waiting]:
        """Wait for the next batch; empty once the batcher stops and nothing is left."""
        while not self._queue and not self._stopping:
            await self._next_change()
        if not self._queue:
            return []
        closes = self._queue[0].arrived + self._max_delay
        loop = asyncio.get_running_loop()
        while len(self._queue) < self._max_batch_size and not self._stopping:
            try:
                async with asyncio.timeout_at(closes):
                    await self._next_change()
            except TimeoutError:
                break
            if loop.time() >= closes:
                break
        size = min(len(self._queue), self._max_batch_size)
        return [self._queue.popleft() for _ in range(size)]

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _compute(self, batch: list[_Waiting]) -> None:
        # A request that was given up meanwhile has its future cancelled.
        batch = [one for one in batch if not one.answer.done()]
        if not batch:
            return
        loop = asyncio.get_running_loop()
        images = [one.image for one in batch]
        try:
            rows = await loop.run_in_executor(self._executor, self._rows, images)
        except Exception as error:  # whatever the backend raises, the batcher goes on
            _log.exception("a batch of %d failed", len(batch))
            for one in batch:
                if not one.answer.done():
                    failure = ComputationFailed(f"the backend failed: {error}")
                    failure.__cause__ = error
                    one.answer.set_exception(failure)
            return
        for one, row in zip(batch, rows, strict=True):
            if not one.answer.done():
                one.answer.set_result(row)

    def _rows(self, images: list[ImageBatch]) -> list[Row]:
        outputs = self._run(np.stack(images))
        scopes = [None] * len(images) if outputs.scope is None else outputs.scope.tolist()
        if len(outputs.logits) != len(images):
            count = len(outputs.logits)
            raise ValueError(f"the backend gave {count} rows for {len(images)} pictures")
        rows = zip(outputs.logits, outputs.probabilities, scopes, strict=True)
        return [Row(*row) for row in rows]
