"""Drift: how far what comes has moved from what the model was calibrated on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pydantic import BaseModel

from taxon.bundle.reference import Reference
from taxon.core.predictions import Prediction
from taxon.preprocessing.statistics import NAMES
from taxon.serving.models.stability import population_stability_index

WINDOW = 1000  # the latest pictures that are compared
LEAST = 200  # fewer say little: chance alone would give an index of 0.05 and more


class DriftReport(BaseModel):
    """What the window says.

    Attributes:
        pictures: in the window, `needed` at least before anything is said.
        index: population stability index of `classes`, `confidence` and each statistic of
            pixels; below 0.1 is stable, above 0.25 a shift.
    """

    part: str
    reference_pictures: int
    pictures: int
    needed: int = LEAST
    index: dict[str, float]


class DriftMonitor:
    """Counts the latest pictures in the bins of a reference.

    Args:
        reference: of the bundle.
        window: how many pictures are compared.
    """

    def __init__(self, reference: Reference, window: int = WINDOW) -> None:
        self._reference = reference
        self._histograms = [reference.confidence, *(reference.pixels[name] for name in NAMES)]
        self._names = ["confidence", *NAMES]
        self._classes = list(reference.classes)
        self._place = {name: at for at, name in enumerate(self._classes)}
        self._window: deque[tuple[list[int], list[int]]] = deque()
        self._size = window
        self._counts = [[0] * len(each.counts) for each in self._histograms]
        self._named = [0] * len(self._classes)

    def add(self, prediction: Prediction, statistics: Sequence[float]) -> None:
        """Count one picture; of one out of scope only the pixels are."""
        classes = [self._place[label] for label in prediction.labels if label in self._place]
        values = [prediction.confidence, *statistics]
        bins = [
            -1 if value is None else histogram.bin_of(float(value))
            for histogram, value in zip(self._histograms, values, strict=True)
        ]
        self._window.append((classes, bins))
        self._count(classes, bins, 1)
        if len(self._window) > self._size:
            self._count(*self._window.popleft(), -1)

    def report(self) -> DriftReport:
        """Compare the window with the reference."""
        index = {}
        if len(self._window) >= LEAST:
            expected = list(self._reference.classes.values())
            index["classes"] = population_stability_index(expected, self._named)
            for name, histogram, counts in zip(
                self._names, self._histograms, self._counts, strict=True
            ):
                index[name] = population_stability_index(histogram.counts, counts)
        return DriftReport(
            part=self._reference.part,
            reference_pictures=self._reference.pictures,
            pictures=len(self._window),
            index=index,
        )

    def _count(self, classes: Sequence[int], bins: Sequence[int], by: int) -> None:
        for place in classes:
            self._named[place] += by
        for counts, at in zip(self._counts, bins, strict=True):
            if at >= 0:
                counts[at] += by
