"""Configuration of how probabilities become an answer."""

from __future__ import annotations

from pydantic import Field

from taxon.config.base import Config
from taxon.core.taxonomy import TaxonomyRule


class DecisionConfig(Config):
    """What the finished model says; the probabilities stay as they are.

    Attributes:
        taxonomy_rule: the class that an answer names: `most-probable`, or, for a taxonomy,
            `least-risk`: the one whose lowest common ancestor with the true class has the least
            expected height (Karthik et al. 2021).
        taxonomy_confidence: above 0, to 1: the path of a taxonomy's answer stops at the deepest
            node with at least this probability.
    """

    taxonomy_rule: TaxonomyRule = "most-probable"
    taxonomy_confidence: float = Field(default=0.5, gt=0, le=1)
