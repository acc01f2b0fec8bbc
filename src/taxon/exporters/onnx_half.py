"""ONNX in half precision: for GPUs, for NPUs, and for half the size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.exporters.onnx import FILE_NAME
from taxon.exporters.onnx_graph import network_nodes, save_checked
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

if TYPE_CHECKING:
    from onnx import GraphProto


def export_onnx_half(job: ExportJob, folder: Path) -> Written:
    """Write model.onnx whose network computes in float16; its inputs and outputs stay as they are.

    Raises:
        TaxonError: ONNX's checker refuses it.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    source = job.float_onnx()
    model = onnx.load(source)
    network = network_nodes(model.graph)
    outside = [node.name for node in model.graph.node if node.name not in network]
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=DEFAULT_OP_BLOCK_LIST,
        node_block_list=outside,
    )
    _drop_round_trips(half.graph)
    half.graph.ClearField("value_info")  # of the types before
    OnnxModel(half).topological_sort()  # casts were put at the end
    save_checked(half, folder / FILE_NAME, job.bundle.spec, precision="float16")
    return Written(
        file=FILE_NAME,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        made_with=made_with("onnx", "onnxruntime"),
        rival=OnnxRuntimeBackend(source, name="onnx"),
        notes=(
            "Half precision is for GPUs and for half the size: processors mostly have no kernels "
            "for it, and convert back and forth.",
        ),
    )


def _drop_round_trips(graph: GraphProto) -> None:
    """Join neighbours outside the network, between which the converter rounds to float16 and back.

    The conversion casts the output of every node that stays in float32, whoever reads it.
    """
    outputs = {output.name for output in graph.output}
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    half, single = 10, 1  # TensorProto.FLOAT16 and FLOAT
    renamed = {}
    for output, node in casts.items():
        before = casts.get(node.input[0])
        target = node.attribute[0].i
        if before is not None and target == single and before.attribute[0].i == half:
            renamed[output] = before.input[0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    used = {name for node in graph.node for name in node.input} | outputs
    kept = [
        node
        for node in graph.node
        if outputs.intersection(node.output) or used.intersection(node.output)
    ]
    del graph.node[:]
    graph.node.extend(kept)
