"""What happens to a picture before and after the graph, for whatever runs the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray, ImageBatch, Prediction
from taxon.decision import DecisionPolicy, decide
from taxon.preprocessing import Preprocessing, prepare
from taxon.preprocessing.frames import prepare_frame


class Host:
    """The host's part of a model.

    Args:
        spec: `spec` of artefact.json.
        frame: (width, height) of the pictures that go into the graph where the resize is in it.

    Raises:
        ValueError: it was written by another version of taxon, or damaged.
    """

    def __init__(self, spec: Mapping[str, Any], frame: tuple[int, int] | None = None) -> None:
        self.frame = frame
        self.label_space = LabelSpace.model_validate(spec["label_space"])
        self.preprocessing = Preprocessing.model_validate(spec["preprocessing"])
        self.policy = DecisionPolicy.model_validate(spec["policy"])

    def prepare(self, data: bytes, source: str) -> ImageBatch:
        """Bytes of one picture -> uint8 [3, H, W].

        Raises:
            ImageError: it cannot be decoded, or is no frame of the size that the graph takes.
        """
        if self.frame is None:
            return prepare(data, self.preprocessing, source)
        return prepare_frame(data, self.preprocessing, self.frame, source)

    def answer(
        self, path: str, probabilities: FloatArray, scope: float | None, top: int = 5
    ) -> dict[str, Any]:
        """One row of probabilities, float32 [C], and its scope -> what `taxon predict` says."""
        prediction = decide(
            path, probabilities, self.label_space, self.policy, scope=scope, top=top
        )
        return prediction.model_dump(mode="json")


def failure(path: str, reason: str) -> dict[str, Any]:
    """What `taxon predict` says of a picture that cannot be read."""
    return Prediction(path=path, error=reason).model_dump(mode="json")
