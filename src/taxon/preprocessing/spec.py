"""The preprocessing spec: everything that happens to a picture, as one frozen value."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from taxon.core.fingerprint import sha256_json

ResizeMode = Literal["crop", "squash", "pad"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]


class Preprocessing(BaseModel):
    """From the bytes of a picture to the model's input, from training to the phone.

    Attributes:
        height, width: size of the model's input in pixels.
        resize: `crop` (short side, then centre crop), `squash` (the whole picture to the
            input size) or `pad` (the whole picture, its shape kept, on a border).
        crop_fraction: the share of the shorter side that a centre crop keeps, 0 to 1.
        interpolation: Pillow's filter; always with antialiasing.
        jpeg_dct_scaling: let the JPEG decoder halve large pictures while decoding (faster,
            pixels differ by a few levels).
        max_pixels: larger pictures are refused before they are decoded.
        truncated: `refuse` a file that ends early, or `fill` what is missing with grey (JPEG).
        exif_orientation: turn the picture as its EXIF orientation says.
        background: grey level, 0 to 255, behind transparent pixels and in the border of `pad`.
        mean, std: normalisation of RGB in 0 to 1, done inside the graph.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    height: int = Field(default=224, ge=8, le=4096)
    width: int = Field(default=224, ge=8, le=4096)
    resize: ResizeMode = "crop"
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    interpolation: Interpolation = "bicubic"
    jpeg_dct_scaling: bool = False
    max_pixels: int = Field(default=89_478_485, ge=1)
    truncated: Literal["refuse", "fill"] = "refuse"
    exif_orientation: bool = True
    background: int = Field(default=255, ge=0, le=255)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the spec: equal specs, equal fingerprints."""
        return sha256_json(self.model_dump(mode="json"))
