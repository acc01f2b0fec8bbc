"""What every route asks: it finds the model, has it computed, decides, and counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request

from taxon.core.errors import ImageError
from taxon.core.predictions import ImageBatch, Prediction
from taxon.decision import decide
from taxon.serving.computing.engine import Answer, Upload
from taxon.serving.http.limits import whole_number
from taxon.serving.metrics import ServerMetrics
from taxon.serving.models.served import Served
from taxon.serving.models.table import ModelTable
from taxon.serving.refusals import BadRequest
from taxon.serving.settings import ServingSettings

Result = TypeVar("Result")
TIMEOUT_HEADER = "x-timeout-ms"
LARGE = 1 << 20  # bytes of a body that takes a while to take apart


@dataclass(frozen=True)
class Desk:
    """The models, limits and metrics of a server."""

    table: ModelTable
    settings: ServingSettings
    metrics: ServerMetrics
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def take_apart(self, size: int, work: Callable[[], Result]) -> Result:
        """Do in a thread what takes a body of so many bytes apart; large ones take turns.

        Meanwhile there are copies of it, which nobody counts: so of one body at a time. It takes no
        longer, as Python runs one thread at a time.
        """
        async with self._turn if size > LARGE else nullcontext():
            return await asyncio.to_thread(work)

    @asynccontextmanager
    async def model(self, name: str | None, version: str | None) -> AsyncIterator[Served]:
        """Hold a model; raises `UnknownModel`."""
        async with self.table.use(name, version) as served:
            yield served

    def deadline(self, request: Request) -> float:
        """By the event loop's clock, when this request's time is over.

        Raises:
            BadRequest: the header asks for what is no time.
        """
        asked = request.headers.get(TIMEOUT_HEADER)
        if asked is None:
            return self.deadline_in(None)
        milliseconds = whole_number(asked)
        if not milliseconds:
            raise BadRequest(f"{TIMEOUT_HEADER} is '{asked[:20]}'; it must be whole milliseconds")
        return self.deadline_in(milliseconds / 1000)

    def deadline_in(self, seconds: float | None) -> float:
        """The same, of a request that is to take so long at most; None: as long as is allowed."""
        allowed = self.settings.timeout_ms / 1000
        asked = allowed if seconds is None else seconds
        return asyncio.get_running_loop().time() + min(allowed, asked)

    async def answers(
        self, served: Served, pictures: Sequence[Upload], deadline: float
    ) -> list[Answer | ImageError]:
        """Decode and compute pictures, and count them; raises what `Engine.answer` raises."""
        answers = await served.engine.answer(pictures, deadline)
        for answer in answers:
            self.metrics.computed(served.name, answer)
        return answers

    async def compute(self, served: Served, images: ImageBatch, deadline: float) -> list[Answer]:
        """Compute prepared pictures, and count them; raises what `Engine.compute` raises."""
        answers = await served.engine.compute(images, deadline)
        for answer in answers:
            self.metrics.computed(served.name, answer)
        return answers

    async def classify(
        self, served: Served, pictures: Sequence[Upload], *, top: int, deadline: float
    ) -> list[Prediction]:
        """Predict pictures, in order; one that cannot be decoded has `error` set."""
        answers = await self.answers(served, pictures, deadline)
        return [
            self._said(served, picture.name, answer, top)
            for picture, answer in zip(pictures, answers, strict=True)
        ]

    def _said(self, served: Served, name: str, answer: Answer | ImageError, top: int) -> Prediction:
        if isinstance(answer, ImageError):
            return Prediction(path=name, error=answer.reason)
        spec, row = served.spec, answer.row
        prediction = decide(
            name, row.probabilities, spec.label_space, spec.policy, scope=row.scope, top=top
        )
        self.metrics.predicted(served.name, prediction)
        if served.drift is not None:
            served.drift.add(prediction, answer.statistics.tolist())
        return prediction
