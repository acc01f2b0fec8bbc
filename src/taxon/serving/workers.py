"""Computing processes and the engine that they make up together.

The server keeps the connections to clients; a process that dies takes only the pictures with it
that it was computing. Their requests get an error that says so, and another one takes its place.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxon.core.errors import BundleError, ImageError
from taxon.core.predictions import ImageBatch
from taxon.serving.batcher import Overloaded
from taxon.serving.engine import FOREVER, Answer, Description, Upload
from taxon.serving.wire import (
    Frame,
    answers_of,
    description_of,
    error_of,
    read_frame,
    write_frame,
)

_log = logging.getLogger("taxon.serving")
_PAUSES = (0.1, 0.5, 2.0, 10.0)  # seconds before a process that died again and again is replaced
_keys = itertools.count()
_STEADY_SECONDS = 60.0  # a process that lived so long died by chance


class WorkerLost(Overloaded):
    """The process that computed the pictures ended; the same request may work at once."""

    def __init__(self) -> None:
        super().__init__(
            "the process that computed this ended; it is being replaced, try again shortly",
            "worker",
        )


class Worker:
    """One computing process.

    Args:
        command: starts it; the number of its socket is put at the end.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self.pictures = 0  # under way
        self.alive = False

    @property
    def process_id(self) -> int:
        """Its number in the system."""
        return self._process.pid

    async def start(self) -> None:
        """Start it."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(theirs.fileno()), pass_fds=[theirs.fileno()]
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self.alive = True
        self._reading = asyncio.create_task(self._read(reader))

    async def stop(self) -> None:
        """Let it finish, and wait for its end."""
        self.alive = False
        self._writer.close()
        await self._process.wait()
        await self._reading

    async def ended(self) -> None:
        """Wait until it ends, for whatever reason."""
        await self._process.wait()
        await self._reading

    async def ask(self, header: dict[str, Any], payload: bytes = b"") -> Frame:
        """Send a request and wait for its answer.

        Raises:
            WorkerLost: it ended before it answered.
        """
        if not self.alive:
            raise WorkerLost
        number = next(self._numbers)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            write_frame(self._writer, Frame({"id": number, **header}, payload))
            frame = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in frame.header:
            raise error_of(frame.header)
        return frame

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                frame = await read_frame(reader)
                future = self._waiting.get(frame.header["id"])
                if future is not None and not future.done():
                    future.set_result(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.alive = False
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerLost())


class WorkerPool:
    """Several computing processes, replaced when they die; each has every model.

    Args:
        command: starts one; the number of its socket is put at the end.
        count: how many.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._count = count
        self._models: dict[str, Path] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.workers: list[Worker] = []
        self.lost = 0

    async def start(self) -> None:
        """Start all."""
        self.workers = [Worker(self._command) for _ in range(self._count)]
        await asyncio.gather(*(worker.start() for worker in self.workers))
        self._keepers = [asyncio.create_task(self._keep(at)) for at in range(self._count)]

    async def stop(self) -> None:
        """Let all finish, and wait for their ends."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def load(self, key: str, path: Path) -> Description:
        """Have every process open a model; all of them do, or none keeps it.

        Raises:
            BundleError: one could not, and why.
        """
        try:
            frames = await asyncio.gather(*(_load(worker, key, path) for worker in self.workers))
        except Exception as error:
            await self.unload(key)
            raise BundleError(str(error)) from error
        self._models[key] = path
        return description_of(frames[0])

    async def unload(self, key: str) -> None:
        """Have every process close a model, after what it was asked."""
        self._models.pop(key, None)
        asked = (worker.ask({"do": "unload", "model": key}) for worker in self.workers)
        await asyncio.gather(*asked, return_exceptions=True)

    def least_busy(self) -> Worker:
        """The process with the fewest pictures under way.

        Raises:
            Overloaded: none is there at the moment.
        """
        alive = [worker for worker in self.workers if worker.alive]
        if not alive:
            raise Overloaded("all computing processes are being replaced; try again", "worker")
        return min(alive, key=lambda worker: worker.pictures)

    async def _keep(self, place: int) -> None:
        """Replace the process at a place whenever it ends."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._stopping:
            born = loop.time()
            await self.workers[place].ended()
            self.lost += 1
            deaths = 0 if loop.time() - born > _STEADY_SECONDS else deaths + 1
            _log.error("a computing process ended; it is being replaced")
            await asyncio.sleep(_PAUSES[min(deaths, len(_PAUSES) - 1)] if deaths > 1 else 0)
            worker = Worker(self._command)
            await worker.start()
            for key, path in list(self._models.items()):
                await _load(worker, key, path)
            self.workers[place] = worker


async def _load(worker: Worker, key: str, path: Path) -> Frame:
    return await worker.ask({"do": "load", "model": key, "path": os.fspath(path)})


class WorkerEngine:
    """One model in all processes of a pool; see `engine.Engine`."""

    def __init__(self, pool: WorkerPool, path: Path) -> None:
        self._pool = pool
        self._key = f"{next(_keys)} {path}"  # another one each time that a model is opened
        self._path = path
        self._admitted = 0
        self._running = False

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""
        return self._running and any(worker.alive for worker in self._pool.workers)

    @property
    def depth(self) -> int:
        """How many pictures are admitted and not yet answered."""
        return self._admitted

    async def start(self) -> None:
        """Have the processes open the model."""
        self.description = await self._pool.load(self._key, self._path)
        self._running = True

    async def stop(self) -> None:
        """Have the processes close the model, after what they were asked."""
        self._running = False
        await self._pool.unload(self._key)

    async def answer(
        self, pictures: Sequence[Upload], deadline: float = FOREVER
    ) -> list[Answer | ImageError]:
        """Have a process decode and compute pictures."""
        header = {
            "do": "answer",
            "names": [picture.name for picture in pictures],
            "sizes": [len(picture.data) for picture in pictures],
        }
        payload = b"".join(picture.data for picture in pictures)
        return await self._ask(header, payload, len(pictures), deadline)

    async def compute(self, images: ImageBatch, deadline: float = FOREVER) -> list[Answer]:
        """Have a process compute prepared pictures."""
        header = {"do": "compute", "shape": list(images.shape)}
        answers = await self._ask(header, images.tobytes(), len(images), deadline)
        return [answer for answer in answers if isinstance(answer, Answer)]

    async def _ask(
        self, header: dict[str, Any], payload: bytes, count: int, deadline: float
    ) -> list[Answer | ImageError]:
        worker = self._pool.least_busy()
        if deadline != FOREVER:
            header["timeout"] = deadline - asyncio.get_running_loop().time()
        worker.pictures += count
        self._admitted += count
        try:
            return answers_of(await worker.ask({"model": self._key, **header}, payload))
        finally:
            worker.pictures -= count
            self._admitted -= count
