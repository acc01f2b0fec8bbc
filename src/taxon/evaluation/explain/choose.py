"""Choose how answers are explained."""

from __future__ import annotations

from importlib.util import find_spec

from taxon.bundle import Bundle
from taxon.evaluation.explain.method import Method
from taxon.evaluation.explain.occlusion import Occlusion, Runs


def choose_method(bundle: Bundle, model: Runs) -> Method:
    """Return Grad-CAM where it can be had and tells the whole story, else occlusion.

    Grad-CAM needs torch and the package `grad-cam` (`taxon-vision[explain]`), and a head on the
    last layer's features: of a head on statistics of all blocks (`pooling` of `blocks` or `all`)
    the last layer's maps would tell a part only. Occlusion needs the answers alone.

    Args:
        model: what computes the answers.
    """
    if bundle.info.pooling != "last" or not has_grad_cam():
        return Occlusion(model)
    from taxon.evaluation.explain.cam import GradCam
    from taxon.models.restore import restore_inference_module

    spec = bundle.spec.preprocessing
    try:
        return GradCam(restore_inference_module(bundle), (spec.height, spec.width))
    except LookupError:
        return Occlusion(model)


def has_grad_cam() -> bool:
    """Whether torch and the package `grad-cam` are installed."""
    return all(find_spec(name) is not None for name in ("torch", "pytorch_grad_cam"))
