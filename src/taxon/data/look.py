"""A look into a picture: everything that checks, splits and the near-duplicate search need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.core.fingerprint import sha256_bytes
from taxon.data.duplicates.perceptual import hash_of_thumbnail, thumbnail
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.decode import decode_details

# Raised when a look computes anything else than before: cached looks of older versions are void.
LOOK_VERSION = 3
_SMALL = 64
_SHARPNESS_SIDE = 512
_BORDER = 2  # pixels of the small picture

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look into a picture's file found.

    Attributes:
        sha256: of the file's content.
        file_size: in bytes.
        format: Pillow's name of the file format.
        mode: Pillow's name of the pixels' kind as stored.
        width, height: in pixels, upright.
        camera: maker and model from EXIF, or None.
        truncated: the file ends early, and what was missing was filled.
        brightness: mean luma, 0 to 1.
        contrast: standard deviation of luma, 0 to 0.5.
        sharpness: variance of the Laplacian of luma (0 to 255), the picture reduced to at most
            512 pixels (Pech-Pacheco et al. 2000); low for blurred pictures.
        mean_colour, border_colour: mean RGB of the picture and of its outermost 3 %, 0 to 1.
        hash: perceptual hash, 64 bits.
        thumbnail: 16x16 grey, by which equal hashes are verified.
    """

    sha256: str
    file_size: int
    format: str
    mode: str
    width: int
    height: int
    camera: str | None
    truncated: bool
    brightness: float
    contrast: float
    sharpness: float
    mean_colour: Colour
    border_colour: Colour
    hash: int
    thumbnail: bytes


def look_into(data: bytes, spec: Preprocessing, source: str) -> Look:
    """Decode a picture and measure it.

    Raises:
        ImageError: it cannot be decoded.
    """
    # Never a picture that the JPEG decoder shrank: sizes and hashes are those of the whole.
    whole = spec.model_copy(update={"jpeg_dct_scaling": False})
    decoded = decode_details(data, whole, source)
    image = decoded.image
    small = np.asarray(image.resize((_SMALL, _SMALL), Image.Resampling.BOX), np.float32) / 255
    luma = small @ np.array([0.299, 0.587, 0.114], np.float32)
    grey = thumbnail(image)
    inside = slice(_BORDER, -_BORDER)
    edge = np.ones((_SMALL, _SMALL), bool)
    edge[inside, inside] = False
    return Look(
        sha256=sha256_bytes(data),
        file_size=len(data),
        format=decoded.format,
        mode=decoded.mode,
        width=image.width,
        height=image.height,
        camera=decoded.camera,
        truncated=decoded.truncated,
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        sharpness=_sharpness(image),
        mean_colour=_colour(small.reshape(-1, 3)),
        border_colour=_colour(small[edge]),
        hash=hash_of_thumbnail(grey),
        thumbnail=grey,
    )


def _colour(pixels: npt.NDArray[np.floating[Any]]) -> Colour:
    red, green, blue = (float(value) for value in pixels.mean(axis=0))
    return red, green, blue


def _sharpness(image: Image.Image) -> float:
    factor = max(1, -(-max(image.size) // _SHARPNESS_SIDE))
    grey = (image.reduce(factor) if factor > 1 else image).convert("L")
    levels = np.asarray(grey, np.int16)
    if min(levels.shape) < 3:
        return 0.0
    laplacian = (
        levels[:-2, 1:-1]
        + levels[2:, 1:-1]
        + levels[1:-1, :-2]
        + levels[1:-1, 2:]
        - 4 * levels[1:-1, 1:-1]
    )
    return float(laplacian.var())
