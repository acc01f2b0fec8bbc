"""The engine in this process: decoding in threads, computing in batches.

Where a batch is computed by one core, that core decodes its pictures too, one after the other: less
is handed from thread to thread, and no more threads want a core than there are. Where several cores
compute a batch together, others decode the next one meanwhile.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from taxon.core.cores import available_cores
from taxon.core.errors import ImageError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference import Predictor
from taxon.inference.batch_costs import best_batch_size
from taxon.inference.lanes import lanes_of
from taxon.preprocessing.statistics import picture_statistics
from taxon.serving.computing.admission import Admission, Room
from taxon.serving.computing.batch import Row, prepared
from taxon.serving.computing.batcher import Batcher
from taxon.serving.computing.engine import FOREVER, Answer, Upload, describe
from taxon.serving.computing.errors import DeadlinePassed
from taxon.serving.computing.pace import Pace
from taxon.serving.settings import ServingSettings

_DECODING_TOO = 2.0  # what a picture takes, by what its computation alone does


class LocalEngine:
    """An engine in this process.

    Args:
        predictor: the model.
        settings: batching and limits.
        threads: that decode; None: one a core.
        costs: what `measure_costs` gave; None: it is measured at the start.
        refuses: whether it refuses what is too much; else someone before it does.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: ServingSettings,
        threads: int | None = None,
        costs: Mapping[int, float] | None = None,
        *,
        refuses: bool = True,
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._threads = threads or available_cores()
        self._costs = costs
        self._refuses = refuses
        self._lanes = lanes_of(predictor.backend)
        self._decoding = 0
        self._batcher = self._make_batcher(settings.max_batch_size)
        self._admission = self._make_admission(0.0)
        self.description = describe(predictor)

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""
        return self._batcher.running

    @property
    def depth(self) -> int:
        """How many pictures are admitted and not yet answered."""
        return self._admission.taken

    async def start(self) -> None:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="taxon-decode")
        costs = self._costs
        if costs is None:
            largest = self._settings.max_batch_size
            costs = await asyncio.to_thread(measure_costs, self._predictor, largest)
        self._batcher = self._make_batcher(max(costs))
        # The first batch alone, slow since all is cold, would have the next requests refused.
        self._batcher.pace = Pace(costs[max(costs)])
        lone = _DECODING_TOO * costs[min(costs)]  # until one was seen
        self._admission = self._make_admission(lone)
        self.description = replace(
            self.description, seconds_each=costs[max(costs)], lone_seconds=lone
        )
        await self._batcher.start()

    async def stop(self) -> None:
        """Finish what was admitted and end the threads."""
        await self._batcher.stop()
        await asyncio.to_thread(self._pool.shutdown)  # pictures that nobody wants may still decode

    def turn_away(self, longest: float) -> None:
        """Give those that would wait longer than so many seconds `Overloaded` at once."""
        self._batcher.turn_away(longest)

    async def answer(
        self, pictures: Sequence[Upload], deadline: float = FOREVER
    ) -> list[Answer | ImageError]:
        """Decode and compute pictures; see `Engine`."""
        with self._admission.places(len(pictures)):
            until = time.monotonic() + deadline - asyncio.get_running_loop().time()
            asked = [_Picture(self._predictor, picture, until) for picture in pictures]
            if self._admission.taken == 1 and self._batcher.running:
                return [await self._alone(asked[0])]
            together = len(asked) > 1
            answers = [
                asyncio.ensure_future(self._one(picture, deadline, together)) for picture in asked
            ]
            try:
                return await asyncio.gather(*answers)
            finally:  # where one fails, nobody wants the others any more
                for each in answers:
                    each.cancel()

    async def compute(self, images: ImageBatch, deadline: float = FOREVER) -> list[Answer]:
        """Compute prepared pictures; see `Engine`."""
        with self._admission.places(len(images)):
            sources = [prepared(image) for image in images]
            rows = await self._batcher.submit_many(sources, deadline, together=len(sources) > 1)
            described = self._pool.submit(_described, images)
            statistics = await asyncio.wrap_future(described)
        return [Answer(row, 0.0, of) for row, of in zip(rows, statistics, strict=True)]

    async def _alone(self, picture: _Picture) -> Answer | ImageError:
        """Decode and compute a picture that has nobody beside it in one go: sooner than by way of
        the queue and another thread. Those that come meanwhile take that way. What it took says
        nothing of the pace at which many are answered.
        """

        def both() -> Answer:
            return picture.answer(self._batcher.compute_here(picture.prepare))

        loop = asyncio.get_running_loop()
        begun = loop.time()
        made = loop.run_in_executor(self._pool, both)
        made.add_done_callback(_look_at)
        try:
            answer = await made
            self._admission.note_lone(loop.time() - begun)
            return answer
        except ImageError as error:
            return error

    async def _one(self, picture: _Picture, deadline: float, together: bool) -> Answer | ImageError:
        try:
            if self._lanes.threads == 1:
                source = picture.prepare
            else:
                source = prepared(await self._decoded(picture))
            row = await self._batcher.submit(source, deadline, together=together)
            return picture.answer(row)
        except ImageError as error:
            return error

    def _decoded(self, picture: _Picture) -> asyncio.Future[ImageBatch]:
        """Have a picture decoded, and count it until its thread is done, whoever still wants it."""
        loop = asyncio.get_running_loop()
        future = self._pool.submit(picture.prepare)
        self._decoding += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._one_less))
        made = asyncio.wrap_future(future)
        made.add_done_callback(_look_at)
        return made

    def _one_less(self) -> None:
        self._decoding -= 1
        self._batcher.changed()

    def _make_admission(self, lone_seconds: float) -> Admission | Room:
        if not self._refuses:
            return Room(self._settings.max_queue)
        batcher = self._batcher
        return Admission(
            self._settings, batcher.pace, self._lanes.count, lone_seconds, batcher.turn_away
        )

    def _make_batcher(self, size: int) -> Batcher:
        # Held by each other, both would keep a model that was exchanged for a while yet.
        engine = weakref.ref(self)

        def on_their_way() -> int:
            this = engine()
            return 0 if this is None else this._decoding

        return Batcher(
            self._lanes.shared.run,
            max_batch_size=size,
            max_delay_ms=self._settings.max_delay_ms,
            max_queue=self._settings.max_queue,
            on_their_way=on_their_way,
            lanes=self._lanes.count,
            run_alone=self._lanes.alone.run,
        )


def measure_costs(predictor: Predictor, largest: int) -> dict[int, float]:
    """Measure how large batches should be; see `best_batch_size`, by which the sizes are chosen.

    Args:
        largest: not beyond this size.
    """
    height, width = predictor.image_size
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
    # The size matters where there is much to do.
    busy = lanes_of(predictor.backend).shared

    def run(size: int) -> None:
        busy.run(np.repeat(picture, size, axis=0))

    return best_batch_size(run, largest)


class _Picture:
    """A picture on its way: prepared in some thread, which notes what it took.

    Args:
        until: by the system's monotonic clock, when its time is over.
    """

    def __init__(self, predictor: Predictor, upload: Upload, until: float) -> None:
        self._predictor = predictor
        self._upload = upload
        self._until = until

    def prepare(self) -> ImageBatch:
        """Decode and resize it; uint8 [3, H, W].

        Raises:
            DeadlinePassed: many pictures were prepared before it.
            ImageError: it cannot be decoded.
        """
        if time.monotonic() >= self._until:
            raise DeadlinePassed("its time was over before all of it was decoded")
        started = time.perf_counter()
        image = self._predictor.prepare(self._upload.data, self._upload.name)
        self._statistics = picture_statistics(image)
        self._seconds = time.perf_counter() - started
        return image

    def answer(self, row: Row) -> Answer:
        """The answer, once it was prepared and computed."""
        return Answer(row, self._seconds, self._statistics)


def _described(images: ImageBatch) -> list[FloatArray]:
    return [picture_statistics(image) for image in images]


def _look_at(made: asyncio.Future[Any]) -> None:
    """Nobody else may be left to do it, and asyncio would complain."""
    if not made.cancelled():
        made.exception()
