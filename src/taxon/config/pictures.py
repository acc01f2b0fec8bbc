"""Configuration of how pictures are divided, prepared and kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from taxon.config.base import Config
from taxon.core.limits import LARGEST_PICTURE


class LoaderConfig(Config):
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


class SplitConfig(Config):
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


class PreprocessingConfig(Config):
    """What to change in the preprocessing that the weights come with; null leaves it as it is.

    Attributes:
        size: side of the square input in pixels; `auto` compares the weights' own with a larger
            one on the training part.
        resize: `crop`, `squash` or `pad`; `auto` compares them on the training part.
        crop_fraction: share of the shorter side that a centre crop keeps.
        interpolation: `bilinear`, `bicubic` or `lanczos`.
        jpeg_dct_scaling: let the JPEG decoder shrink large pictures while it decodes; null
            does where most pictures are several times larger than the input.
        truncated: `refuse` files that end early, or `fill` what is missing with grey (JPEG).
        max_pixels: larger pictures are refused, as decompression bombs; at most 178,956,970,
            where Pillow refuses by itself.
    """

    size: Annotated[int, Field(ge=8, le=4096)] | Literal["auto"] | None = None
    resize: Literal["auto", "crop", "squash", "pad"] = "auto"
    crop_fraction: float | None = Field(default=None, gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic", "lanczos"] | None = None
    jpeg_dct_scaling: bool | None = None
    truncated: Literal["refuse", "fill"] | None = None
    max_pixels: int | None = Field(default=None, ge=1, le=LARGEST_PICTURE)
