"""Configuration of what is done about rare classes."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from taxon.config.base import Config
from taxon.core.errors import nearest

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


class ImbalanceConfig(Config):
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
