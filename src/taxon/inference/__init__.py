"""Inference: backends (ONNX Runtime, PyTorch) behind one `Predictor`."""

from taxon.inference.backend import Backend, Outputs
from taxon.inference.load import load_predictor
from taxon.inference.predictor import Predictor

__all__ = ["Backend", "Outputs", "Predictor", "load_predictor"]
