"""Which function writes which format; imported where something is exported: it needs torch."""

from __future__ import annotations

from taxon.exporters.coreml import export_coreml, export_coreml_fp16
from taxon.exporters.executorch import export_executorch
from taxon.exporters.job import Exporter
from taxon.exporters.onnx import export_onnx, export_onnx_features
from taxon.exporters.onnx_half import export_onnx_half
from taxon.exporters.onnx_int8 import export_onnx_int8
from taxon.exporters.openvino import (
    export_openvino,
    export_openvino_half,
    export_openvino_int8,
)
from taxon.exporters.tflite import export_tflite, export_tflite_fp16, export_tflite_int8
from taxon.exporters.torch_export import export_torch_program
from taxon.exporters.torchserve import export_torchserve
from taxon.exporters.triton import export_triton

WRITERS: dict[str, Exporter] = {
    "onnx": export_onnx,
    "onnx-fp16": export_onnx_half,
    "onnx-int8": export_onnx_int8,
    "onnx-features": export_onnx_features,
    "torch-export": export_torch_program,
    "executorch": export_executorch,
    "openvino": export_openvino,
    "openvino-fp16": export_openvino_half,
    "openvino-int8": export_openvino_int8,
    "coreml": export_coreml,
    "coreml-fp16": export_coreml_fp16,
    "tflite": export_tflite,
    "tflite-fp16": export_tflite_fp16,
    "tflite-int8": export_tflite_int8,
    "torchserve": export_torchserve,
    "triton": export_triton,
}
