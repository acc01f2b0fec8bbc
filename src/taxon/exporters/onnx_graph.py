"""What the ONNX formats share: which nodes lie where, and how a changed graph is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taxon.bundle import ModelSpec
from taxon.bundle.artefact import Precision
from taxon.core.errors import TaxonError
from taxon.core.files import atomic_file
from taxon.inference.onnx_runtime import FRAME_KEY, PRECISION_KEY, SPEC_KEY

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

LOGITS = "logits"


def save_checked(
    model: ModelProto,
    path: Path,
    spec: ModelSpec,
    *,
    precision: Precision = "float32",
    frame: tuple[int, int] | None = None,
) -> None:
    """Check a model, put class names, preprocessing and policy into its metadata, write it.

    Args:
        precision: of weights and arithmetic, for the metadata.
        frame: (width, height) of whole pictures, for the metadata, where they go in.

    Raises:
        TaxonError: ONNX's checker refuses it.
        OutputError: it cannot be written.
    """
    import onnx

    # Traces of exporters (source lines, node scopes) would double the file's size.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.producer_name = "taxon"
    properties = {SPEC_KEY: spec.model_dump_json(), PRECISION_KEY: precision}
    if frame is not None:
        properties[FRAME_KEY] = f"{frame[0]}x{frame[1]}"
    onnx.helper.set_model_props(model, properties)
    with atomic_file(path) as temporary:
        onnx.save(model, temporary)
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except Exception as error:  # the checker's own error, or a shape inference error
            raise TaxonError(f"ONNX's checker refuses the exported model: {error}") from error


def network_nodes(graph: GraphProto) -> set[str]:
    """Names of the nodes between the normalised picture and the logits.

    What normalises the picture, and what turns logits and features into probabilities and
    out-of-scope scores, is left out: it is cheap, and its values span too much for few bits.
    """
    makers = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting = [LOGITS]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting.extend(node.input)
    return found - _normalising(graph)


def _normalising(graph: GraphProto) -> set[str]:
    """Names of the nodes that cast and normalise: one after the other, from the input on."""
    tensor = graph.input[0].name
    found: set[str] = set()
    while True:
        users = [node for node in graph.node if tensor in node.input]
        chain = [node for node in users if node.op_type in ("Cast", "Sub", "Mul")]
        if len(chain) != 1:
            return found
        found.add(chain[0].name)
        tensor = chain[0].output[0]
