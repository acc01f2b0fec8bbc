"""Configuration of the loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from taxon.config.base import Config

TaxonomyLossName = Literal["flat", "hierarchical", "levels"]


class LossConfig(Config):
    """What is minimised.

    Attributes:
        label_smoothing: 0 to 1, for multi-class (Szegedy et al. 2016).
        taxonomy: of classes that nest. `flat` looks at the classes alone; `hierarchical` is the
            hierarchical cross-entropy of Bertinetto et al. 2020; `levels` sums the cross-entropy
            of every level.
        taxonomy_alpha: of `hierarchical`: a step of the path at height h counts exp(-alpha * h).
            0 is plain cross-entropy; the higher, the less coarse steps count.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    taxonomy: TaxonomyLossName = "flat"
    taxonomy_alpha: float = Field(default=0.1, ge=0, le=10)
