"""Which function writes which format; imported where something is exported: it needs torch."""

from __future__ import annotations

from taxon.exporters.job import Exporter
from taxon.exporters.onnx import export_onnx
from taxon.exporters.torchserve import export_torchserve

WRITERS: dict[str, Exporter] = {
    "onnx": export_onnx,
    "torchserve": export_torchserve,
}
