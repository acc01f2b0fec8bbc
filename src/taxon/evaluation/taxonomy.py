"""Figures of a taxonomy: each level on its own, and how near the answers are to the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray
from taxon.core.taxonomy import TaxonomyRule
from taxon.evaluation.summary import LevelFigures, TaxonomyFigures
from taxon.metrics import (
    GroupBootstrap,
    f1_averages,
    indicator,
    predicted_classes,
    taxonomy_scores,
    top_k_accuracy,
    top_k_hits,
)
from taxon.metrics.resampled import count_samples

Positions = npt.NDArray[np.int64]


def level_figures(
    targets: Positions,
    probabilities: FloatArray,
    label_space: LabelSpace,
    bootstrap: GroupBootstrap,
) -> tuple[LevelFigures, ...]:
    """Score each level of a taxonomy by its own most probable nodes; nothing for flat classes.

    Args:
        targets: int64 [N].
        probabilities: [N, C]; a node's is the sum of its classes'.
    """
    if not label_space.is_taxonomy:
        return ()
    tree = label_space.tree
    figures = []
    rolled = zip(tree.levels, tree.roll_up(probabilities), strict=True)
    for number, (level, of_nodes) in enumerate(rolled):
        true = level.node_of_class[targets].astype(np.int64)
        truth = indicator(true, len(level.nodes))
        named = indicator(predicted_classes(of_nodes), len(level.nodes))
        hits = bootstrap.means(top_k_hits(true, of_nodes, 1))
        macro_f1 = count_samples(bootstrap, truth, named).macro_f1
        figures.append(
            LevelFigures(
                level=number,
                classes=len(level.nodes),
                top1=bootstrap.with_share_interval(top_k_accuracy(true, of_nodes, 1), hits),
                macro_f1=bootstrap.with_share_interval(f1_averages(truth, named).macro, macro_f1),
            )
        )
    return tuple(figures)


def taxonomy_figures(
    targets: Positions,
    predicted: Positions,
    label_space: LabelSpace,
    rule: TaxonomyRule,
    bootstrap: GroupBootstrap,
) -> TaxonomyFigures | None:
    """Score how near the answers are to the truth; None for flat classes.

    Args:
        targets, predicted: int64 [N].
        rule: by which `predicted` was named.
    """
    if not label_space.is_taxonomy:
        return None
    scores = taxonomy_scores(targets, predicted, label_space.tree, bootstrap)
    return TaxonomyFigures(
        height=label_space.depth,
        rule=rule,
        mistake_height=scores.mistake_height,
        average_distance=scores.distance,
        precision=scores.precision,
        recall=scores.recall,
        f1=scores.f1,
    )
