"""The model of a job: open, checked on its golden pictures, with a measured batch size."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from taxon.batch.compute import (
    Computer,
    Expected,
    Opening,
    PredictComputer,
    Task,
    expected_of,
    open_computer,
)
from taxon.bundle import read_bundle
from taxon.bundle.artefact import folder_of
from taxon.bundle.golden import GoldenSet, differing_inputs, read_golden
from taxon.bundle.layout import ARTEFACT_FILE, BUNDLE_FILE
from taxon.core.errors import CheckFailed
from taxon.core.figures import measured_once
from taxon.core.fingerprint import sha256_file, sha256_json
from taxon.core.versions import made_with
from taxon.exporters import compare_golden
from taxon.inference import Predictor
from taxon.inference.batch_costs import best_batch_size

BATCH_COSTS = "job-batch-costs"  # in the cache
_LARGEST_BATCH = 32  # pictures; beyond it a core gains nothing
_LARGEST_ON_GPU = 256


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready for a job.

    Attributes:
        opening: how other processes open the same.
        computer: the model, open here.
        expected: what it gives here for a few pictures.
        identity: equal for models that give the same; 64 hexadecimal digits.
    """

    opening: Opening
    computer: Computer
    expected: Expected
    identity: str

    def batch_size(self) -> int:
        """As large as was measured here to pay; kept for the next time."""
        largest = _LARGEST_ON_GPU if self.opening.device != "cpu" else _LARGEST_BATCH
        picture = np.random.default_rng(0).integers(
            0, 256, (1, *self.computer.preparation.shape), dtype=np.uint8
        )

        def run(size: int) -> None:
            self.computer.outputs(np.repeat(picture, size, axis=0))

        key = {
            "model": self.identity,
            "threads": self.opening.threads,
            "device": self.opening.device,
            "versions": made_with("onnxruntime", "torch"),
        }
        costs = measured_once(
            BATCH_COSTS,
            key,
            lambda: {str(size): each for size, each in best_batch_size(run, largest).items()},
        )
        return max(map(int, costs))

    def task(self, batch_size: int) -> Task:
        """What other processes are told."""
        return Task(self.opening, self.computer.preparation, self.expected, batch_size)


def open_model(opening: Opening) -> OpenModel:
    """Open a model for a job, and check it.

    Raises:
        BundleError: it cannot be loaded.
        CheckFailed: it does not give the golden outputs on this machine.
    """
    opening = replace(opening, model=opening.model.absolute())
    computer = open_computer(opening)
    pictures: tuple[bytes, ...] = ()
    if (opening.model / BUNDLE_FILE).is_file() and computer.preparation.frame is None:
        golden = read_golden(opening.model)
        if isinstance(computer, PredictComputer):
            _require_golden(computer.predictor, golden)
        pictures = golden.pictures
    pictures = pictures or (_noise(computer.preparation.shape),)
    return OpenModel(
        opening, computer, expected_of(computer, pictures), _identity(opening, computer)
    )


def _require_golden(predictor: Predictor, golden: GoldenSet) -> None:
    spec = predictor.spec
    inexact = differing_inputs(golden, spec.preprocessing)
    report = compare_golden(predictor.backend, golden, spec, precision="float32", inexact=inexact)
    if not report.passed:
        raise CheckFailed(f"refused to compute with this model: {report.sentence()}")


def _identity(opening: Opening, computer: Computer) -> str:
    """Of the model, and of what computes it."""
    path = opening.model
    if (path / BUNDLE_FILE).is_file():
        content = read_bundle(path).spec.fingerprint
    elif path.is_file() and path.suffix == ".onnx":  # which says all by itself
        content = sha256_file(path)
    else:
        content = sha256_file(folder_of(path) / ARTEFACT_FILE)
    return sha256_json([content, opening.verb, computer.name, opening.device])


def _noise(shape: tuple[int, int, int]) -> bytes:
    """A picture of noise, as PNG: an artefact alone has no golden ones."""
    _, height, width = shape
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
