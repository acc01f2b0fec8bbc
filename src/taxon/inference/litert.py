"""The LiteRT (TFLite) backend: runs an exported .tflite with no torch installed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from threading import Lock

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.cores import available_cores
from taxon.core.errors import BundleError, MissingDependencyError, reason_of
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.core.versions import DISTRIBUTION
from taxon.inference.backend import Outputs, carried_spec
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT, SPEC_KEY

INPUT = "images"
SIGNATURE = "serving_default"


class LiteRtBackend:
    """A .tflite file that `taxon export` wrote; it takes the pictures of a batch one by one.

    Args:
        file: the .tflite file.
        threads: for one picture; None: one a core.

    Raises:
        BundleError: not readable as TFLite, or truncated.
        MissingDependencyError: LiteRT is not installed.
    """

    name = "litert"

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependencyError(
                f"{file} needs LiteRT, which does not import ({error}); "
                f"type: pip install '{DISTRIBUTION}[tflite]'"
            ) from error
        if not file.is_file():
            raise BundleError(f"no such file: {file}")
        # The list of its labels ends the file: one that was cut off has none.
        if not zipfile.is_zipfile(file):
            raise BundleError(
                f"{file} is truncated, or no .tflite that `taxon export` wrote: it ends without "
                "the labels; export it again"
            )
        self._file = file
        self._content = file.read_bytes()
        try:
            self._interpreter = Interpreter(
                model_content=self._content, num_threads=threads or available_cores()
            )
            self._interpreter.allocate_tensors()
            self._runner = self._interpreter.get_signature_runner(SIGNATURE)
            inputs = list(self._runner.get_input_details())
            outputs = self._runner.get_output_details()
        except (ValueError, RuntimeError) as error:
            reason = reason_of(error)
            raise BundleError(f"{file} cannot be loaded by LiteRT: {reason}") from error
        if inputs != [INPUT] or not set(OUTPUTS).issubset(outputs):
            raise BundleError(
                f"{file} has inputs {inputs} and outputs {sorted(outputs)}, not {INPUT} "
                f"and {' and '.join(OUTPUTS)}; name a file that `taxon export` wrote"
            )
        self._has_scope = SCOPE_OUTPUT in outputs
        self._classes = int(outputs["logits"]["shape"][-1])
        self._lock = Lock()

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W], one picture after the other."""
        if not len(images):
            none = np.zeros((0, self._classes), np.float32)
            return Outputs(none, none, np.zeros(0, np.float32) if self._has_scope else None)
        rows = [self._run_one(picture) for picture in images.transpose(0, 2, 3, 1)]
        probabilities, logits = (np.concatenate([row[name] for row in rows]) for name in OUTPUTS)
        scope = None
        if self._has_scope:
            scope = np.concatenate([row[SCOPE_OUTPUT] for row in rows])
        return Outputs(logits, probabilities, scope)

    def _run_one(self, picture: ImageBatch) -> dict[str, FloatArray]:
        """Compute uint8 [H, W, 3]; an interpreter holds the values of one call."""
        with self._lock:
            outputs: dict[str, FloatArray] = self._runner(
                **{INPUT: np.ascontiguousarray(picture[None])}
            )
        return outputs

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the file carries.

        Raises:
            BundleError: the file was not written by `taxon export`.
        """
        from ai_edge_litert.schema_py_generated import Model

        model, text = Model.GetRootAs(self._content), None
        for place in range(model.MetadataLength()):
            entry = model.Metadata(place)
            if entry.Name() == SPEC_KEY.encode():
                text = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
        return carried_spec(text, self._file)
