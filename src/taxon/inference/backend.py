"""What a backend is: uint8 pictures in, logits and probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from taxon.bundle import ModelSpec
from taxon.core.predictions import FloatArray, ImageBatch


@dataclass(frozen=True)
class Outputs:
    """The outputs for a batch.

    Attributes:
        logits, probabilities: float32 [N, C] each; probabilities are calibrated.
        scope: float32 [N], how much each picture is like those of the training; None where the
            model has no such score.
    """

    logits: FloatArray
    probabilities: FloatArray
    scope: FloatArray | None = None


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
