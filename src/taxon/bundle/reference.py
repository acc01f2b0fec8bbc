"""What answers and pictures looked like when the model was made: to notice when they change."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from taxon.bundle.layout import REFERENCE_FILE
from taxon.bundle.read import read_model
from taxon.core.files import write_json
from taxon.preprocessing.statistics import NAMES

BINS = 10  # each holds a tenth of the reference


class Histogram(BaseModel):
    """Counts between edges.

    Attributes:
        edges: ascending; the first bin is all below the first edge, the last all from the last.
        counts: one more than edges.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        if len(self.counts) != len(self.edges) + 1 or list(self.edges) != sorted(self.edges):
            raise ValueError("edges must ascend, and counts be one more")
        return self

    def bin_of(self, value: float) -> int:
        """The position of the bin that a value is in."""
        return bisect_right(self.edges, value)


class Reference(BaseModel):
    """The content of reference.json.

    Attributes:
        part: the part of the data that it was taken from.
        pictures: how many.
        classes: how often each class was named; with several labels a picture counts for each.
        confidence: of the answers.
        pixels: name of a statistic -> its values over the prepared pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = 1
    part: str
    pictures: int
    classes: dict[str, int]
    confidence: Histogram
    pixels: dict[str, Histogram]

    @model_validator(mode="after")
    def _is_whole(self) -> Reference:
        if not self.classes or not self.pixels.keys() >= set(NAMES):
            raise ValueError(f"classes and the statistics {', '.join(NAMES)} are needed")
        return self


def histogram(values: Sequence[float]) -> Histogram:
    """Count values in bins that hold a tenth each; fewer where many values are equal."""
    array = np.asarray(values, np.float64)
    inner = np.quantile(array, np.linspace(0, 1, BINS + 1)[1:-1])
    edges = tuple(float(edge) for edge in np.unique(inner))
    places = np.searchsorted(edges, array, side="right")
    counts = np.bincount(places, minlength=len(edges) + 1)
    return Histogram(edges=edges, counts=tuple(int(count) for count in counts))


def read_reference(folder: Path) -> Reference | None:
    """Read a bundle's reference; None where it has none (older ones do not).

    Raises:
        BundleError: damaged.
    """
    path = folder / REFERENCE_FILE
    return read_model(path, Reference) if path.exists() else None


def write_reference(folder: Path, reference: Reference) -> None:
    """Write reference.json."""
    write_json(folder / REFERENCE_FILE, reference.model_dump())
