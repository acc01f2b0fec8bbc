"""Save a classifier into a model folder, and restore it from there."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from taxon.bundle import Bundle
from taxon.bundle.layout import CONFIG_FILE, HEAD_FILE, WEIGHTS_FILE
from taxon.bundle.scope import read_bank
from taxon.core.errors import BundleError, OutputError
from taxon.core.files import atomic_file, write_json
from taxon.models.backbones import config_json, create_backbone
from taxon.models.classifier import Classifier, InferenceModule
from taxon.preprocessing import Preprocessing


def save_classifier(folder: Path, classifier: Classifier, preprocessing: Preprocessing) -> None:
    """Write model.safetensors (backbone, its library's names), head.safetensors and config.json."""
    _save_state(folder / WEIGHTS_FILE, classifier.backbone)
    _save_state(folder / HEAD_FILE, classifier.head)
    write_json(folder / CONFIG_FILE, config_json(classifier.spec, preprocessing))


def _save_state(path: Path, module: nn.Module) -> None:
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    with atomic_file(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, among others; it is no OSError
            raise OutputError(f"cannot write {path}: {error}") from error


def restore_classifier(bundle: Bundle) -> Classifier:
    """Build the classifier of a bundle with its trained weights, in evaluation mode.

    Raises:
        BundleError: the weights do not fit the architecture that bundle.json names.
    """
    spec = bundle.spec.preprocessing
    backbone = create_backbone(bundle.info.backbone, input_size=(spec.height, spec.width))
    info, classes = bundle.info, len(bundle.spec.label_space.names)
    classifier = Classifier(backbone, info.head, classes, info.pooling)
    try:
        classifier.backbone.load_state_dict(load_file(bundle.path / WEIGHTS_FILE))
        classifier.head.load_state_dict(load_file(bundle.path / HEAD_FILE))
    except Exception as error:  # safetensors and torch raise several kinds
        raise BundleError(f"the weights in {bundle.path} do not load: {error}") from error
    return classifier.eval()


def restore_inference_module(bundle: Bundle, *, gives_features: bool = False) -> InferenceModule:
    """Build the graph that is exported: uint8 in, calibrated probabilities and logits out, and the
    scope where the policy has one.

    Args:
        gives_features: whether the pooled features come out too, as the last output.
    """
    spec = bundle.spec
    classifier = restore_classifier(bundle)
    return InferenceModule(
        classifier,
        spec.preprocessing,
        spec.policy,
        spec.label_space.task,
        read_bank(bundle.path),
        gives_features=gives_features,
    ).eval()
