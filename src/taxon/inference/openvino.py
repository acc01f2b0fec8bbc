"""The OpenVINO backend: Intel's runtime, also for AMD and ARM processors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from taxon.bundle import ModelSpec
from taxon.bundle.artefact import Precision
from taxon.core.cores import available_cores
from taxon.core.errors import BundleError
from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Outputs, carried_spec
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT

if TYPE_CHECKING:
    import openvino

SPEC_PATH = ["taxon", "spec"]


class OpenVinoBackend:
    """An OpenVINO model that `taxon export` wrote.

    Args:
        file: the .xml file; the .bin with the weights lies beside it.
        precision: `float32` computes in float32, whatever the processor would prefer; others leave
            it the choice (bfloat16 where it has it).
        name: how logs and reports call it.
        threads: at most so many; None: all cores.

    Raises:
        BundleError: it does not load.
    """

    def __init__(
        self,
        file: Path,
        precision: Precision = "float32",
        *,
        name: str = "openvino",
        threads: int | None = None,
    ) -> None:
        import openvino

        self.name = name
        self._file = file
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or available_cores(),
        }
        if precision == "float32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = openvino.Core().read_model(file)
            self._compiled = openvino.compile_model(model, "CPU", settings)
        except Exception as error:  # RuntimeError, with a trace of OpenVINO's own sources
            raise BundleError(f"{file} cannot be loaded by OpenVINO: {_last(error)}") from error
        self._spec = model.get_rt_info(SPEC_PATH).astype(str) if _has_spec(model) else ""

    @property
    def arithmetic(self) -> str:
        """In what the processor computes here: `float32`, `bfloat16`, `float16`."""
        short = str(self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        return {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(short, short)

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        return run_compiled(self._compiled, images)

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the file carries.

        Raises:
            BundleError: it carries none.
        """
        return carried_spec(self._spec, self._file)


def run_compiled(model: openvino.CompiledModel, images: ImageBatch) -> Outputs:
    """Compute a batch, uint8 [N, 3, H, W], by a model with the inputs and outputs of the graph."""
    # A request of its own for each call: one request is not for several threads.
    request = model.create_infer_request()
    results = request.infer({"images": np.ascontiguousarray(images)})
    given = {name for output in model.outputs for name in output.get_names()}
    names = [*OUTPUTS, *({SCOPE_OUTPUT} & given)]
    probabilities, logits, *scope = (np.array(results[name]) for name in names)
    return Outputs(logits, probabilities, *scope)


def _has_spec(model: object) -> bool:
    return bool(model.has_rt_info(SPEC_PATH))  # type: ignore[attr-defined]


def _last(error: Exception) -> str:
    """The line that says what is wrong; those before it say where in OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
