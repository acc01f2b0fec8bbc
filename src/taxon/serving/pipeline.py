"""From the bytes of pictures to predictions: decoding in threads, computing in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from fastapi import HTTPException

from taxon.core.cores import available_cores
from taxon.core.errors import ImageError
from taxon.core.predictions import ImageBatch, Prediction
from taxon.inference import Predictor
from taxon.serving.batcher import Batcher, Overloaded, Row
from taxon.serving.settings import ServingSettings

Result = TypeVar("Result")


@dataclass(frozen=True)
class Upload:
    """One picture as it was sent: the name that answers give it, and its bytes."""

    name: str
    data: bytes


class Pipeline:
    """What every route asks: it admits, decodes, batches and decides.

    Args:
        predictor: the model.
        settings: batching and limits.
    """

    def __init__(self, predictor: Predictor, settings: ServingSettings) -> None:
        self.predictor = predictor
        self.settings = settings
        self._batcher = Batcher(
            predictor.run,
            max_batch_size=settings.max_batch_size,
            max_delay_ms=settings.max_delay_ms,
            max_queue=settings.max_queue,
        )
        self._admitted = 0

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""
        return self._batcher.running

    async def start(self) -> None:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="taxon-decode")
        await self._batcher.start()

    async def stop(self) -> None:
        """Finish what was admitted and end the threads."""
        await self._batcher.stop()
        self._pool.shutdown()

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do work that would hold up the event loop in one of the decoding threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def classify(self, pictures: Sequence[Upload], *, top: int) -> list[Prediction]:
        """Predict pictures, in order; one that cannot be decoded has `error` set.

        Raises:
            HTTPException: more pictures than one request may bring (413).
            Overloaded: no room at the moment.
            ComputationFailed: the backend failed.
        """
        rows = await self.rows(pictures)

        def decide_all() -> list[Prediction]:
            return [
                Prediction(path=picture.name, error=row.reason)
                if isinstance(row, ImageError)
                else self.predictor.decide(
                    picture.name, row.probabilities, scope=row.scope, top=top
                )
                for picture, row in zip(pictures, rows, strict=True)
            ]

        return await self.in_thread(decide_all)

    async def rows(self, pictures: Sequence[Upload]) -> list[Row | ImageError]:
        """Decode and compute pictures, in order; raises what `classify` raises."""
        with self._places(len(pictures)):
            return await asyncio.gather(*(self._row(picture) for picture in pictures))

    async def compute(self, images: ImageBatch) -> list[Row]:
        """Compute prepared pictures, uint8 [N, 3, H, W]; raises what `classify` raises."""
        with self._places(len(images)):
            return await self._batcher.submit_many(list(images))

    async def _row(self, picture: Upload) -> Row | ImageError:
        try:
            image = await self.in_thread(lambda: self.predictor.prepare(picture.data, picture.name))
        except ImageError as error:
            return error
        return await self._batcher.submit(image)

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """Hold places from before decoding to the answer, so that decoding is bounded too."""
        limit = self.settings.max_queue
        if count > limit:
            raise HTTPException(
                413, f"{count} pictures in one request; at most {limit} are allowed"
            )
        if self._admitted + count > limit:
            raise Overloaded(
                f"the server is busy ({self._admitted} of {limit} places taken, {count} wanted); "
                "try again shortly"
            )
        self._admitted += count
        try:
            yield
        finally:
            self._admitted -= count
