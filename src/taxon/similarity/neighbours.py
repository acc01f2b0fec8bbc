"""Exact nearest neighbours by cosine similarity, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.errors import ConfigError, DataError
from taxon.core.predictions import FloatArray

_VALUES = 4_000_000  # of a block of features, and of its similarities: 16 MB each
# Sums of float32 differ by how a block was cut; what is this near to the limit is summed exactly.
_ROUNDING = 1e-5
_MANY = 4  # times those that are wanted

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each query, the most similar first; of equal ones, the first row.

    Attributes:
        rows: int64 [Q, K].
        similarities: float32 [Q, K], cosines, -1 to 1.
    """

    rows: Rows
    similarities: FloatArray


def nearest(queries: FloatArray, features: FloatArray, count: int) -> Neighbours:
    """Find the rows that point in the most similar direction; exact.

    Args:
        queries: float32 [Q, F].
        features: float32 [N, F].
        count: K; all N where there are fewer.

    Raises:
        ConfigError: a count below 1.
        DataError: features of another length, or that are no numbers.
    """
    search = Nearest(queries, count)
    search.add(features)
    return search.result()


def unit_rows(features: FloatArray) -> FloatArray:
    """Rows of length 1, float32 [N, F]; those of length 0 stay as they are, and are like nothing.

    Raises:
        DataError: a value is no number.
    """
    features = np.asarray(features, np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths[:, 0]))[0])
        raise DataError(
            f"the features of row {row} are no finite numbers; compute them again with the model"
        )
    unit = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    return np.asarray(unit, np.float32)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of `count` rows, of which each has so many that their values take 16 MB.

    Args:
        size: values that a row brings.
    """
    step = max(1, _VALUES // max(1, size))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


class Nearest:
    """The search over features that come in parts, of which none is kept.

    Args:
        queries: float32 [Q, F].
        count: K.

    Raises:
        ConfigError: a count below 1.
        DataError: queries that are no numbers.
    """

    def __init__(self, queries: FloatArray, count: int) -> None:
        if count < 1:
            raise ConfigError(f"the number of neighbours is 1 or more, not {count}")
        self._queries = unit_rows(queries)
        self._count = count
        self._seen = 0
        self._rows = [np.zeros(0, np.int64) for _ in queries]
        self._similarities = [np.zeros(0) for _ in queries]

    def add(self, features: FloatArray) -> None:
        """Look through further rows, float32 [N, F]; they are numbered on.

        Raises:
            DataError: features of another length, or that are no numbers.
        """
        if features.ndim != 2 or features.shape[1] != self._queries.shape[1]:
            raise DataError(
                f"features of shape {features.shape} were given where rows of "
                f"{self._queries.shape[1]} values are needed; compute both with the same model"
            )
        for part in blocks(len(features), max(features.shape[1], len(self._queries))):
            unit = unit_rows(features[part])
            for query, rough in enumerate(self._queries @ unit.T):
                self._merge(query, unit, rough)
            self._seen += len(unit)

    def result(self) -> Neighbours:
        """What was found so far; K is smaller where fewer rows were added."""
        similarities = np.clip(np.stack(self._similarities), -1, 1).astype(np.float32)
        return Neighbours(np.stack(self._rows), similarities)

    def _merge(self, query: int, unit: FloatArray, rough: FloatArray) -> None:
        """Take what may be among the nearest out of a block; its sums are made anew, exactly."""
        full = len(self._rows[query]) == self._count
        limit = float(self._similarities[query][-1]) if full else -np.inf
        near = np.flatnonzero(rough >= limit - _ROUNDING)
        if len(near) > _MANY * self._count:
            # Most blocks bring few that are nearer than what was found: sorting them all is rare.
            limit = float(np.partition(rough[near], len(near) - self._count)[-self._count])
            near = near[rough[near] >= limit - _ROUNDING]
        exact = (unit[near].astype(np.float64) * self._queries[query]).sum(axis=1)
        rows = np.concatenate([self._rows[query], near + self._seen])
        similarities = np.concatenate([self._similarities[query], exact])
        order = np.lexsort((rows, -similarities))[: self._count]
        self._rows[query], self._similarities[query] = rows[order], similarities[order]
