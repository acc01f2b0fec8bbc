"""How near the answers over a taxonomy are to the truth: a wrong leaf may be half right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.taxonomy import Taxonomy
from taxon.metrics.bootstrap import GroupBootstrap
from taxon.metrics.figure import Figure, undefined
from taxon.metrics.indicator import IntArray, require_pictures

NO_MISTAKE = "there is no mistake"
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TaxonomyScores:
    """Figures of the answers over a taxonomy.

    Attributes:
        mistake_height: the mean height of the lowest common ancestor of truth and answer over
            the mistakes, 1 to the height of the tree; undefined without a mistake.
        distance: the same mean over all pictures, where right answers count 0.
        precision, recall, f1: overlap of the ancestors of answers and truths, 0 to 1.
    """

    mistake_height: Figure
    distance: Figure
    precision: Figure
    recall: Figure
    f1: Figure


def taxonomy_scores(
    targets: IntArray, predicted: IntArray, tree: Taxonomy, bootstrap: GroupBootstrap
) -> TaxonomyScores:
    """Score answers by the tree, with 95 % intervals where there are at least two groups.

    The heights are those of Bertinetto et al. 2020 ("Making Better Mistakes": hierarchical
    distance of a mistake, and average hierarchical distance for k = 1). Precision, recall and F1
    are those of Kiritchenko et al. 2006: a class is extended by its ancestors, without the root,
    and what answers and truths share is counted over all pictures together.

    Args:
        targets, predicted: int64 [N], class positions.

    Raises:
        DataError: there are no pictures.
    """
    require_pictures(len(targets))
    heights = tree.lca_heights(targets, predicted)
    shared = tree.shared_nodes(targets, predicted)
    named, true = tree.depths[predicted], tree.depths[targets]

    def ratio(above: npt.NDArray[np.integer], below: npt.NDArray[np.integer]) -> Figure:
        if not below.any():
            return undefined(NO_MISTAKE)
        figure = Figure.of(above.sum() / below.sum())
        return bootstrap.with_interval(figure, _ratios(bootstrap, above, below))

    return TaxonomyScores(
        mistake_height=ratio(heights, (heights > 0).astype(np.int64)),
        distance=ratio(heights, np.ones_like(heights)),
        precision=ratio(shared, named),
        recall=ratio(shared, true),
        f1=ratio(2 * shared, named + true),
    )


def _ratios(
    bootstrap: GroupBootstrap,
    above: npt.NDArray[np.integer],
    below: npt.NDArray[np.integer],
) -> FloatArray:
    """The ratio of two sums in each resample, float64 [R]; NaN where the second is 0."""
    sums = bootstrap.means(above), bootstrap.means(below)
    empty = np.full(bootstrap.resamples, np.nan)
    return np.asarray(np.divide(*sums, out=empty, where=sums[1] > 0))
