"""Inference: backends (ONNX Runtime, PyTorch) behind one `Predictor`, and the `Embedder`."""

from taxon.inference.backend import Backend, Outputs
from taxon.inference.embedder import Embedder, load_embedder
from taxon.inference.load import load_predictor
from taxon.inference.predictor import Predictor

__all__ = ["Backend", "Embedder", "Outputs", "Predictor", "load_embedder", "load_predictor"]
