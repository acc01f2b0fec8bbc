"""What every route asks: it has pictures computed, decides, and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from taxon.core.errors import ImageError
from taxon.core.predictions import ImageBatch, Prediction
from taxon.decision import decide
from taxon.serving.computing.batch import Row
from taxon.serving.computing.engine import Answer, Upload
from taxon.serving.metrics import ServerMetrics
from taxon.serving.models.served import Served
from taxon.serving.models.table import ModelTable
from taxon.serving.refusals import BadRequest
from taxon.serving.settings import ServingSettings

Pictures = ImageBatch | list[Upload]  # prepared ones, or files
Result = TypeVar("Result")
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

    def deadline(self, seconds: float | None = None) -> float:
        """By the event loop's clock, when the time of a request is over.

        Args:
            seconds: that it is to take at most; None: as long as is allowed.
        """
        allowed = self.settings.timeout_ms / 1000
        asked = allowed if seconds is None else seconds
        return asyncio.get_running_loop().time() + min(allowed, asked)

    async def classify(
        self, served: Served, pictures: Sequence[Upload], *, top: int, deadline: float
    ) -> list[Prediction]:
        """Predict pictures, in order; one that cannot be decoded has `error` set.

        Raises what `Engine.answer` raises.
        """
        answers = await served.engine.answer(pictures, deadline)
        return [
            self._said(served, picture.name, answer, top)
            for picture, answer in zip(pictures, answers, strict=True)
        ]

    async def rows(self, served: Served, pictures: Pictures, deadline: float) -> list[Row]:
        """Compute pictures; what is named of them is counted, as if they had been classified.

        Raises what `Engine.answer` raises, too.

        Raises:
            BadRequest: one cannot be decoded; there is no way to answer the others alone.
        """
        answers: Sequence[Answer | ImageError]
        if isinstance(pictures, np.ndarray):
            answers = await served.engine.compute(pictures, deadline)
        else:
            answers = await served.engine.answer(pictures, deadline)
        for answer in answers:
            self._said(served, "", answer, top=1)
        rows = []
        for answer in answers:
            if isinstance(answer, ImageError):
                raise BadRequest(str(answer))
            rows.append(answer.row)
        return rows

    def _said(self, served: Served, name: str, answer: Answer | ImageError, top: int) -> Prediction:
        self.metrics.computed(served.name, answer)
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
