"""Pairs of 64-bit hashes that differ in few bits: exact, on a million hashes, in bounded memory.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast exact search in Hamming space with
multi-index hashing", 2014): two hashes that differ in few bits differ in very few bits of at
least one of their four 16-bit bands, so only hashes whose band lies that near are compared. Up to
1,000 hashes are compared each with each, which is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from taxon.core.errors import ConfigError

LARGEST_DISTANCE = 15
MAX_COMPARISONS = 20_000_000_000  # minutes; a million even hashes at distance 10 need 3.3e9
MAX_PAIRS = 10_000_000  # bounds the memory of a result to about 1 GB
_BANDS = 4
_BAND_BITS = 16
_BUCKETS = 1 << _BAND_BITS
_FEW_PAIRS = 500_000  # of 1,000 hashes; to compare all is then faster
_CHUNK = 1 << 21  # comparisons at a time, about 100 MB

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SimilarPairs:
    """Pairs of positions whose hashes differ in few bits.

    Attributes:
        pairs: int64 [P, 2], the smaller position first, in ascending order. Of several equal
            hashes the first stands for all: the others are paired with it alone.
        distances: uint8 [P], differing bits.
        incomplete: bool [N], hashes that were not compared with all that are near, because too
            many share a band or too many pairs were found. All False: the search was exact.
    """

    pairs: Integers
    distances: npt.NDArray[np.uint8]
    incomplete: Flags


@dataclass(frozen=True)
class PairChunk:
    """Pairs of positions, left[k] and right[k], and how many bits they differ in."""

    left: Integers
    right: Integers
    distances: npt.NDArray[np.uint8]


def similar_pairs(
    hashes: Hashes,
    max_distance: int,
    *,
    max_comparisons: int = MAX_COMPARISONS,
    max_pairs: int = MAX_PAIRS,
) -> SimilarPairs:
    """Find all pairs of hashes that differ in at most `max_distance` bits.

    Args:
        hashes: uint64 [N].
        max_distance: 0 to 15; the time grows steeply above 7 and above 11.
        max_comparisons: where more would be needed, the most crowded buckets are left out.
        max_pairs: the search ends when more are found.

    Raises:
        ConfigError: a distance that is not allowed.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    later = np.setdiff1d(np.arange(len(hashes)), first)
    search = HammingSearch(unique, max_distance, max_comparisons=max_comparisons)
    incomplete = search.incomplete
    pairs = [np.stack([first[inverse[later]], later], axis=1)]
    distances = [np.zeros(len(later), np.uint8)]
    found = 0
    for chunk in search.chunks():
        pairs.append(np.sort(np.stack([first[chunk.left], first[chunk.right]], axis=1), axis=1))
        distances.append(chunk.distances)
        found += len(chunk.left)
        if found > max_pairs:
            incomplete = np.ones(len(unique), bool)  # nobody knows which pairs are missing
            break
    joined, differing = np.concatenate(pairs), np.concatenate(distances)
    order = np.lexsort((joined[:, 1], joined[:, 0]))
    return SimilarPairs(joined[order], differing[order], incomplete[inverse])


class HammingSearch:
    """The search as a stream, for callers that keep little of what it finds.

    Args:
        hashes: uint64 [N]; equal ones are compared like all others.

    Attributes:
        incomplete: bool [N], hashes that will not be compared with all that are near.

    Raises:
        ConfigError: a distance that is not allowed.
    """

    def __init__(
        self, hashes: Hashes, max_distance: int, *, max_comparisons: int = MAX_COMPARISONS
    ) -> None:
        if not 0 <= max_distance <= LARGEST_DISTANCE:
            raise ConfigError(
                f"max_distance is {max_distance}; allowed are 0 to {LARGEST_DISTANCE} bits"
            )
        self._max_distance = max_distance
        self._hashes = hashes
        self.incomplete = np.zeros(len(hashes), bool)
        all_pairs = len(hashes) * (len(hashes) - 1) // 2
        self._each_with_each = all_pairs <= min(_FEW_PAIRS, max_comparisons)
        if self._each_with_each:
            return
        self._bands = [
            # If every band differed in more bits than its flips, the whole would differ in more
            # than max_distance: the sum of (flips + 1) over the bands is max_distance + 1.
            _Band(hashes, band, flips=(max_distance - band) // _BANDS)
            for band in range(_BANDS)
        ]
        self._largest_cost = _affordable(self._bands, max_comparisons)
        for band in self._bands:
            self.incomplete |= band.crowded(self._largest_cost)[band.values]

    def chunks(self) -> Iterator[PairChunk]:
        """Yield every pair of positions within the distance, once, in a fixed order."""
        if self._each_with_each:
            left, right = np.triu_indices(len(self._hashes), 1)
            distances = count_bits(self._hashes[left] ^ self._hashes[right])
            within = np.flatnonzero(distances <= self._max_distance)
            yield PairChunk(left[within], right[within], distances[within])
            return
        for number, band in enumerate(self._bands):
            order = np.argsort(band.values, kind="stable")
            for mask in _masks(band.flips):
                for left, right in band.comparisons(mask, order, self._largest_cost):
                    differing = self._hashes[left] ^ self._hashes[right]
                    near = np.flatnonzero(count_bits(differing) <= self._max_distance)
                    left, right = left[near], right[near]
                    new = np.ones(len(near), bool)
                    for earlier in self._bands[:number]:
                        new &= ~earlier.compares(left, right, self._largest_cost)
                    yield PairChunk(left[new], right[new], count_bits(differing[near[new]]))


class _Band:
    """Sixteen bits of every hash; hashes with the same sixteen bits share a bucket."""

    def __init__(self, hashes: Hashes, number: int, flips: int) -> None:
        shift = np.uint64(number * _BAND_BITS)
        self.values = ((hashes >> shift) & np.uint64(_BUCKETS - 1)).astype(np.int64)
        self.counts = np.bincount(self.values, minlength=_BUCKETS)
        self.stops = np.cumsum(self.counts)  # of the buckets, when the hashes are sorted
        self.filled = np.flatnonzero(self.counts)
        self.flips = flips

    def costs(self, mask: int) -> Integers:
        """int64, per filled bucket: comparisons with the one whose number differs by `mask`;
        every pair of buckets counts once, at the lower number."""
        own = self.counts[self.filled]
        if mask == 0:
            return own * (own - 1) // 2
        neighbours = self.filled ^ mask
        return np.where(self.filled < neighbours, own * self.counts[neighbours], 0)

    def crowded(self, largest_cost: int) -> Flags:
        """bool [65536]: buckets that are not compared with all their neighbours."""
        result = np.zeros(_BUCKETS, bool)
        for mask in _masks(self.flips):
            left_out = self.filled[self.costs(mask) > largest_cost]
            result[left_out] = result[left_out ^ mask] = True
        return result

    def comparisons(
        self, mask: int, order: Integers, largest_cost: int
    ) -> Iterator[tuple[Integers, Integers]]:
        """Yield positions (left, right) to compare; `order` sorts the hashes by bucket."""
        costs = self.costs(mask)
        active = self.filled[(costs > 0) & (costs <= largest_cost)]
        sizes = self.counts[active]
        rows = _ranges(self.stops[active] - sizes, sizes)
        neighbours = np.repeat(active ^ mask, sizes)
        stops = self.stops[neighbours]
        starts = stops - self.counts[neighbours] if mask else rows + 1
        lengths = stops - starts
        totals = np.cumsum(lengths)
        begin = done = 0
        while begin < len(rows):
            end = int(np.searchsorted(totals, done + _CHUNK, side="right"))
            part = slice(begin, max(end, begin + 1))
            left = np.repeat(order[rows[part]], lengths[part])
            yield left, order[_ranges(starts[part], lengths[part])]
            begin, done = part.stop, int(totals[part][-1])

    def compares(self, left: Integers, right: Integers, largest_cost: int) -> Flags:
        """bool [P]: pairs that this band's search compares."""
        first, second = self.values[left], self.values[right]
        same = first == second
        own, other = self.counts[first], self.counts[second]
        cost = np.where(same, own * (own - 1) // 2, own * other)
        return (count_bits((first ^ second).astype(np.uint64)) <= self.flips) & (
            cost <= largest_cost
        )


def count_bits(values: Hashes) -> npt.NDArray[np.uint8]:
    """Return how many bits are set in each number: uint8, of the same shape."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(values), np.uint8)
    # numpy 1 has no such function: add up ever longer fields of bits.
    pairs = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    quads = (pairs & np.uint64(0x3333333333333333)) + (
        (pairs >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    octets = (quads + (quads >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.asarray((octets * np.uint64(0x0101010101010101)) >> np.uint64(56), np.uint8)


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """Return starts[0], starts[0] + 1, ... (lengths[0] numbers), starts[1], ... as one array."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


@cache
def _masks(flips: int) -> tuple[int, ...]:
    """All 16-bit numbers with at most `flips` bits set; none for -1."""
    return tuple(
        sum(1 << bit for bit in bits)
        for count in range(flips + 1)
        for bits in combinations(range(_BAND_BITS), count)
    )


def _affordable(bands: list[_Band], max_comparisons: int) -> int:
    """Return the largest cost of a pair of buckets, a power of two, at which the comparisons
    of all that cost no more stay within the limit."""
    work = np.zeros(63)
    for band in bands:
        for mask in _masks(band.flips):
            costs = band.costs(mask)
            costs = costs[costs > 0]
            if not len(costs):
                continue
            # A cost of 2^(k-1) + 1 to 2^k lands at k.
            work += np.bincount(
                np.ceil(np.log2(costs)).astype(np.int64), weights=costs, minlength=63
            )
    within = np.flatnonzero(np.cumsum(work) <= max_comparisons)
    return 1 << int(within[-1]) if len(within) else 0
