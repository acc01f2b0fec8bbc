"""What a method of explanation is: a prepared picture and a class in, a map of heat out."""

from __future__ import annotations

from typing import Protocol

from taxon.core.predictions import ImageBatch
from taxon.inference.occlusion import Heat


def in_words(error: Exception) -> str:
    """The kind of an error and its first line: those of torch can be long."""
    first, *_ = str(error).strip().split("\n")
    return f"{type(error).__name__}: {first}"


class Method(Protocol):
    """A way to explain one answer."""

    @property
    def name(self) -> str:
        """How the report calls it."""

    @property
    def words(self) -> str:
        """One sentence on how the map is made."""

    def heat(self, image: ImageBatch, column: int) -> Heat:
        """Explain a class.

        Args:
            image: uint8 [3, H, W], as the model sees it.
            column: the position of the class.
        """
