"""Models: backbones, heads, the graph that is exported, and the table of known backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taxon.models.classifier import Classifier, InferenceModule, build_classifier

__all__ = ["Classifier", "InferenceModule", "build_classifier"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the table of backbones is read without torch.
    if name in __all__:
        from taxon.models import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'taxon.models' has no attribute '{name}'")
