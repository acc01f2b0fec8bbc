"""The predictor: pictures in, predictions out, whichever backend computes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.cores import available_cores
from taxon.core.errors import ImageError
from taxon.core.predictions import FloatArray, ImageBatch, Prediction
from taxon.decision import decide
from taxon.inference.backend import Backend, Outputs
from taxon.preprocessing.decode import read_picture
from taxon.preprocessing.preparation import Preparation

DEFAULT_BATCH_SIZE = 16


class Readable(Protocol):
    """A picture whose bytes can be had; `read` may raise an `ImageError`."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes: ...


class Predictor:
    """A model ready to answer.

    Args:
        spec: class names, preprocessing and policy.
        backend: what computes the graph.
        frame: (width, height) of the pictures, where the resize is in the graph; None: this
            predictor resizes.
    """

    def __init__(
        self, spec: ModelSpec, backend: Backend, *, frame: tuple[int, int] | None = None
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.frame = frame

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what the backend takes."""
        _, height, width = self.preparation.shape
        return height, width

    @property
    def preparation(self) -> Preparation:
        """What becomes of a picture's bytes before the backend."""
        return Preparation(self.spec.preprocessing, self.frame)

    def limited_to(self, max_pixels: int) -> Predictor:
        """Return this predictor, refusing pictures of more pixels, where it would take them."""
        preprocessing = self.spec.preprocessing
        limit = min(preprocessing.max_pixels, max_pixels)
        limited = preprocessing.model_copy(update={"max_pixels": limit})
        spec = self.spec.model_copy(update={"preprocessing": limited})
        return Predictor(spec, self.backend, frame=self.frame)

    def prepare(self, data: bytes, source: str = "picture") -> ImageBatch:
        """Bytes of one picture -> uint8 [3, H, W], what the backend takes.

        Raises:
            ImageError: it cannot be decoded, or has not the size that the graph takes.
        """
        return self.preparation.prepare(data, source)

    def run(self, images: ImageBatch) -> Outputs:
        """Compute prepared pictures, uint8 [N, 3, H, W]."""
        return self.backend.run(images)

    def run_rows(self, images: ImageBatch) -> Iterator[tuple[FloatArray, float | None]]:
        """Compute prepared pictures; give the probabilities and the scope of each."""
        outputs = self.run(images)
        scopes = [None] * len(images) if outputs.scope is None else outputs.scope.tolist()
        return zip(outputs.probabilities, scopes, strict=True)

    def decide(
        self, path: str, probabilities: FloatArray, *, scope: float | None = None, top: int = 5
    ) -> Prediction:
        """One row of probabilities, float32 [C], and its scope if there is one -> a prediction."""
        space, policy = self.spec.label_space, self.spec.policy
        return decide(path, probabilities, space, policy, scope=scope, top=top)

    def predict(
        self, paths: Iterable[Path], *, top: int = 5, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Iterator[Prediction]:
        """Predict files, in order, with bounded memory.

        A picture that cannot be read gives a prediction with `error` set; the rest go on.
        """
        return self.predict_each(map(_File, paths), top=top, batch_size=batch_size)

    def predict_each(
        self, pictures: Iterable[Readable], *, top: int = 5, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Iterator[Prediction]:
        """Like `predict`, of pictures that lie anywhere."""
        for batch, prepared in self._prepared(pictures, batch_size):
            readable = [image for image in prepared if not isinstance(image, ImageError)]
            rows = self.run_rows(np.stack(readable)) if readable else iter(())
            for picture, image in zip(batch, prepared, strict=True):
                if isinstance(image, ImageError):
                    yield Prediction(path=picture.name, error=image.reason)
                else:
                    probabilities, scope = next(rows)
                    yield self.decide(picture.name, probabilities, scope=scope, top=top)

    def _prepared(
        self, pictures: Iterable[Readable], batch_size: int
    ) -> Iterator[tuple[Sequence[Readable], list[ImageBatch | ImageError]]]:
        """Decode one batch ahead of the computation, on all cores."""
        remaining = iter(pictures)
        with ThreadPoolExecutor(available_cores()) as pool:
            ahead = None
            while True:
                batch = list(islice(remaining, batch_size))
                following = (batch, [pool.submit(self._try_prepare, each) for each in batch])
                if ahead is not None:
                    yield ahead[0], [future.result() for future in ahead[1]]
                if not batch:
                    return
                ahead = following

    def _try_prepare(self, picture: Readable) -> ImageBatch | ImageError:
        try:
            return self.prepare(picture.read(), picture.name)
        except ImageError as error:
            return error


@dataclass(frozen=True)
class _File:
    """A picture that is a file of this machine."""

    path: Path

    @property
    def name(self) -> str:
        # A name that is no UTF-8 cannot be written to a table; its odd bytes are escaped.
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")

    def read(self) -> bytes:
        return read_picture(self.path)
