"""The training configuration: every choice by name, with its allowed range."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from taxon.config.augmentation import AugmentConfig
from taxon.config.base import Config
from taxon.config.decision import DecisionConfig
from taxon.config.distillation import DistillationConfig
from taxon.config.imbalance import ImbalanceConfig
from taxon.config.losses import LossConfig
from taxon.config.pictures import LoaderConfig, PreprocessingConfig, SplitConfig
from taxon.config.stages import FeatureCacheConfig, OptimiserConfig, StageConfig
from taxon.config.tracking import TrackerName, TrackingConfig
from taxon.core.errors import ConfigError
from taxon.core.limits import SEEDS

HeadKind = Literal["mlp", "linear", "standardised"]
Pooling = Literal["last", "blocks", "all"]


class TrainConfig(Config):
    """Everything that shapes a training run; kept whole in the bundle.

    Attributes:
        recipe: the recipe that it started from.
        model: a name of `taxon models`, any timm name, or `hf:user/name[@revision]`; null takes the
            default for the device.
        weights: `hub`, `none`, or a file in the own names of the backbone's library.
        head: `mlp` (Linear 512, GELU, Dropout 0.3, Linear), `linear`, or `standardised` (a linear
            layer on features of mean 0 and deviation 1, as a logistic stage sets it).
        pooling: the features that the head gets: `last`, the backbone's own, or `blocks`,
            statistics of each block's output, for textures and marks, or `all`: both; `auto`
            compares them on the training part.
        stages: run in order.
        batch_size: pictures a step, of all processes together; at least 2 are taken where there
            are two.
        accumulation: parts in which a step's pictures go through the model one after the other,
            for batches that do not fit into memory at once.
        precision: of the arithmetic: `float32`, `bf16`, `fp16` (on a GPU), or `auto`: bf16 on
            GPUs that have it.
        compile: run the model through `torch.compile`.
        deterministic: on a GPU too, take only operations that repeat bit by bit; slower.
        seed: of the split, the initialisation, the order and the augmentation.
        device: `auto`, `cpu`, `cuda` or `mps`.
        trackers: where the run can be watched: `tensorboard`, `mlflow`, both or none.
    """

    recipe: str
    model: str | None = None
    weights: str = "hub"
    head: HeadKind = "mlp"
    pooling: Pooling | Literal["auto"] = "last"
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    batch_size: int = Field(default=32, ge=1, le=65_536)
    accumulation: int = Field(default=1, ge=1, le=65_536)
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig = DistillationConfig()
    decision: DecisionConfig = DecisionConfig()
    feature_cache: FeatureCacheConfig = FeatureCacheConfig()
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    compile: bool = False
    deterministic: bool = False
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    augment: AugmentConfig = AugmentConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    loader: LoaderConfig = LoaderConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    trackers: tuple[TrackerName, ...] = ()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        trials = [stage.trial for stage in self.stages]
        if all(trials) or trials != sorted(trials):
            raise ValueError("stages on trial come last, after one that is not")
        solved = [stage.name for stage in self.stages if stage.method == "logistic"]
        if solved and self.head != "standardised":
            raise ValueError(
                f"the logistic stage '{solved[0]}' solves for a head=standardised; this head is "
                f"'{self.head}' (recipes staged and scratch have no such stage)"
            )
        return self

    @property
    def chosen_pooling(self) -> Pooling:
        """The pooling, once it is chosen.

        Raises:
            ConfigError: it is still `auto`.
        """
        if self.pooling == "auto":
            raise ConfigError("pooling=auto is chosen by `train`; name one: last, blocks or all")
        return self.pooling

    @property
    def total_epochs(self) -> int:
        """Epochs over all stages."""
        return sum(stage.epochs for stage in self.stages)

    def with_total_epochs(self, total: int) -> TrainConfig:
        """Scale the stages to `total` epochs, in their proportions, by largest remainder.

        Stages that are solved for and not stepped through keep their one epoch.
        """
        stepped = [stage.epochs * (stage.method == "gradient") for stage in self.stages]
        left = max(0, total - (self.total_epochs - sum(stepped)))
        epochs = _in_proportion(stepped, left)
        stages = tuple(
            stage
            if stage.method == "logistic"
            else stage.model_copy(
                update={
                    "epochs": count,
                    "warmup_epochs": stage.warmup_epochs * count / max(1, stage.epochs),
                }
            )
            for stage, count in zip(self.stages, epochs, strict=True)
        )
        return self.model_copy(update={"stages": stages})


def _in_proportion(parts: list[int], total: int) -> list[int]:
    """`total` divided as `parts` are, in whole numbers, by largest remainder."""
    if not sum(parts):
        return parts
    exact = [part * total / sum(parts) for part in parts]
    whole = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])
    for position in by_remainder[: total - sum(whole)]:
        whole[position] += 1
    return whole
