"""The ONNX Runtime backend: runs an exported model with no torch installed."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import onnxruntime

from taxon.bundle import ModelSpec
from taxon.bundle.artefact import Precision
from taxon.core.cores import available_cores
from taxon.core.errors import BundleError, reason_of
from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Outputs, carried_spec

SPEC_KEY = "taxon.spec"
PRECISION_KEY = "taxon.precision"
FRAME_KEY = "taxon.frame"
OUTPUTS = ("probabilities", "logits")
SCOPE_OUTPUT = "scope"  # of models that flag what is out of scope
FEATURES_OUTPUT = "features"  # of the format onnx-features
# Name, type in ONNX Runtime's words, and sizes of the axes; a name where any size goes.
Tensor = tuple[str, str, list[int | str]]


class OnnxRuntimeBackend:
    """An ONNX model that `taxon export` wrote.

    Args:
        file: the .onnx file.
        name: how logs and reports call it.
        threads: that compute one batch; None: one a core.
        spinning: threads that wait for each other within a batch turn in circles: sooner done,
            where nothing else wants the cores.

    Raises:
        BundleError: not readable as ONNX.
    """

    def __init__(
        self,
        file: Path,
        *,
        name: str = "onnxruntime",
        threads: int | None = None,
        spinning: bool = False,
    ) -> None:
        self.name = name
        self.file = file
        self.threads = threads or available_cores()
        self.spinning = spinning
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        # By default they go on with it for a while after a batch: they take the cores from whatever
        # decodes the next pictures, and from every other process.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not file.is_file():
            raise BundleError(f"no such file: {file}")
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no public base class
            reason = reason_of(error)
            raise BundleError(f"{file} cannot be loaded by ONNX Runtime: {reason}") from error
        given = {output.name for output in self._session.get_outputs()}
        self._outputs = [
            *OUTPUTS,
            *(name for name in (SCOPE_OUTPUT, FEATURES_OUTPUT) if name in given),
        ]

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        values = self._session.run(self._outputs, {"images": images})
        return Outputs(**dict(zip(self._outputs, values, strict=True)))

    @property
    def gives_features(self) -> bool:
        """Whether the pooled features are among its outputs."""
        return FEATURES_OUTPUT in self._outputs

    @property
    def feature_count(self) -> int:
        """How many pooled features it gives, F.

        Raises:
            BundleError: it gives none, or does not say how many.
        """
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        size = shapes.get(FEATURES_OUTPUT, [None, None])[-1]
        if not isinstance(size, int):
            raise BundleError(f"{self.file} gives no features of a known number; export it again")
        return size

    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs and outputs that the file has."""
        both = self._session.get_inputs(), self._session.get_outputs()
        inputs, outputs = ([(each.name, each.type, each.shape) for each in side] for side in both)
        return inputs, outputs

    @property
    def precision(self) -> Precision:
        """Of weights and arithmetic, as the file says; float32 where it says nothing."""
        found = self._metadata().get(PRECISION_KEY, "float32")
        return next((name for name in get_args(Precision) if name == found), "float32")

    @property
    def frame(self) -> tuple[int, int] | None:
        """(width, height) of the whole pictures that go in; None where prepared ones do."""
        width, separator, height = self._metadata().get(FRAME_KEY, "").partition("x")
        return (int(width), int(height)) if separator else None

    def _metadata(self) -> dict[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the file carries.

        Raises:
            BundleError: the file was not written by `taxon export`.
        """
        return carried_spec(self._metadata().get(SPEC_KEY), self.file)
