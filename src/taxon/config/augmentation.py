"""Configuration of augmentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from taxon.config.base import Config


class AugmentConfig(Config):
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
