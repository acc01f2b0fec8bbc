"""Errors, label spaces, prediction tables, fingerprints and safe file writing; imports no torch."""

import os
import sys

# Libraries that report how they are used, unless told not to before their import: ONNX Runtime
# (from 1.29 on, to Microsoft), OpenVINO and NNCF (to Intel, through Google), which do without the
# module that sends.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
