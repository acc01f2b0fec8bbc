"""Explanations: which part of a picture an answer depends on; imports torch only for Grad-CAM."""

from taxon.evaluation.explain.choose import choose_method
from taxon.evaluation.explain.method import Method
from taxon.evaluation.explain.occlusion import Occlusion
from taxon.evaluation.explain.pictures import Explained, Explainer
from taxon.inference.occlusion import Heat

__all__ = ["Explained", "Explainer", "Heat", "Method", "Occlusion", "choose_method"]
