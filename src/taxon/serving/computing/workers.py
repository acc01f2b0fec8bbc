"""Computing processes and the engine that they make up together.

The server keeps the connections to clients; a process that dies takes only the pictures with it
that it was computing. Their requests get an error that says so, and another one takes its place.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taxon.core.errors import BundleError, ImageError, TaxonError
from taxon.core.predictions import ImageBatch
from taxon.serving.computing.admission import Admission
from taxon.serving.computing.engine import FOREVER, Answer, Description, Upload
from taxon.serving.computing.errors import DeadlinePassed, Overloaded
from taxon.serving.computing.pace import Pace
from taxon.serving.computing.wire import Frame, answers_of, description_of
from taxon.serving.computing.worker_process import Worker, WorkerLost
from taxon.serving.settings import ServingSettings

_log = logging.getLogger("taxon.serving")
_PAUSES = (0.0, 0.0, 0.5, 2.0, 10.0)  # seconds before it is replaced, by how often it died lately
_LATE_SECONDS = 0.5  # that a process has, after a request's time was over, to say that it was
_HUNG_SECONDS = 60.0  # without a word: it gives no answer any more
_keys = itertools.count()
_NONE_RUNS = "all computing processes are being replaced; try again shortly"
_STEADY_SECONDS = 60.0  # a process that lived so long died by chance


@dataclass(frozen=True)
class _Model:
    """What every process of a pool has."""

    path: Path
    fingerprint: str


class WorkerPool:
    """Several computing processes, replaced when they die; each has every model.

    Args:
        command: starts one; the number of its socket is put at the end.
        count: how many.
        hung_seconds: without a word while requests wait for it; then a process is replaced.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        hung_seconds: float = _HUNG_SECONDS,
    ) -> None:
        self._command = command
        self.count = count
        self.hung_seconds = hung_seconds
        self._models: dict[str, _Model] = {}
        self._loading = asyncio.Lock()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.workers: list[Worker] = []
        self.lost = 0

    async def start(self) -> None:
        """Start all."""
        self.workers = [Worker(self._command) for _ in range(self.count)]
        await asyncio.gather(*(worker.start() for worker in self.workers))
        self._keepers = [asyncio.create_task(self._keep(at)) for at in range(self.count)]

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
            Overloaded: none runs at the moment.
        """
        async with self._loading:
            running = [worker for worker in self.workers if worker.alive]
            results = await asyncio.gather(
                *(worker.load(key, path) for worker in running), return_exceptions=True
            )
            # One that ended meanwhile is replaced, and its successor opens the model too.
            frames = [each for each in results if isinstance(each, Frame)]
            errors = [
                each
                for each in results
                if isinstance(each, Exception) and not isinstance(each, WorkerLost)
            ]
            found = [description_of(frame) for frame in frames]
            if not errors and len({each.spec.fingerprint for each in found}) > 1:
                errors = [BundleError(f"{path} was changed while it was opened")]
            if errors or not found:
                await self.unload(key)
                raise _known(errors[0]) if errors else Overloaded(_NONE_RUNS, "worker")
            self._models[key] = _Model(path, found[0].spec.fingerprint)
            return found[0]

    async def unload(self, key: str) -> None:
        """Have every process close a model, after what it was asked."""
        self._models.pop(key, None)
        having = [worker for worker in self.workers if key in worker.models]
        await asyncio.gather(*(worker.unload(key) for worker in having), return_exceptions=True)

    @property
    def complete(self) -> int:
        """How many processes run and have all models."""
        return sum(each.alive and self._models.keys() <= each.models for each in self.workers)

    def has(self, key: str) -> bool:
        """Whether a process runs that has the model."""
        return bool(self.having(key))

    def having(self, key: str) -> list[Worker]:
        """The processes that run and have the model."""
        return [worker for worker in self.workers if worker.alive and key in worker.models]

    def least_busy(self, key: str) -> Worker:
        """The process with the fewest pictures under way, of those that have the model.

        Raises:
            Overloaded: none is there at the moment.
        """
        having = self.having(key)
        if not having:
            raise Overloaded(_NONE_RUNS, "worker")
        return min(having, key=lambda worker: worker.pictures)

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
            await asyncio.sleep(_PAUSES[min(deaths, len(_PAUSES) - 1)])
            while not await self._replace(place):
                await asyncio.sleep(_PAUSES[-1])

    async def _replace(self, place: int) -> bool:
        """Start another process in a place; it opens all models. Whether it could be started."""
        worker = Worker(self._command)
        try:
            await worker.start()
        except OSError as error:
            _log.error("a computing process cannot be started: %s", error)
            return False
        self.workers[place] = worker
        async with self._loading:
            for key, model in list(self._models.items()):
                if key in worker.models:  # `load` found it here already
                    continue
                try:
                    await self._load_same(worker, key, model)
                except WorkerLost:
                    break
                except Exception as error:  # the others go on with it, and this one with the rest
                    _log.error("a new computing process goes without %s: %s", model.path, error)
        return True

    async def _load_same(self, worker: Worker, key: str, model: _Model) -> None:
        """Have a process open what the others have: not what lies there now, if that is another."""
        frame = await worker.load(key, model.path)
        same = description_of(frame).spec.fingerprint == model.fingerprint
        if not same or key not in self._models:  # or it was closed meanwhile
            await worker.unload(key)
        if not same:
            raise BundleError("another model lies there now")


def _known(error: Exception) -> TaxonError:
    """The error of a process as it is, where it is one that users are told."""
    return error if isinstance(error, TaxonError) else BundleError(str(error))


class WorkerEngine:
    """One model in all processes of a pool; see `engine.Engine`.

    What is too much is refused here, before it is sent to a process.
    """

    def __init__(self, pool: WorkerPool, path: Path, settings: ServingSettings) -> None:
        self._pool = pool
        self._key = f"{next(_keys)} {path}"  # another one each time that a model is opened
        self._path = path
        self._settings = settings
        self._pace = Pace()
        self._admission = self._make_admission(0.0)
        self._running = False

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""
        return self._running and self._pool.has(self._key)

    @property
    def depth(self) -> int:
        """How many pictures are admitted and not yet answered."""
        return self._admission.taken

    async def start(self) -> None:
        """Have the processes open the model."""
        self.description = await self._pool.load(self._key, self._path)
        self._pace = Pace(self.description.seconds_each / self._pool.count)
        self._admission = self._make_admission(self.description.lone_seconds)
        self._running = True

    async def stop(self) -> None:
        """Have the processes close the model, after what they were asked."""
        self._running = False
        await self._pool.unload(self._key)

    async def answer(
        self, pictures: Sequence[Upload], deadline: float = FOREVER
    ) -> list[Answer | ImageError]:
        """Have a process decode and compute pictures."""
        header = {"do": "answer", "names": [picture.name for picture in pictures]}
        request = Frame(header, [picture.part for picture in pictures])
        return await self._ask(request, len(pictures), deadline)

    async def compute(self, images: ImageBatch, deadline: float = FOREVER) -> list[Answer]:
        """Have a process compute prepared pictures."""
        header = {"do": "compute", "shape": list(images.shape)}
        values = np.ascontiguousarray(images).data.cast("B")
        answers = await self._ask(Frame(header, [values]), len(images), deadline)
        return [answer for answer in answers if isinstance(answer, Answer)]

    async def _ask(self, request: Frame, count: int, deadline: float) -> list[Answer | ImageError]:
        with self._admission.places(count):
            lone = count == self._admission.taken == 1
            begun = asyncio.get_running_loop().time()
            answers = await self._ask_one(request, count, deadline)
            ended = asyncio.get_running_loop().time()
            if not lone:
                self._pace.note(count, begun, ended)
            elif request.header["do"] == "answer" and isinstance(answers[0], Answer):
                self._admission.note_lone(ended - begun)
            return answers

    async def _ask_one(
        self, request: Frame, count: int, deadline: float
    ) -> list[Answer | ImageError]:
        """Ask the process that has the least to do."""
        worker = self._pool.least_busy(self._key)
        header = {"model": self._key, **request.header}
        left = None
        if deadline != FOREVER:
            left = deadline - asyncio.get_running_loop().time()
            header["timeout"] = left
        worker.pictures += count
        try:
            async with asyncio.timeout(None if left is None else max(0.0, left) + _LATE_SECONDS):
                return answers_of(await worker.ask(header, request.parts))
        except TimeoutError:
            if worker.silent_seconds > self._pool.hung_seconds:
                _log.error("a computing process does not answer; it is ended")
                worker.kill()
            raise DeadlinePassed("its time was over before it was computed") from None
        finally:
            worker.pictures -= count

    def _make_admission(self, lone_seconds: float) -> Admission:
        return Admission(
            self._settings, self._pace, self._pool.count, lone_seconds, self._turn_away
        )

    def _turn_away(self, longest: float) -> None:
        """Have the processes turn away what would wait longer in them."""
        for worker in self._pool.having(self._key):
            worker.turn_away(self._key, longest)
