"""95 % intervals: the percentile bootstrap (Efron 1979) over groups of pictures.

Pictures of one patient, part or burst are not independent; a group is drawn, or left out, as a
whole. A resample is a vector of group weights (how often each was drawn), so that every figure
of every resample comes out of a few matrix products, without touching the pictures again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.metrics.figure import Figure
from taxon.metrics.indicator import IntArray, require_pictures

FloatArray = npt.NDArray[np.float64]
# How many weights are held at once: 4 million float32 are 16 MB, whatever the data's size.
WEIGHTS_AT_ONCE = 4_000_000


class GroupBootstrap:
    """Draws the same seeded resamples for every figure.

    Args:
        pictures: N.
        groups: int64 [N], a group id a picture; None makes each picture its own group.
        resamples: how many times to draw.
        seed: the same seed gives the same intervals.

    Attributes:
        groups: G, how many there are.
        group_of_picture: int64 [N], each picture's group, 0 to G - 1.

    Raises:
        DataError: there are no pictures.
        ValueError: `groups` has not N entries.
    """

    def __init__(
        self,
        pictures: int,
        groups: IntArray | None = None,
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        require_pictures(pictures)
        if groups is not None and len(groups) != pictures:
            raise ValueError(f"{len(groups)} group ids for {pictures} pictures")
        ids = np.arange(pictures) if groups is None else groups
        self.group_of_picture = np.unique(ids, return_inverse=True)[1].astype(np.int64)
        self.groups = int(self.group_of_picture.max()) + 1
        self.resamples = resamples
        self._seed = seed

    def weights(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield all resamples in blocks float32 [G, r]: how often each group was drawn.

        G groups are drawn with replacement each time: multinomial weights that sum to G.
        """
        generator = np.random.default_rng(self._seed)
        block = max(1, WEIGHTS_AT_ONCE // self.groups)
        for start in range(0, self.resamples, block):
            size = min(block, self.resamples - start)
            drawn = generator.integers(0, self.groups, size=(size, self.groups))
            cells = drawn * size + np.arange(size)[:, None]
            counts = np.bincount(cells.ravel(), minlength=self.groups * size)
            yield counts.reshape(self.groups, size).astype(np.float32)

    def by_group(self, matrix: sparse.csr_matrix | npt.NDArray[Any]) -> sparse.csr_matrix:
        """Sum the rows of [N, K] within groups, transposed: float32 [K, G].

        Its product with a block of weights is the column sums of each resample, [K, r].
        """
        ones = np.ones(len(self.group_of_picture), np.float32)
        columns = np.arange(len(ones))
        member = sparse.csr_matrix(
            (ones, (columns, self.group_of_picture)), shape=(len(ones), self.groups)
        )
        return sparse.csr_matrix(sparse.csr_matrix(matrix).T.astype(np.float32) @ member)

    def place(self, rows: IntArray, cells: IntArray, count: int) -> sparse.csr_matrix:
        """Count each of these pictures in its cell, by group: float32 [count, G]."""
        where = (cells, self.group_of_picture[rows])
        ones = np.ones(len(rows), np.float32)
        return sparse.csr_matrix((ones, where), shape=(count, self.groups))

    def means(
        self, values: npt.NDArray[Any], shares: npt.NDArray[np.float64] | None = None
    ) -> FloatArray:
        """Return the mean of a value per picture in each resample, float64 [R].

        Args:
            values: [N].
            shares: [N], how much of each picture its value stands for; None is all. NaN where a
                resample has nothing of any.
        """
        shares = np.ones(len(values)) if shares is None else shares
        both = self.by_group(np.stack([shares, values], axis=1))
        blocks = [both @ weights for weights in self.weights()]
        counts, sums = np.concatenate(blocks, axis=1).astype(np.float64)
        empty = np.full(len(counts), np.nan)
        return np.asarray(np.divide(sums, counts, out=empty, where=counts > 0))

    def with_interval(self, figure: Figure, samples: npt.NDArray[Any]) -> Figure:
        """Attach the interval of a figure; a single group cannot say how much groups differ.

        Args:
            samples: float [R], the figure in each resample; see `interval`.
        """
        if self.groups < 2:
            return figure
        return figure.with_interval(interval(figure.value, samples))


def interval(value: float | None, samples: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the 2.5 and 97.5 percentiles of the resamples, or None.

    None where the figure itself is undefined, where fewer than half of the resamples define
    it (a class with one picture), or where there is only one resample. The interval is widened
    to hold the value: with many small classes, resamples are biased (macro-F1 downwards, average
    precision upwards), and their percentiles can miss the figure that they belong to.

    Args:
        value: the figure on the data itself.
        samples: float [R], NaN where a resample does not define it.
    """
    defined = samples[np.isfinite(samples)]
    if value is None or len(defined) < 2 or len(defined) < len(samples) / 2:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return min(float(low), value), max(float(high), value)
