"""The verbs: the command line and a notebook call the same functions."""

from taxon.api.evaluate import Evaluation, evaluate
from taxon.api.export import export, verify
from taxon.api.model import Model, load
from taxon.api.predict import predict
from taxon.api.train import train

__all__ = ["Evaluation", "Model", "evaluate", "export", "load", "predict", "train", "verify"]
