"""Choose how answers are explained."""

from __future__ import annotations

from importlib.util import find_spec

from taxon.bundle import Bundle
from taxon.evaluation.explain.method import Method, in_words
from taxon.evaluation.explain.occlusion import Occlusion, Runs


def choose_method(bundle: Bundle, model: Runs) -> tuple[Method, str | None]:
    """Return Grad-CAM where it can be had and tells the whole story, else occlusion; and a note
    where Grad-CAM failed.

    Grad-CAM needs torch and the package `grad-cam` (`taxon-vision[explain]`), and a head on the
    last layer's features: of a head on statistics of all blocks (`pooling` of `blocks` or `all`)
    the last layer's maps would tell a part only. Occlusion needs the answers alone.

    Args:
        model: what computes the answers.
    """
    if bundle.info.pooling != "last" or not has_grad_cam():
        return Occlusion(model), None
    from taxon.evaluation.explain.cam import GradCam
    from taxon.models.restore import restore_inference_module

    spec = bundle.spec.preprocessing
    try:
        return GradCam(restore_inference_module(bundle), (spec.height, spec.width)), None
    except Exception as error:  # torch, timm and others raise any kind; the figures are there
        note = f"answers are explained by occlusion, for Grad-CAM failed ({in_words(error)})"
        return Occlusion(model), note


def has_grad_cam() -> bool:
    """Whether torch and the package `grad-cam` are installed."""
    return all(find_spec(name) is not None for name in ("torch", "pytorch_grad_cam"))
