"""The engine: bytes of pictures in, rows of outputs out; decoding in threads, computing in batches.

    bytes -> decode and resize (threads) -> queue -> batch -> compute (threads) -> rows

`local_engine.LocalEngine` does it in this process, `workers.WorkerEngine` in others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from taxon.bundle import ModelSpec
from taxon.core.errors import ImageError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference import Predictor
from taxon.serving.computing.batch import Row

FOREVER = float("inf")


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
        seconds_each: that a picture takes among many; 0: not measured.
        lone_seconds: that it takes by itself, decoding included; 0: not measured.
    """

    spec: ModelSpec
    image_size: tuple[int, int]
    frame: tuple[int, int] | None
    platform: str
    seconds_each: float = 0.0
    lone_seconds: float = 0.0


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
