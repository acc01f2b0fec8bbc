"""95 % intervals: the percentile bootstrap (Efron 1979) over groups of pictures.

Pictures of one patient, part or burst are not independent; a group is drawn, or left out, as a
whole. A resample is a vector of group weights (how often each was drawn), so that every figure
of every resample comes out of a few matrix products, without touching the pictures again.

Where no mistake was seen, or nothing was right, every resample says the same, and the bootstrap
would claim certainty. A share of exactly 0 or 1 has the exact binomial end instead (Clopper &
Pearson 1934), over the groups that it concerns; any other figure that is the same in every resample
has no interval, and says so.
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
# Up to this many weights are drawn once and kept (80 MB); of more groups they are drawn anew for
# every figure.
WEIGHTS_KEPT = 20_000_000
RESAMPLES = 1000
TAIL = 0.025  # on each side of a 95 % interval
ALL_THE_SAME = "the same in every resample, so that no interval can be given"


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
        resamples: int = RESAMPLES,
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
        self._kept: tuple[npt.NDArray[np.float32], ...] = ()

    def weights(self) -> Iterator[npt.NDArray[np.float32]]:
        """Return all resamples in blocks float32 [G, r]: how often each group was drawn.

        G groups are drawn with replacement each time: multinomial weights that sum to G.
        """
        if self.groups * self.resamples > WEIGHTS_KEPT:
            return self._draw()
        self._kept = self._kept or tuple(self._draw())
        return iter(self._kept)

    def _draw(self) -> Iterator[npt.NDArray[np.float32]]:
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

    def concerned(self, rows: npt.NDArray[np.bool_]) -> int:
        """Return in how many groups any of these pictures is, bool [N]."""
        return len(np.unique(self.group_of_picture[rows]))

    def sums(self, columns: npt.NDArray[Any]) -> FloatArray:
        """Return the sums of values per picture, [N, K], in each resample: float64 [K, R]."""
        table = self.by_group(columns)
        return np.concatenate([table @ weights for weights in self.weights()], axis=1).astype(
            np.float64
        )

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
        counts, sums = self.sums(np.stack([shares, values], axis=1))
        empty = np.full(len(counts), np.nan)
        return np.asarray(np.divide(sums, counts, out=empty, where=counts > 0))

    def with_interval(self, figure: Figure, samples: npt.NDArray[Any]) -> Figure:
        """Attach the interval of a figure; a single group cannot say how much groups differ.

        Args:
            samples: float [R], the figure in each resample; see `interval`.
        """
        if self.groups < 2 or figure.value is None:
            return figure
        found = interval(figure.value, samples)
        if found is not None and found[0] == found[1]:
            reasons = [reason for reason in (figure.reason, ALL_THE_SAME) if reason]
            return figure.model_copy(update={"reason": "; ".join(reasons)})
        return figure.with_interval(found)

    def with_share_interval(
        self, figure: Figure, samples: npt.NDArray[Any], concerned: int | None = None
    ) -> Figure:
        """The same for a share of right (or wrong) answers, which may be exactly 0 or 1.

        Args:
            concerned: over how many groups it was taken; None is all.
        """
        if self.groups < 2 or figure.value not in (0.0, 1.0):
            return self.with_interval(figure, samples)
        groups = self.groups if concerned is None else concerned
        return figure.with_interval(exact_interval(figure.value == 1.0, groups))

    def with_f1_interval(self, figure: Figure, samples: npt.NDArray[Any], concerned: int) -> Figure:
        """The same for the F1 of a class, over the groups that have it or are named so.

        Where it is exactly 0 or 1, through the share J of right ones among the pictures that are of
        the class or named so: F1 is 2 J / (1 + J).
        """
        found = self.with_share_interval(figure, samples, concerned)
        if figure.value not in (0.0, 1.0) or found.ci95 is None:
            return found
        low, high = (2 * end / (1 + end) for end in found.ci95)
        return found.with_interval((low, high))


def exact_interval(all_right: bool, groups: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share that is 1 (`all_right`) or 0 over some groups.

    Clopper & Pearson 1934, with 2.5 % on the open side: of 20 groups without a mistake, 0.832 to 1.
    """
    end = TAIL ** (1 / groups)
    return (float(end), 1.0) if all_right else (0.0, float(1 - end))


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
