"""What a backend is: uint8 pictures in, logits and probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import ValidationError

from taxon.bundle import ModelSpec
from taxon.core.errors import BundleError
from taxon.core.predictions import FloatArray, ImageBatch


@dataclass(frozen=True)
class Outputs:
    """The outputs for a batch.

    Attributes:
        logits, probabilities: float32 [N, C] each; probabilities are calibrated.
        scope: float32 [N], how much each picture is like those of the training; None where the
            model has no such score.
        features: float32 [N, F], the pooled features that go into the head; None where the graph
            does not give them out.
    """

    logits: FloatArray
    probabilities: FloatArray
    scope: FloatArray | None = None
    features: FloatArray | None = None


class Backend(Protocol):
    """A runtime that computes the core graph; safe to call from several threads."""

    @property
    def name(self) -> str:
        """How logs and reports call it."""

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""


@runtime_checkable
class CarriesSpec(Protocol):
    """A backend whose file carries what consumers of a model need beside the graph."""

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the file carries."""


def gives_features(backend: Backend) -> bool:
    """Whether its outputs have the pooled features."""
    return bool(getattr(backend, "gives_features", False))


def carried_spec(text: str | None, file: Path) -> ModelSpec:
    """Read what a file of a model carries beside the graph.

    Args:
        text: JSON; None or empty where the file has none.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    if not text:
        raise BundleError(
            f"{file} carries no class names or preprocessing; name a file that `taxon export` wrote"
        )
    try:
        return ModelSpec.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{file} carries damaged metadata: {error}") from error
