"""Link pairs of pictures to groups, so that no chain of pairs swallows the data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

# A group that is too large keeps only its links of at least this strength, one level after the
# other, until it falls into parts that are small enough.
_LEVELS = (0.92, 0.94, 0.96, 0.98, 0.99)
_LEAST_LARGEST = 20
_USUAL_SHARE, _TIGHT_SHARE = 10, 3  # at most 1/10 of the data in a group, 1/3 if it is tight
_PENDING = 4_000_000  # links that are collected before they are thinned out

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Links:
    """Pairs of positions, with the strength of each pair, 0 to 1."""

    left: Integers
    right: Integers
    strengths: Floats


@dataclass(frozen=True)
class Linked:
    """Groups of linked positions.

    Attributes:
        groups: positions, ascending, in the order of their first ones; two or more each.
        strengths: of each group, its weakest link that is needed to hold it together.
        tightened: groups that were too large and fell into smaller ones, as their sizes.
        dissolved: positions that were linked and are in no group: cut off from one that was too
            large, or in one that stayed too large.
    """

    groups: tuple[tuple[int, ...], ...]
    strengths: tuple[float, ...]
    tightened: tuple[int, ...]
    dissolved: Integers


class Linker:
    """Collects links, and keeps no more of them than the groups depend on: the spanning forest
    of the strongest ones, which has the same groups at every strength."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._links: list[Links] = []
        self._pending = 0

    def add(self, links: Links) -> None:
        self._links.append(links)
        self._pending += len(links.left)
        if self._pending > _PENDING:
            self._links, self._pending = [self._forest()], 0

    def groups(self) -> Linked:
        """Return the groups: single linkage, with too large groups linked more strictly."""
        forest = self._forest()
        ends = np.unique(np.concatenate([forest.left, forest.right]))
        strictest = _LEVELS[-1]
        usual = max(_LEAST_LARGEST, self._count // _USUAL_SHARE)
        tight = max(_LEAST_LARGEST, self._count // _TIGHT_SHARE)
        final = np.full(self._count, -1)
        weakest = np.ones(0, np.float32)
        tightened: list[int] = []
        for level in (0.0, *_LEVELS):
            kept = forest.strengths >= level
            forest = Links(forest.left[kept], forest.right[kept], forest.strengths[kept])
            labels = _components(self._count, forest)
            sizes = np.bincount(labels, minlength=1)
            closed = (sizes > 1) & (sizes <= (tight if level == strictest else usual))
            if level == 0.0:
                tightened = sorted(sizes[sizes > usual].tolist(), reverse=True)
            bonds = np.ones(len(sizes), np.float32)
            np.minimum.at(bonds, labels[forest.left], forest.strengths)
            members = closed[labels]
            final[members] = labels[members] + len(weakest)
            weakest = np.concatenate([weakest, bonds])
            opened = ~members[forest.left]
            forest = Links(forest.left[opened], forest.right[opened], forest.strengths[opened])
        return _ordered(final, weakest, tuple(tightened), ends[final[ends] < 0])

    def _forest(self) -> Links:
        if not self._links:
            empty = np.zeros(0, np.int64)
            return Links(empty, empty, np.zeros(0, np.float32))
        left = np.concatenate([links.left for links in self._links])
        right = np.concatenate([links.right for links in self._links])
        strengths = np.concatenate([links.strengths for links in self._links])
        first, second = np.minimum(left, right), np.maximum(left, right)
        order = np.lexsort((-strengths, second, first))
        first, second, strengths = first[order], second[order], strengths[order]
        new = np.ones(len(first), bool)  # scipy would add up what comes twice
        new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        # The minimum tree of the lengths is the maximum tree of the strengths; 0 is no link.
        lengths = 2 - strengths[new].astype(np.float64)
        shape = (self._count, self._count)
        tree = minimum_spanning_tree(coo_array((lengths, (first[new], second[new])), shape)).tocoo()
        return Links(
            tree.row.astype(np.int64), tree.col.astype(np.int64), (2 - tree.data).astype(np.float32)
        )


def _components(count: int, links: Links) -> Integers:
    graph = coo_array((np.ones(len(links.left), bool), (links.left, links.right)), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _ordered(
    final: Integers, weakest: Floats, tightened: tuple[int, ...], dissolved: Integers
) -> Linked:
    members = np.flatnonzero(final >= 0)
    _, first, inverse = np.unique(final[members], return_index=True, return_inverse=True)
    order = np.argsort(first[inverse], kind="stable")
    members = members[order]
    cuts = np.flatnonzero(np.diff(final[members])) + 1
    groups = [group for group in np.split(members, cuts) if len(group)]
    return Linked(
        tuple(tuple(group.tolist()) for group in groups),
        tuple(float(weakest[final[group[0]]]) for group in groups),
        tightened,
        dissolved,
    )
