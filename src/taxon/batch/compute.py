"""What is computed of the pictures of a job: predictions, or features."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from taxon.batch.items import Item, prepare_items
from taxon.core.errors import CheckFailed, ImageError, OutputError
from taxon.core.predictions import FloatArray, ImageBatch, Prediction
from taxon.inference import Embedder, Predictor, load_embedder, load_predictor
from taxon.inference.load import BackendName
from taxon.inference.prediction_rows import PREDICTION_SCHEMA, prediction_rows
from taxon.preprocessing.preparation import Preparation

Verb = Literal["predict", "embed"]
# Between machines: what float32 of an artefact may differ from the trained model.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Opening:
    """How a process opens the model; plain values, which travel to other machines.

    Attributes:
        top: how many of the most probable classes a prediction lists.
        threads: that compute a batch; one, so that results do not depend on the machine's cores.
    """

    verb: Verb
    model: Path
    backend: BackendName = "auto"
    device: str = "cpu"
    top: int = 5
    threads: int | None = 1


class Computer(Protocol):
    """A model that makes rows of prepared pictures."""

    @property
    def name(self) -> str:
        """Of the runtime that computes."""

    @property
    def schema(self) -> pa.Schema:
        """The columns: `path` first, `error` last."""

    @property
    def preparation(self) -> Preparation:
        """What becomes of a picture's bytes before it."""

    def outputs(self, images: ImageBatch) -> FloatArray:
        """Compute uint8 [N, 3, H, W] -> float32 [N, C]: what rows are made of."""

    def rows(
        self, names: Sequence[str], images: Sequence[ImageBatch | ImageError], batch_size: int
    ) -> pa.Table:
        """A row a picture, in order; of one that could not be read, with the reason."""


class PredictComputer:
    """Predictions; the columns of `taxon predict`."""

    schema = PREDICTION_SCHEMA

    def __init__(self, predictor: Predictor, top: int) -> None:
        self.predictor = predictor
        self.name = predictor.backend.name
        self._top = top

    @property
    def preparation(self) -> Preparation:
        return self.predictor.preparation

    def outputs(self, images: ImageBatch) -> FloatArray:
        return self.predictor.run(images).probabilities

    def rows(
        self, names: Sequence[str], images: Sequence[ImageBatch | ImageError], batch_size: int
    ) -> pa.Table:
        answers = iter(
            [
                answer
                for batch in _batches(images, batch_size)
                for answer in self.predictor.run_rows(batch)
            ]
        )
        predictions = []
        for name, image in zip(names, images, strict=True):
            if isinstance(image, ImageError):
                predictions.append(Prediction(path=name, error=image.reason))
            else:
                probabilities, scope = next(answers)
                decided = self.predictor.decide(name, probabilities, scope=scope, top=self._top)
                predictions.append(decided)
        return prediction_rows(predictions)


class EmbedComputer:
    """Features; `path`, `features` (float32, as many as the model has) and `error`."""

    name = "onnxruntime"

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        features = pa.list_(pa.float32(), embedder.size)
        self._schema = pa.schema(
            [("path", pa.string()), ("features", features), ("error", pa.string())]
        )

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    @property
    def preparation(self) -> Preparation:
        return Preparation(self._embedder.spec.preprocessing)

    def outputs(self, images: ImageBatch) -> FloatArray:
        return self._embedder.run(images)

    def rows(
        self, names: Sequence[str], images: Sequence[ImageBatch | ImageError], batch_size: int
    ) -> pa.Table:
        size = self._embedder.size
        found = [self._embedder.run(batch) for batch in _batches(images, batch_size)]
        features = np.concatenate([np.zeros((0, size), np.float32), *found])
        failed = np.array([isinstance(image, ImageError) for image in images])
        # A row that has none is null, whatever stands in its place.
        spread = np.zeros((len(images), size), np.float32)
        spread[~failed] = features
        values = pa.FixedSizeListArray.from_arrays(
            pa.array(spread.reshape(-1)), size, mask=pa.array(failed)
        )
        errors = [image.reason if isinstance(image, ImageError) else None for image in images]
        columns = [pa.array(names, pa.string()), values, pa.array(errors, pa.string())]
        return pa.table(columns, schema=self._schema)


def open_computer(opening: Opening) -> Computer:
    """Open the model.

    Raises:
        BundleError: nothing there that can be loaded.
    """
    if opening.verb == "embed":
        return EmbedComputer(load_embedder(opening.model, threads=opening.threads))
    predictor = load_predictor(
        opening.model, backend=opening.backend, device=opening.device, threads=opening.threads
    )
    return PredictComputer(predictor, opening.top)


def _batches(images: Sequence[ImageBatch | ImageError], size: int) -> list[ImageBatch]:
    """The readable pictures in batches, uint8 [N, 3, H, W]."""
    readable = [image for image in images if not isinstance(image, ImageError)]
    return [np.stack(readable[start : start + size]) for start in range(0, len(readable), size)]


@dataclass(frozen=True)
class Expected:
    """What the model gives where the job was begun, by which other processes and machines check.

    Attributes:
        pictures: files, as bytes.
        images: uint8 [K, 3, H, W], what they become before the graph.
        outputs: float32 [K, C], what the graph gives.
    """

    pictures: tuple[bytes, ...]
    images: ImageBatch
    outputs: FloatArray

    def to_bytes(self) -> bytes:
        """As a NumPy archive, which holds no pickle."""
        stream = io.BytesIO()
        files = {
            f"picture_{number}": np.frombuffer(data, np.uint8)
            for number, data in enumerate(self.pictures)
        }
        np.savez(stream, images=self.images, outputs=self.outputs, **files)  # type: ignore[arg-type]
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Expected:
        """Read what `to_bytes` wrote.

        Raises:
            OutputError: it is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                images, outputs = arrays["images"], arrays["outputs"]
                pictures = [arrays[f"picture_{number}"] for number in range(len(images))]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise OutputError(
                f"what the job expects of its model is damaged ({error}); begin anew with "
                "--overwrite"
            ) from error
        return cls(tuple(picture.tobytes() for picture in pictures), images, outputs)


@dataclass(frozen=True)
class Task:
    """What another process is told: the model, and what it must give there too.

    Attributes:
        preparation: what becomes of a picture's bytes before the model.
        batch_size: pictures that are computed at once.
    """

    opening: Opening
    preparation: Preparation
    expected: Expected
    batch_size: int

    def open(self) -> Computer:
        """Open the model, and check that it prepares and computes as where the job was begun.

        Raises:
            BundleError: it cannot be loaded.
            CheckFailed: it does not.
        """
        computer = open_computer(self.opening)
        require_same(computer, self.expected)
        return computer

    def rows(self, items: Sequence[Item], computer: Computer) -> pa.Table:
        """Read, decode and compute pictures: a row each, in order."""
        prepared = prepare_items(items, computer.preparation)
        return computer.rows([item.name for item in items], prepared, self.batch_size)


def expected_of(computer: Computer, pictures: Sequence[bytes]) -> Expected:
    """What a model gives here for a few pictures."""
    preparation = computer.preparation
    images = np.stack([preparation.prepare(data, "golden picture") for data in pictures])
    return Expected(tuple(pictures), images, computer.outputs(images))


def require_same(computer: Computer, expected: Expected) -> None:
    """Check that this process prepares and computes as the one that began the job.

    Raises:
        CheckFailed: it does not.
    """
    require_equal(expected_of(computer, expected.pictures), expected)


def require_equal(found: Expected, expected: Expected) -> None:
    """Check what was found of the same pictures elsewhere, or at another time.

    Raises:
        CheckFailed: it is something else.
    """
    if not np.array_equal(found.images, expected.images):
        raise CheckFailed(
            "pictures are decoded differently here than where the job was begun: install the same "
            "versions of Pillow and its libraries on all machines"
        )
    if found.outputs.shape != expected.outputs.shape:
        raise CheckFailed("the model has other outputs here than where the job was begun")
    largest = float(np.abs(found.outputs - expected.outputs).max())
    if not largest <= _TOLERANCE * max(1.0, float(np.abs(expected.outputs).max())):
        raise CheckFailed(
            f"the model computes something else here than where the job was begun (largest "
            f"difference {largest:.2g}): install the same versions on all machines"
        )
