"""Configuration of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from taxon.config.base import Config
from taxon.config.imbalance import ImbalanceStrategy
from taxon.core.errors import ConfigError
from taxon.core.labels import Task

TaxonomyLossName = Literal["flat", "hierarchical", "levels"]


class LossConfig(Config):
    """What is minimised.

    Attributes:
        label_smoothing: 0 to 1, for multi-class (Szegedy et al. 2016).
        multilabel: `binary` (cross-entropy of each yes and no) or `asymmetric` (Ridnik et al.
            2021), which lets easy negatives count less than positives.
        gamma_positive, gamma_negative: of `asymmetric`: how much less a positive and a negative
            count the easier they are; 0 is cross-entropy.
        clip: of `asymmetric`: negatives up to this probability count nothing at all.
        taxonomy: of classes that nest. `flat` looks at the classes alone; `hierarchical` is the
            hierarchical cross-entropy of Bertinetto et al. 2020; `levels` sums the cross-entropy
            of every level.
        taxonomy_alpha: of `hierarchical`: a step of the path at height h counts exp(-alpha * h).
            0 is plain cross-entropy; the higher, the less coarse steps count.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    multilabel: Literal["binary", "asymmetric"] = "binary"
    gamma_positive: float = Field(default=0.0, ge=0, le=10)
    gamma_negative: float = Field(default=4.0, ge=0, le=10)
    clip: float = Field(default=0.05, ge=0, lt=1)
    taxonomy: TaxonomyLossName = "flat"
    taxonomy_alpha: float = Field(default=0.1, ge=0, le=10)

    @model_validator(mode="after")
    def _check(self) -> Self:
        fields = type(self).model_fields
        idle = [name for name in _OF_ASYMMETRIC if getattr(self, name) != fields[name].default]
        if idle and self.multilabel != "asymmetric":
            raise ValueError(
                f"'{idle[0]}' belongs to the asymmetric loss; add loss.multilabel=asymmetric or "
                "leave it out"
            )
        return self


_OF_ASYMMETRIC = ("gamma_positive", "gamma_negative", "clip")


def require_loss_fits(
    loss: LossConfig,
    task: Task,
    strategies: Sequence[ImbalanceStrategy],
    *,
    of_recipe: LossConfig | None = None,
) -> None:
    """Refuse a loss that does not fit the task, or does twice what an imbalance strategy does.

    Args:
        of_recipe: the recipe's own loss: a recipe serves both tasks, and what of it does not fit
            has no effect.

    Raises:
        ConfigError: label smoothing for several labels a picture; the asymmetric loss for one, or
            together with focal.
    """
    smoothing = loss.label_smoothing
    usual = of_recipe.label_smoothing if of_recipe is not None else 0.0
    if task == "multilabel" and smoothing not in (0.0, usual):
        raise ConfigError(
            f"loss.label_smoothing={smoothing:g} is for one class a picture; these have several "
            "tags each. Leave it out (loss.label_smoothing=0)"
        )
    if loss.multilabel == "asymmetric" and task == "multiclass":
        raise ConfigError(
            "loss.multilabel=asymmetric is for several tags a picture; these have one class each. "
            "Leave it out; for rare classes try --imbalance focal"
        )
    if loss.multilabel == "asymmetric" and "focal" in strategies:
        raise ConfigError(
            "the asymmetric loss lets easy pictures count less, and so does --imbalance focal: "
            "take one of the two (loss.gamma_positive and loss.gamma_negative set its strength)"
        )
