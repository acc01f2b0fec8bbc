"""The graph in the runtime of its file: ONNX Runtime, or LiteRT for a .tflite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from taxon.core.cores import available_cores
from taxon.core.errors import BundleError, MissingDependencyError
from taxon.core.predictions import ImageBatch

Arrays = Mapping[str, npt.NDArray[Any]]


class Graph(Protocol):
    """A graph that is ready to run."""

    name: str

    def run(self, image: ImageBatch) -> Arrays:
        """Compute one picture, uint8 [3, H, W]; each output by its name, for a batch of one."""


def open_graph(file: Path) -> Graph:
    """Load an exported graph.

    Raises:
        BundleError: the file does not load.
        MissingDependencyError: its runtime is not installed.
    """
    opener = LiteRtGraph if file.suffix == ".tflite" else OnnxGraph
    try:
        return opener(file)
    except MissingDependencyError:
        raise
    except Exception as error:  # neither runtime has a public base class for its errors
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BundleError(f"{file} cannot be loaded by {opener.name}: {reason}") from error


class OnnxGraph:
    """A graph in ONNX Runtime, on the processor: there it was compared with the model."""

    name = "onnxruntime"

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise _not_installed(file, "onnxruntime", error) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, image: ImageBatch) -> Arrays:
        values = self._session.run(self._outputs, {self._input: image[None]})
        return dict(zip(self._outputs, values, strict=True))


class LiteRtGraph:
    """A graph in LiteRT, which wants the channels last."""

    name = "LiteRT"

    def __init__(self, file: Path) -> None:
        interpreter = _interpreter(file)(model_path=str(file), num_threads=available_cores())
        interpreter.allocate_tensors()
        self._interpreter = interpreter  # which must live as long as the runner
        self._runner = interpreter.get_signature_runner()
        (self._input,) = self._runner.get_input_details()

    def run(self, image: ImageBatch) -> Arrays:
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0)[None])
        outputs: Arrays = self._runner(**{self._input: pixels})
        return outputs


def _interpreter(file: Path) -> Any:
    """The class, from the package of today or from the one before it."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise _not_installed(file, "ai-edge-litert", error) from error
    return Interpreter


def _not_installed(file: Path, package: str, error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"{file.name} needs the package {package}, which does not import ({error}); "
        f"type: pip install {package}"
    )
