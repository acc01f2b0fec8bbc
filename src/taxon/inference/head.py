"""The head of a model alone: features in, logits and probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from taxon.core.errors import BundleError, reason_of
from taxon.core.predictions import FloatArray
from taxon.inference.backend import Outputs
from taxon.inference.onnx_runtime import FEATURES_OUTPUT, OUTPUTS

if TYPE_CHECKING:
    from onnx import GraphProto

# Of float32 to float32: exporters differ in whether they leave it out.
_COPIES = ("Identity", "Cast")


class Head:
    """What an ONNX file computes from its features on; for features that are there already.

    Without the out-of-scope score, whose part of the graph asks the pictures for their number.

    Args:
        file: that has `features` among its outputs.

    Raises:
        BundleError: the part behind the features cannot be cut out of it.
    """

    def __init__(self, file: Path) -> None:
        # Imported here: nothing else that runs models needs more than their runtime.
        import onnx
        from onnx.utils import Extractor

        try:
            model = onnx.load(file)
            _read_from_features(model.graph)
            part = Extractor(model).extract_model([FEATURES_OUTPUT], [*OUTPUTS])
            self._session = onnxruntime.InferenceSession(
                part.SerializeToString(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # neither library's errors share a public base class
            raise BundleError(
                f"the head cannot be cut out of {file}: {reason_of(error)}"
            ) from error

    def run(self, features: FloatArray) -> Outputs:
        """Features, float32 [N, F] -> logits and probabilities of their pictures."""
        probabilities, logits = self._session.run([*OUTPUTS], {FEATURES_OUTPUT: features})
        return Outputs(logits, probabilities, features=features)


def _read_from_features(graph: GraphProto) -> None:
    """Have the head read the output `features` where it reads the tensor that this is a copy of."""
    makers = {output: node for node in graph.node for output in node.output}
    names = {FEATURES_OUTPUT}
    copied = makers[FEATURES_OUTPUT]
    while copied.op_type in _COPIES:
        names.add(copied.input[0])
        copied = makers[copied.input[0]]
    for node in graph.node:
        if node.op_type not in _COPIES:
            for place, name in enumerate(node.input):
                node.input[place] = FEATURES_OUTPUT if name in names else name
