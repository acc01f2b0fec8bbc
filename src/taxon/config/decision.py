"""Configuration of the decision policy: how probabilities become an answer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from taxon.config.base import Config
from taxon.core.predictions import ScopeMethod, SetMethod
from taxon.core.taxonomy import TaxonomyRule

Target = Literal["f1", "recall", "precision"]


class DecisionConfig(Config):
    """What the finished model says, fitted on the calibration part alone.

    Attributes:
        calibrate: fit a temperature (one class a picture) or a scale and bias a tag, where that
            makes held-out probabilities better.
        target: what a threshold is chosen for: the highest `f1`, a `recall` of at least
            `target_value` with the best precision, or a `precision` of at least `target_value`
            with the best recall. For one class a picture, `f1` leaves the most probable class,
            and `recall` and `precision` need a `target_class`.
        target_value: above 0, below 1; for `recall` and `precision`.
        target_class: the class or tag that the target is for; None: every tag.
        threshold_support: a tag with fewer positive (or negative) examples in the calibration
            part takes the threshold that all tags share.
        costs: what mistakes cost. One class a picture: true class -> named class -> cost; what is
            not named costs 1, a right answer 0. Several tags: tag -> `missed` and `false` -> cost.
        abstain_risk: above 0, below 1: answers are marked unsure so that the share of mistakes
            among the others stays below this; None: no answer is.
        abstain_confidence: with this confidence, above 0, below 1.
        set_coverage: above 0, below 1: how often a prediction set holds the true class; None: no
            sets. One class a picture only.
        set_method: `lac`, the smallest sets (Sadinle et al. 2019), or `raps`, sets that grow with
            the difficulty of the picture (Angelopoulos et al. 2021).
        set_per_class: promise the coverage for every class and not only on the whole.
        out_of_scope: by what pictures of something else are found: `energy` of the logits (Liu et
            al. 2020), the `nearest` training picture in feature space (Sun et al. 2022), `both`
            together, `auto`, the one that tells left-out classes best from the others, or `none`.
        in_scope_share: above 0.5, below 1: of pictures like those of the calibration part this
            share is not flagged.
        taxonomy_rule: the class that an answer names: `most-probable`, or, for a taxonomy,
            `least-risk`: the one whose lowest common ancestor with the true class has the least
            expected height (Karthik et al. 2021).
        taxonomy_confidence: above 0, to 1: the path of a taxonomy's answer stops at the deepest
            node with at least this probability.
    """

    calibrate: bool = True
    target: Target = "f1"
    target_value: float | None = Field(default=None, gt=0, lt=1)
    target_class: str | None = None
    threshold_support: int = Field(default=10, ge=1)
    costs: dict[str, dict[str, float]] | None = None
    abstain_risk: float | None = Field(default=None, gt=0, lt=1)
    abstain_confidence: float = Field(default=0.95, gt=0, lt=1)
    set_coverage: float | None = Field(default=0.9, gt=0, lt=1)
    set_method: SetMethod = "lac"
    set_per_class: bool = False
    out_of_scope: ScopeMethod | Literal["auto", "none"] = "auto"
    in_scope_share: float = Field(default=0.98, gt=0.5, lt=1)
    taxonomy_rule: TaxonomyRule = "most-probable"
    taxonomy_confidence: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.target == "f1") != (self.target_value is None):
            raise ValueError(
                f"target={self.target} with target_value={self.target_value}: recall and "
                "precision need a value, f1 has none"
            )
        if self.target == "f1" and self.target_class is not None:
            raise ValueError("target_class goes with target=recall or target=precision")
        if self.costs is not None and self.target != "f1":
            raise ValueError(f"costs and target={self.target} contradict each other: name one")
        if self.target_class is not None and self.taxonomy_rule != "most-probable":
            raise ValueError("target_class and taxonomy_rule=least-risk contradict each other")
        if self.costs is not None and self.taxonomy_rule != "most-probable":
            raise ValueError("costs and taxonomy_rule=least-risk contradict each other: name one")
        return self
