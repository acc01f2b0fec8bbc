"""The engine: bytes of pictures in, rows of outputs out; decoding in threads, computing in batches.

    bytes -> decode and resize (threads) -> queue -> batch -> compute (threads) -> rows

`LocalEngine` does it in this process; `workers.WorkerEngine` has other processes do it.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.cores import available_cores
from taxon.core.errors import ImageError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference import Predictor
from taxon.inference.lanes import Lanes
from taxon.preprocessing.statistics import picture_statistics
from taxon.serving.computing.batcher import Batcher, DeadlinePassed, Overloaded, Row
from taxon.serving.computing.pace import Pace, best_batch_size
from taxon.serving.settings import ServingSettings

FOREVER = float("inf")
_Prepared = tuple[ImageBatch, float, FloatArray]  # a picture, the seconds it took, its statistics


class TooMany(ValueError):
    """More pictures than one request may bring."""


@dataclass(frozen=True)
class Upload:
    """One picture as it was sent.

    Attributes:
        name: that answers give it.
        part: its bytes, as they lie in the body of the request: all of them are in memory once.
    """

    name: str
    part: bytes | memoryview

    @property
    def data(self) -> bytes:
        """Its bytes; a copy where they lie among others."""
        return bytes(self.part)


@dataclass(frozen=True)
class Answer:
    """What an engine gives for one picture.

    Attributes:
        row: the outputs.
        decode_seconds: that it took to decode and resize; 0 where it came prepared.
        statistics: float32 [K], what `picture_statistics` says of it.
    """

    row: Row
    decode_seconds: float
    statistics: FloatArray


@dataclass(frozen=True)
class Description:
    """What an engine computes.

    Attributes:
        image_size: (height, width) in pixels of prepared pictures.
        frame: (width, height) where whole pictures of this size go in; None: this side resizes.
        platform: how the backend is called.
    """

    spec: ModelSpec
    image_size: tuple[int, int]
    frame: tuple[int, int] | None
    platform: str


def describe(predictor: Predictor) -> Description:
    """Describe a predictor."""
    return Description(
        predictor.spec, predictor.image_size, predictor.frame, predictor.backend.name
    )


class Engine(Protocol):
    """Computes pictures for one model."""

    @property
    def description(self) -> Description:
        """What it computes; known once it is started."""

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""

    @property
    def depth(self) -> int:
        """How many pictures are admitted and not yet answered."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Finish what was admitted, and end."""

    async def answer(
        self, pictures: Sequence[Upload], deadline: float = FOREVER
    ) -> list[Answer | ImageError]:
        """Decode and compute pictures, in their order; one that cannot be decoded gives its error.

        Args:
            deadline: by the event loop's clock.

        Raises:
            TooMany: more pictures than one request may bring.
            Overloaded: no room at the moment.
            DeadlinePassed: the time was over before they were computed.
            ComputationFailed: the backend failed.
        """

    async def compute(self, images: ImageBatch, deadline: float = FOREVER) -> list[Answer]:
        """Compute prepared pictures, uint8 [N, 3, H, W]; raises what `answer` raises."""


class LocalEngine:
    """An engine in this process.

    Args:
        predictor: the model.
        settings: batching and limits.
        threads: that decode; None: one a core.
    """

    def __init__(
        self, predictor: Predictor, settings: ServingSettings, threads: int | None = None
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._threads = threads or available_cores()
        self._admitted = 0
        self._decoding = 0
        self._batcher = self._make_batcher(settings.max_batch_size)
        self.description = describe(predictor)

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""
        return self._batcher.running

    @property
    def depth(self) -> int:
        """How many pictures are admitted and not yet answered."""
        return self._admitted

    async def start(self) -> None:
        """Measure how large batches should be, and start the threads."""
        loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="taxon-decode")
        self.costs = await loop.run_in_executor(self._pool, self._measure)
        self._batcher = self._make_batcher(max(self.costs))
        # The first batch alone, slow since all is cold, would have the next requests refused.
        self._batcher.pace = Pace(self.costs[max(self.costs)])
        await self._batcher.start()

    async def stop(self) -> None:
        """Finish what was admitted and end the threads."""
        await self._batcher.stop()
        await asyncio.to_thread(self._pool.shutdown)  # pictures that nobody wants may still decode

    async def answer(
        self, pictures: Sequence[Upload], deadline: float = FOREVER
    ) -> list[Answer | ImageError]:
        """Decode and compute pictures; see `Engine`."""
        with self._places(len(pictures)):
            until = time.monotonic() + deadline - asyncio.get_running_loop().time()
            if self._admitted == 1 and self._batcher.running:
                return [await self._alone(pictures[0], until)]
            prepared = [self._decode(picture, until) for picture in pictures]
            answers = [asyncio.ensure_future(self._one(one, deadline)) for one in prepared]
            try:
                return await asyncio.gather(*answers)
            finally:  # where one fails, nobody wants the others any more
                unwanted: list[asyncio.Future[Any]] = [*answers, *prepared]
                for each in unwanted:
                    each.cancel()

    async def compute(self, images: ImageBatch, deadline: float = FOREVER) -> list[Answer]:
        """Compute prepared pictures; see `Engine`."""
        with self._places(len(images)):
            rows = await self._batcher.submit_many(list(images), deadline)
        return [
            Answer(row, 0.0, picture_statistics(image))
            for row, image in zip(rows, images, strict=True)
        ]

    async def _alone(self, picture: Upload, until: float) -> Answer | ImageError:
        """Decode and compute a picture that has nobody beside it in one go: sooner than by way of
        the queue and another thread. Those that come meanwhile take that way. What it took says
        nothing of the pace at which many are answered.
        """
        loop = asyncio.get_running_loop()
        made = loop.run_in_executor(self._pool, self._prepare_and_compute, until, picture)
        made.add_done_callback(_look_at)
        try:
            return await made
        except ImageError as error:
            return error

    def _decode(self, picture: Upload, until: float) -> asyncio.Future[_Prepared]:
        """Have a picture decoded, and count it until its thread is done, whoever still wants it."""
        loop = asyncio.get_running_loop()
        future = self._pool.submit(self._prepare_in_time, until, picture)
        self._decoding += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._decoded))
        made = asyncio.wrap_future(future)
        made.add_done_callback(_look_at)
        return made

    def _decoded(self) -> None:
        self._decoding -= 1
        self._batcher.changed()

    async def _one(
        self, prepared: asyncio.Future[_Prepared], deadline: float
    ) -> Answer | ImageError:
        try:
            image, seconds, statistics = await prepared
        except ImageError as error:
            return error
        row = await self._batcher.submit(image, deadline)
        return Answer(row, seconds, statistics)

    def _prepare(self, picture: Upload) -> _Prepared:
        started = time.perf_counter()
        image = self._predictor.prepare(picture.data, picture.name)
        statistics = picture_statistics(image)
        return image, time.perf_counter() - started, statistics

    def _prepare_in_time(self, until: float, picture: Upload) -> _Prepared:
        if time.monotonic() >= until:  # many pictures may wait for those before them
            raise DeadlinePassed("its time was over before all of it was decoded")
        return self._prepare(picture)

    def _prepare_and_compute(self, until: float, picture: Upload) -> Answer:
        image, seconds, statistics = self._prepare_in_time(until, picture)
        return Answer(self._batcher.compute_here(image), seconds, statistics)

    def _measure(self) -> dict[int, float]:
        height, width = self._predictor.image_size
        picture = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)

        backend = self._predictor.backend
        # The size matters where there is much to do.
        busy = backend.shared if isinstance(backend, Lanes) else backend

        def run(size: int) -> None:
            busy.run(np.repeat(picture, size, axis=0))

        return best_batch_size(run, self._settings.max_batch_size)

    def _make_batcher(self, size: int) -> Batcher:
        backend = self._predictor.backend
        lanes = backend if isinstance(backend, Lanes) else Lanes(backend, backend, 1)
        # Held by each other, both would keep a model that was exchanged for a while yet.
        engine = weakref.ref(self)

        def on_their_way() -> int:
            this = engine()
            return 0 if this is None else this._decoding

        return Batcher(
            lanes.shared.run,
            max_batch_size=size,
            max_delay_ms=self._settings.max_delay_ms,
            max_queue=self._settings.max_queue,
            on_their_way=on_their_way,
            lanes=lanes.count,
            run_alone=lanes.alone.run,
        )

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """Hold places from before decoding to the answer, so that decoding is bounded too."""
        limit, wait = self._settings.max_queue, self._batcher.pace.wait(self._admitted)
        if count > limit:
            raise TooMany(f"{count} pictures in one request; at most {limit} are allowed")
        if self._admitted + count > limit:
            raise Overloaded(
                f"the server is busy ({self._admitted} of {limit} places taken, {count} wanted); "
                "try again shortly",
                "queue",
                max(1.0, wait),
            )
        if wait * 1000 > self._settings.max_wait_ms:
            raise Overloaded(
                f"the server is busy (a wait of {wait * 1000:.0f} ms, at most "
                f"{self._settings.max_wait_ms:.0f} are allowed); try again shortly",
                "wait",
                max(1.0, wait),
            )
        self._admitted += count
        try:
            yield
        finally:
            self._admitted -= count


def _look_at(made: asyncio.Future[Any]) -> None:
    """Nobody else may be left to do it, and asyncio would complain."""
    if not made.cancelled():
        made.exception()
