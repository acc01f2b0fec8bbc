"""Which function writes which format; imported where something is exported: it needs torch."""

from __future__ import annotations

from taxon.exporters.job import Exporter
from taxon.exporters.onnx import export_onnx
from taxon.exporters.tflite import export_tflite, export_tflite_fp16, export_tflite_int8

WRITERS: dict[str, Exporter] = {
    "onnx": export_onnx,
    "tflite": export_tflite,
    "tflite-fp16": export_tflite_fp16,
    "tflite-int8": export_tflite_int8,
}
