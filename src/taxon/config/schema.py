"""The training configuration: every choice by name, with its allowed range."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from taxon.core.errors import nearest
from taxon.core.limits import LARGEST_PICTURE, SEEDS

ImbalanceStrategy = Literal[
    "auto",
    "none",
    "weighted-sampler",
    "focal",
    "class-weights",
    "oversample",
    "balanced-softmax",
    "logit-adjust",
]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageConfig(_Config):
    """One stage of training.

    Attributes:
        name: how logs call it.
        epochs: passes over the training part.
        unfrozen_blocks: how many of the backbone's last blocks train: 0 (only the head), a
            number, or `all`.
        learning_rate: at the start of the stage, after warm-up.
        schedule: `constant`, or `cosine` down to zero over the stage.
        warmup_epochs: linear rise of the learning rate from zero.
    """

    name: str
    epochs: int = Field(ge=0, le=10_000)
    unfrozen_blocks: int | Literal["all"]
    learning_rate: float = Field(gt=0, le=10)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.unfrozen_blocks, int) and self.unfrozen_blocks < 0:
            raise ValueError("unfrozen_blocks must be 0, a positive number or 'all'")
        return self


class AugmentConfig(_Config):
    """Random changes to training pictures.

    Attributes:
        crop_scale: smallest share of the picture's area that a random crop keeps (1: none).
        crop_ratio: largest stretch of a crop's shape, as a factor (1: none).
        horizontal_flip, vertical_flip: probability of a mirror image, 0 to 1. Switch off where
            left and right mean something (text, laterality).
        colour: strength of random brightness, contrast and saturation, 0 to 1.
        policy: `none`, `trivial` (TrivialAugment, Mueller and Hutter 2021) or `rand`
            (RandAugment, Cubuk et al. 2020), after crop and flips.
        operations, magnitude: of RandAugment: changes a picture, and their strength, 0 to 10.
        erasing: probability that a random box is erased (Zhong et al. 2020), 0 to 1.
        mixup, cutmix: alpha of the Beta distribution by which pairs of pictures are blended
            (Zhang et al. 2018) or patched (Yun et al. 2019); 0 is off. With both on, each step
            takes one of them by chance.
    """

    crop_scale: float = Field(default=0.35, gt=0, le=1)
    crop_ratio: float = Field(default=1.333, ge=1, le=4)
    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    vertical_flip: float = Field(default=0.0, ge=0, le=1)
    colour: float = Field(default=0.2, ge=0, le=1)
    policy: Literal["none", "trivial", "rand"] = "none"
    operations: int = Field(default=2, ge=1, le=8)
    magnitude: float = Field(default=9.0, ge=0, le=10)
    erasing: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, le=10)
    cutmix: float = Field(default=0.0, ge=0, le=10)


class ImbalanceConfig(_Config):
    """What is done about rare classes; see `taxon.data.imbalance` for what goes together.

    Attributes:
        strategy: `auto` looks at the class counts; the others by name. Several are given as a
            list, say [focal, class-weights]; those that would compensate twice are refused.
        sampler_power: of `weighted-sampler`: a class is drawn in proportion to
            count ** (1 - power); 1 shows all classes equally often, 0 changes nothing. A picture
            with several labels counts by its rarest one.
        focal_gamma: of `focal`; 0 is cross-entropy.
        weight_power: of `class-weights`: weights in proportion to count ** -power; for several
            labels (negatives / positives) ** power, held between 0.1 and 10.
        effective_number_beta: of `class-weights`: above 0, weights by the effective number of
            pictures (1 - beta ** count) / (1 - beta) instead (Cui et al. 2019), say 0.999.
        oversample_share: of `oversample`: rare classes are repeated, each time augmented more
            strongly, up to this share of the largest class.
        oversample_pipeline: of `oversample`: an albumentations pipeline, as a file (`A.to_dict`
            as YAML or JSON) or as its content, which is what the bundle keeps; null takes the
            built-in augmentation.
        tau: of `balanced-softmax` and `logit-adjust`: strength of the adjustment by class
            frequency; 1 balances fully.
    """

    strategy: tuple[ImbalanceStrategy, ...] = Field(default=("auto",), min_length=1)
    sampler_power: float = Field(default=1.0, ge=0, le=1)
    focal_gamma: float = Field(default=2.0, ge=0, le=10)
    weight_power: float = Field(default=1.0, ge=0, le=1)
    effective_number_beta: float = Field(default=0.0, ge=0, lt=1)
    oversample_share: float = Field(default=1.0, gt=0, le=1)
    oversample_pipeline: str | dict[str, Any] | None = None
    tau: float = Field(default=1.0, ge=0, le=4)

    @field_validator("strategy", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """`focal,class-weights` as on the command line, or one name, as a list."""
        if isinstance(value, str):
            value = tuple(name.strip() for name in value.split(",") if name.strip())
        known = get_args(ImbalanceStrategy)
        for name in (value or ("",)) if isinstance(value, tuple | list) else ():
            if name not in known:
                hint = nearest(str(name), known)
                raise ValueError(f"unknown strategy '{name}'; allowed: {', '.join(known)}.{hint}")
        return value


class LoaderConfig(_Config):
    """How training pictures are kept between epochs.

    Attributes:
        cache: where decoded pictures are kept, reduced to just above the size that training
            needs: `ram`, `disk`, `none`, or `auto` (memory if they fit, else disk). Loading
            processes, which a GPU has, share no memory: with them `ram` is the disk too.
        cache_gigabytes: the limit; null takes a quarter of the free memory, or of the free disk.
            Runs that train at the same time hold to it each for itself.
    """

    cache: Literal["auto", "none", "ram", "disk"] = "auto"
    cache_gigabytes: float | None = Field(default=None, gt=0)


class SplitConfig(_Config):
    """Shares of the parts, where the data come without a split of their own.

    Attributes:
        near_duplicates: keep pictures that look the same in one part.
        validation: share that picks the best epoch; 0 keeps the last epoch.
        test: share that only `evaluate` touches; 0 when the test lives elsewhere.
    """

    validation: float = Field(default=0.15, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)
    near_duplicates: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation + self.test > 0.9:
            raise ValueError("validation and test together may take at most 0.9 of the data")
        return self


class PreprocessingConfig(_Config):
    """What to change in the preprocessing that the weights come with; null leaves it as it is.

    Attributes:
        size: side of the square input in pixels.
        resize: `crop`, `squash` or `pad`; `auto` compares them on the training part.
        crop_fraction: share of the shorter side that a centre crop keeps.
        interpolation: `bilinear`, `bicubic` or `lanczos`.
        jpeg_dct_scaling: let the JPEG decoder shrink large pictures while it decodes; null
            does where most pictures are several times larger than the input.
        truncated: `refuse` files that end early, or `fill` what is missing with grey (JPEG).
        max_pixels: larger pictures are refused, as decompression bombs; at most 178,956,970,
            where Pillow refuses by itself.
    """

    size: int | None = Field(default=None, ge=8, le=4096)
    resize: Literal["auto", "crop", "squash", "pad"] = "auto"
    crop_fraction: float | None = Field(default=None, gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic", "lanczos"] | None = None
    jpeg_dct_scaling: bool | None = None
    truncated: Literal["refuse", "fill"] | None = None
    max_pixels: int | None = Field(default=None, ge=1, le=LARGEST_PICTURE)


class TrainConfig(_Config):
    """Everything that shapes a training run; kept whole in the bundle.

    Attributes:
        recipe: the recipe that it started from.
        model: a charter name or any timm name; null takes the default for the device.
        weights: `hub`, `none`, or a file in timm's names.
        head: `mlp` (Linear 512, GELU, Dropout 0.3, Linear) or `linear`.
        stages: run in order.
        batch_size: pictures a step; at least 2 are taken where there are two.
        weight_decay: AdamW's, on weight matrices only.
        label_smoothing: 0 to 1, for multi-class.
        gradient_clip: largest norm of the gradient; null does not clip.
        seed: of the split, the initialisation, the order and the augmentation.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """

    recipe: str
    model: str | None = None
    weights: str = "hub"
    head: Literal["mlp", "linear"] = "mlp"
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    batch_size: int = Field(default=32, ge=1, le=65_536)
    weight_decay: float = Field(default=0.05, ge=0, le=10)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    augment: AugmentConfig = AugmentConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    loader: LoaderConfig = LoaderConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()

    @property
    def total_epochs(self) -> int:
        """Epochs over all stages."""
        return sum(stage.epochs for stage in self.stages)

    def with_total_epochs(self, total: int) -> TrainConfig:
        """Scale the stages to `total` epochs, in their proportions, by largest remainder."""
        exact = [stage.epochs * total / self.total_epochs for stage in self.stages]
        epochs = [int(value) for value in exact]
        by_remainder = sorted(range(len(exact)), key=lambda i: epochs[i] - exact[i])
        for position in by_remainder[: total - sum(epochs)]:
            epochs[position] += 1
        stages = tuple(
            stage.model_copy(
                update={
                    "epochs": count,
                    "warmup_epochs": stage.warmup_epochs * count / max(1, stage.epochs),
                }
            )
            for stage, count in zip(self.stages, epochs, strict=True)
        )
        return self.model_copy(update={"stages": stages})
