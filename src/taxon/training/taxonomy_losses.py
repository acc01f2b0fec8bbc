"""Losses for classes that nest: a mistake costs by how far up the tree it is one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from taxon.config import LossConfig
from taxon.core.errors import ConfigError
from taxon.core.labels import LabelSpace
from taxon.core.taxonomy import Taxonomy


def build_taxonomy_loss(
    label_space: LabelSpace, config: LossConfig, weights: npt.NDArray[np.float64]
) -> nn.Module:
    """Return the loss that `config.taxonomy` names; see `LevelsLoss` and `HierarchicalLoss`.

    Args:
        weights: float64 [C], how much each class counts.

    Raises:
        ConfigError: the classes do not nest.
    """
    if not label_space.is_taxonomy:
        raise ConfigError(
            f"loss.taxonomy={config.taxonomy} needs classes that nest, and these do not; leave it "
            "at flat, or give them a taxonomy (nested folders, several label columns, --parents)"
        )
    tree, smoothing = label_space.tree, config.label_smoothing
    if config.taxonomy == "hierarchical":
        return HierarchicalLoss(tree, weights, smoothing, config.taxonomy_alpha)
    return LevelsLoss(tree, weights, smoothing)


class _TaxonomyLoss(nn.Module, ABC):
    """(logits [N, C], targets int64 [N] or float [N, C]) -> [N], from a cost a class.

    Blended targets cost the mean of their classes' costs, each by its share, and so does what
    label smoothing gives to all classes alike; class weights multiply the cost of a class.

    Args:
        weights: float64 [C].
        label_smoothing: 0 to 1.
    """

    def __init__(
        self, tree: Taxonomy, weights: npt.NDArray[np.float64], label_smoothing: float
    ) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        nodes = np.stack([level.node_of_class for level in tree.levels])
        self.register_buffer("nodes", torch.tensor(nodes, dtype=torch.int64))
        self.label_smoothing = label_smoothing
        self.counts = [len(level.nodes) for level in tree.levels]

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if targets.ndim == 1:
            targets = functional.one_hot(targets, logits.shape[1])
        weighted = cast(torch.Tensor, self.weights) * targets.to(logits.dtype)
        # As in the loss over single classes, smoothing spreads a picture's own weight.
        wanted = torch.lerp(weighted, weighted.mean(dim=1, keepdim=True), self.label_smoothing)
        # On the last level the nodes are the classes.
        classes = functional.log_softmax(logits, dim=1)
        nodes = zip(cast(torch.Tensor, self.nodes)[:-1], self.counts, strict=False)
        levels = [_log_roll_up(classes, node_of_class, count) for node_of_class, count in nodes]
        return (wanted * self.costs([*levels, classes])).sum(dim=1)

    @abstractmethod
    def costs(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """What each class costs where it is the true one, [N, C].

        Args:
            levels: coarse to fine: each class's node's log-probability, [N, C].
        """


class LevelsLoss(_TaxonomyLoss):
    """The sum of the cross-entropies of all levels, with equal weights.

    A node's probability is the sum of its classes'. A class that ends above a level stands for
    itself there, as it does in the figures of a level.
    """

    def costs(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """What each class costs, [N, C]."""
        return -torch.stack(levels).sum(dim=0)


class HierarchicalLoss(_TaxonomyLoss):
    """Hierarchical cross-entropy (Bertinetto et al. 2020, "Making Better Mistakes").

    -sum over the nodes of the class's path of exp(-alpha * height) * log p(node | parent), where
    a class has height 0 and an inner node that of its deepest class. With alpha 0 the sum is the
    cross-entropy of the class.

    Args:
        alpha: from 0 on; the higher, the less coarse steps count.
    """

    def __init__(
        self,
        tree: Taxonomy,
        weights: npt.NDArray[np.float64],
        label_smoothing: float,
        alpha: float,
    ) -> None:
        super().__init__(tree, weights, label_smoothing)
        heights = np.stack([level.heights[level.node_of_class] for level in tree.levels])
        factors = torch.tensor(np.exp(-alpha * heights), dtype=torch.float32)
        self.register_buffer("factors", factors)

    def costs(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """What each class costs, [N, C]."""
        log_p = torch.stack(levels)
        above = torch.cat([torch.zeros_like(log_p[:1]), log_p[:-1]])
        factors = cast(torch.Tensor, self.factors)[:, None]
        # Where a class ended above, it is its own parent, and the step costs nothing.
        return -(factors * (log_p - above)).sum(dim=0)


def _log_roll_up(log_p: torch.Tensor, node_of_class: torch.Tensor, nodes: int) -> torch.Tensor:
    """Log-probabilities of classes -> of each class's node, [N, C]: log-sum-exp within nodes.

    Written with operations that repeat bit by bit on a GPU where that is asked for.
    """
    within = node_of_class.expand_as(log_p)
    largest = log_p.detach().new_full((len(log_p), nodes), -math.inf)
    largest = largest.scatter_reduce(1, within, log_p.detach(), "amax")
    scaled = torch.exp(log_p - largest[:, node_of_class])
    sums = torch.zeros_like(largest).index_add(1, node_of_class, scaled)
    return (sums.log() + largest).index_select(1, node_of_class)
