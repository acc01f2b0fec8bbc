"""The pictures among which suggestions are chosen: all, or of very many the most uncertain."""

from __future__ import annotations

import numpy as np

from taxon.api.feature_sources import FeatureBatch
from taxon.core.predictions import FloatArray

LARGEST = 20_000  # with 1,024 features 80 MB


class Pool:
    """Collects pictures; beyond twice its size it keeps the most uncertain.

    Attributes:
        seen: how many were added.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self.seen = 0
        self._largest = largest
        self._paths: list[str] = []
        self._parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, batch: FeatureBatch, probabilities: FloatArray, uncertainty: FloatArray) -> None:
        """Add pictures, with probabilities, float32 [N, C], and uncertainty, float32 [N]."""
        if not len(batch.paths):
            return
        self.seen += len(batch.paths)
        self._paths += batch.paths
        self._parts.append((batch.features, probabilities, uncertainty))
        if len(self) > 2 * self._largest:
            self._thin()

    @property
    def paths(self) -> list[str]:
        """Of the pictures, in the order in which they came."""
        self._settle()
        return self._paths

    @property
    def features(self) -> FloatArray:
        """float32 [N, F]."""
        return self._settle()[0]

    @property
    def probabilities(self) -> FloatArray:
        """float32 [N, C]."""
        return self._settle()[1]

    @property
    def uncertainty(self) -> FloatArray:
        """float32 [N]."""
        return self._settle()[2]

    def _settle(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """All parts as one, of at most the largest size."""
        if len(self) > self._largest:
            self._thin()
        if len(self._parts) > 1:
            features, probabilities, uncertainty = zip(*self._parts, strict=True)
            self._parts = [
                (
                    np.concatenate(features),
                    np.concatenate(probabilities),
                    np.concatenate(uncertainty),
                )
            ]
        return self._parts[0]

    def _thin(self) -> None:
        uncertainty = np.concatenate([part[2] for part in self._parts])
        kept = np.sort(np.argsort(-uncertainty, kind="stable")[: self._largest])
        features, probabilities = (
            np.concatenate([part[place] for part in self._parts])[kept] for place in (0, 1)
        )
        self._paths = [self._paths[row] for row in kept.tolist()]
        self._parts = [(features, probabilities, uncertainty[kept])]
