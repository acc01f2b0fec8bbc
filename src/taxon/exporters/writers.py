"""Which function writes which format; imported where something is exported: it needs torch."""

from __future__ import annotations

from taxon.exporters.coreml import export_coreml, export_coreml_fp16
from taxon.exporters.job import Exporter
from taxon.exporters.onnx import export_onnx
from taxon.exporters.triton import export_triton

WRITERS: dict[str, Exporter] = {
    "onnx": export_onnx,
    "coreml": export_coreml,
    "coreml-fp16": export_coreml_fp16,
    "triton": export_triton,
}
