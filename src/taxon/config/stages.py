"""Configuration of the stages of training, their optimiser and what is not computed twice."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from taxon.config.base import Config


class StageConfig(Config):
    """One stage of training.

    Attributes:
        name: how logs call it.
        method: `gradient` steps, or `logistic`: the head is solved for on the features of the
            frozen backbone, as a logistic regression whose regularisation is chosen on
            validation (a linear head and no unfrozen blocks are needed; it counts as one epoch).
        epochs: passes over the training part.
        unfrozen_blocks: how many of the backbone's last blocks train: 0 (only the head), a
            number, or `all`.
        learning_rate: at the start of the stage, after warm-up.
        schedule: `constant`, or `cosine` down to zero over the stage.
        warmup_epochs: linear rise of the learning rate from zero.
        patience: the stage ends early after so many epochs without a better score on
            validation; null never does.
        mixing: whether the augmentation's mixup and cutmix are used in this stage.
        trial: the stage is left out, unless a short trial on the training part shows that
            training blocks pays.
    """

    name: str
    method: Literal["gradient", "logistic"] = "gradient"
    epochs: int = Field(default=1, ge=0, le=10_000)
    unfrozen_blocks: int | Literal["all"] = 0
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, le=10_000)
    patience: int | None = Field(default=None, ge=1, le=10_000)
    mixing: bool = True
    trial: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.unfrozen_blocks, int) and self.unfrozen_blocks < 0:
            raise ValueError("unfrozen_blocks must be 0, a positive number or 'all'")
        if self.method == "logistic" and (self.unfrozen_blocks != 0 or self.epochs > 1):
            raise ValueError("a logistic stage has unfrozen_blocks 0 and 1 epoch (or 0: left out)")
        if self.trial and self.unfrozen_blocks == 0:
            raise ValueError("trial=true is for stages in which blocks of the backbone train")
        return self


class OptimiserConfig(Config):
    """AdamW (Loshchilov and Hutter 2019) and what goes with it.

    Attributes:
        weight_decay: on matrices and kernels only, not on norms and biases.
        layer_decay: each block's learning rate as a factor of the next one's (Clark et al.
            2020); 1 is the same rate everywhere.
        gradient_clip: largest norm of the gradient; null does not clip.
        ema: decay of the moving average of the weights, which is what is validated and kept
            (Polyak and Juditsky 1992); 0 is off. It rises to this value over the first steps.
    """

    weight_decay: float = Field(default=0.05, ge=0, le=10)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)


class FeatureCacheConfig(Config):
    """What the frozen part of the backbone made of pictures is kept, and not computed again.

    Attributes:
        views: augmented views of each picture while blocks are frozen; epochs take turns among
            them. 0 makes new views each epoch, and keeps nothing.
        gigabytes: the most memory for it; what is larger goes to a file on disk. Null takes a
            quarter of the free memory.
    """

    views: int = Field(default=4, ge=0, le=1000)
    gigabytes: float | None = Field(default=None, ge=0)
