"""The tree above the classes, as arrays: probabilities rolled up, distances between classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

TaxonomyRule = Literal["most-probable", "least-risk"]

Positions = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.floating[Any]]
FloatMatrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """One level of a tree; every class belongs to exactly one of its nodes.

    Attributes:
        nodes: K ids, sorted.
        node_of_class: intp [C], each class's node.
        parent_of_node: intp [K], each node's node one level up; 0 on the first level, for the root.
        heights: int64 [K], edges from each node down to its deepest class; 0 for a class.
    """

    nodes: tuple[str, ...]
    node_of_class: Positions
    parent_of_node: Positions
    heights: Counts


class Taxonomy:
    """A tree over C classes, in the order of the logits; flat classes are a tree of one level.

    A class that ends above a level stands for itself there, so that each level holds all
    classes. The root, which holds them all, is none of the levels.

    Args:
        paths: of each class the node ids from the root's child down to the class itself; the
            classes sorted.

    Attributes:
        levels: coarse to fine; on the last one the nodes are the classes.
        height: of the root: edges down to the deepest class.
        depths: int64 [C], nodes on each class's path, itself included.
    """

    def __init__(self, paths: Sequence[Sequence[str]]) -> None:
        self.depths: Counts = np.array([len(path) for path in paths], np.int64)
        self.height = int(self.depths.max())
        levels: list[Level] = []
        above: Positions = np.zeros(len(paths), np.intp)  # the root
        for depth in range(1, self.height + 1):
            levels.append(self._level([path[:depth][-1] for path in paths], depth, above))
            above = levels[-1].node_of_class
        self.levels = tuple(levels)

    def _level(self, node_ids: Sequence[str], depth: int, above: Positions) -> Level:
        nodes = sorted(set(node_ids))
        positions = {node: position for position, node in enumerate(nodes)}
        node_of_class = np.array([positions[node] for node in node_ids], np.intp)
        heights = np.zeros(len(nodes), np.int64)
        np.maximum.at(heights, node_of_class, self.depths - depth)
        # All classes of a node have the same parent: whichever is written last.
        parent_of_node = np.zeros(len(nodes), np.intp)
        parent_of_node[node_of_class] = above
        return Level(tuple(nodes), node_of_class, parent_of_node, heights)

    def roll_up(self, probabilities: Probabilities) -> tuple[FloatMatrix, ...]:
        """Return each level's node probabilities, coarse to fine: float64 [N, K] each.

        A node's probability is the sum over its children. Rounding never makes a sum of numbers
        from 0 on smaller than one of them, so that no child outranks its parent, not even by the
        last bit; and a row comes out the same alone and among others.

        Args:
            probabilities: [N, C], from 0 on.
        """
        rolled = [np.asarray(probabilities, np.float64)]
        for level in reversed(self.levels[1:]):
            order = np.argsort(level.parent_of_node, kind="stable")
            parents = np.arange(level.parent_of_node.max() + 1)
            starts = np.searchsorted(level.parent_of_node[order], parents)
            rolled.append(np.add.reduceat(rolled[-1][:, order], starts, axis=1))
        return tuple(reversed(rolled))

    def lca_heights(self, first: Positions | Counts, second: Positions | Counts) -> Counts:
        """Return the height of the lowest common ancestor of two classes, int64 [N].

        It is 0 for a class and itself, and `height` for two that share nothing but the root
        (Bertinetto et al. 2020, "Making Better Mistakes").

        Args:
            first, second: [N], class positions.
        """
        heights = np.full(len(first), self.height, np.int64)
        for level in self.levels:
            node = level.node_of_class[first]
            shared = node == level.node_of_class[second]
            heights[shared] = level.heights[node[shared]]
        return heights

    def shared_nodes(self, first: Positions | Counts, second: Positions | Counts) -> Counts:
        """Return how many nodes the paths of two classes share, int64 [N]; the root does not count.

        Args:
            first, second: [N], class positions.
        """
        shared = np.zeros(len(first), np.int64)
        for number, level in enumerate(self.levels):
            same = level.node_of_class[first] == level.node_of_class[second]
            # A class that ended above stands for itself: no further node.
            shared += same & (self.depths[first] > number)
        return shared

    def closeness(self, probabilities: Probabilities) -> FloatMatrix:
        """Return how close each class is expected to be to the true one, float64 [N, C], 0 to 1.

        1 - (expected height of the lowest common ancestor) / (height of the root); for flat
        classes it is the probability. The expectation takes no [C, C] matrix: of the height that
        lies between root and class, each node on the class's path adds what it saves, times the
        chance that the true class lies below it too.

        Args:
            probabilities: [N, C]; rows sum to 1.
        """
        saved: FloatMatrix = np.zeros((len(probabilities), 1))
        height_above: Counts = np.array([self.height], np.int64)
        for level, rolled in zip(self.levels, self.roll_up(probabilities), strict=True):
            drop = height_above[level.parent_of_node] - level.heights
            saved = saved[:, level.parent_of_node] + drop * rolled
            height_above = level.heights
        return np.asarray(saved / self.height)
